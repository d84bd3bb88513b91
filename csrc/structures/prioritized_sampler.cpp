#include "structures/prioritized_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace atari_fast {
namespace {

constexpr size_t kChanges = 1024;  // of the tree, noted before they are applied
constexpr size_t kTries = 64;      // places that a uniform draw looks at

void check_share(const char* name, double value) {
  check_argument(value >= 0.0 && value <= 1.0, name, ": expected a number in [0, 1], got ", value);
}

}  // namespace

const SamplerOptions& checked_options(const SamplerOptions& o) {
  check_share("alpha", o.alpha);
  check_share("uniform_mix", o.uniform_mix);
  check_argument(std::isfinite(o.priority_epsilon) && o.priority_epsilon > 0.0,
                 "priority_epsilon: expected a finite number > 0, got ", o.priority_epsilon);
  // So that no weight, nor the sum of all, is ever refused by the tree.
  check_argument(o.priority_epsilon <= 1e250, "priority_epsilon: expected at most 1e250, got ",
                 o.priority_epsilon);
  return o;
}

PrioritizedSampler::PrioritizedSampler(const SamplerOptions& options, size_t places)
    : options_(checked_options(options)),
      tree_(places, options.buffer_max_weights),
      max_weight_(weight_of(1.0)),
      rng_(options.seed) {
  changed_.reserve(kChanges);
}

double PrioritizedSampler::weight_of(double priority) const {
  // Positive even where the power underflows: nothing ever loses its place in the draw.
  return std::max(std::pow(priority + options_.priority_epsilon, options_.alpha),
                  std::numeric_limits<double>::min());
}

void PrioritizedSampler::set(size_t place, double weight) {
  if (changed_.size() == kChanges) {
    apply();
  }
  count_ -= holds(place) ? 1 : 0;
  count_ += weight > 0.0 ? 1 : 0;
  tree_.set_leaf(place, weight);
  changed_.push_back(static_cast<int64_t>(place));
}

void PrioritizedSampler::apply() {
  tree_.refresh(changed_);
  changed_.clear();
}

void PrioritizedSampler::check_priorities(const char* caller, size_t ids,
                                          std::span<const float> priorities) const {
  check_argument(options_.prioritized, caller,
                 ": this replay is uniform; build it with prioritized=True");
  check_argument(ids == priorities.size(), "priorities: expected one for each of the ", ids,
                 " ids, got ", priorities.size());
  for (size_t i = 0; i < ids; ++i) {
    check_argument(std::isfinite(priorities[i]) && priorities[i] >= 0.0f, "priorities[", i,
                   "]: expected a finite priority >= 0, got ", priorities[i]);
  }
}

void PrioritizedSampler::set_priority(size_t place, float priority) {
  const double weight = weight_of(static_cast<double>(priority));
  set(place, weight);
  max_weight_ = std::max(max_weight_, weight);
}

// The probability that a place of this weight is drawn times the total weight, which unlike the
// probability cannot underflow to 0.
double PrioritizedSampler::density(double weight) const {
  const double mix = options_.uniform_mix;
  return (1.0 - mix) * weight + mix * (tree_.total() / static_cast<double>(count_));
}

// Places that cannot be drawn are drawn again, which leaves the others equally likely. Where those
// are so few that this goes on, one is drawn by its number instead.
size_t PrioritizedSampler::draw_uniform(Rng& rng) const {
  for (size_t k = 0; k < kTries; ++k) {
    const size_t place = rng.below(tree_.size());
    if (holds(place)) {
      return place;
    }
  }
  return tree_.nth_positive(rng.below(count_));
}

void PrioritizedSampler::draw_places(Rng& rng, std::span<int64_t> places) const {
  const auto size = static_cast<double>(places.size());
  const bool stratified = options_.prioritized && options_.stratified;
  std::vector<double> us;
  us.reserve(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    places[i] = -1;
    if (options_.uniform_mix > 0.0 && rng.uniform() < options_.uniform_mix) {
      places[i] = static_cast<int64_t>(draw_uniform(rng));
      continue;
    }
    const double lower = stratified ? static_cast<double>(i) / size : 0.0;
    const double upper = stratified ? static_cast<double>(i + 1) / size : 1.0;
    us.push_back((lower + rng.uniform() * (upper - lower)) * tree_.total());
  }
  std::vector<int64_t> leaves(us.size());
  tree_.find(us, leaves);
  auto leaf = leaves.begin();
  for (int64_t& place : places) {
    place = place < 0 ? *leaf++ : place;
  }
}

// The weights are ratios of densities, which no beta can overflow; in float32, so to within about
// beta * 1e-7 of the exact ones.
Rng PrioritizedSampler::draw(double beta, std::span<int64_t> places,
                             std::span<float> weights) const {
  Rng rng = rng_;
  draw_places(rng, places);
  std::vector<double> densities(places.size());
  std::transform(places.begin(), places.end(), densities.begin(),
                 [this](int64_t place) { return density(tree_.get(static_cast<size_t>(place))); });
  const double rarest = options_.buffer_max_weights
                            ? density(tree_.min_positive())
                            : *std::min_element(densities.begin(), densities.end());
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = std::pow(static_cast<float>(rarest / densities[i]), static_cast<float>(beta));
  }
  return rng;
}

void PrioritizedSampler::save_state(SnapshotWriter& writer) const {
  writer.value(max_weight_);
  writer.value(rng_.key());
  writer.value(rng_.counter());
}

void PrioritizedSampler::load_state(SnapshotReader& reader) {
  max_weight_ = reader.value<double>();
  const auto key = reader.value<uint64_t>();
  rng_.set_state(key, reader.value<uint64_t>());
  reader.check(max_weight_ > 0.0 && max_weight_ <= largest_weight(), "its largest weight is none");
}

void PrioritizedSampler::load_weights(SnapshotReader& reader) {
  std::vector<double> weights(tree_.size());
  reader.array<double>(weights);
  for (const double weight : weights) {
    reader.check(weight >= 0.0 && weight <= largest_weight(), "a weight is none");
    count_ += weight > 0.0 ? 1 : 0;
  }
  std::vector<int64_t> all(weights.size());
  std::iota(all.begin(), all.end(), 0);
  tree_.set(all, weights);
}

// The largest that is read from a file: the sum of as many is finite.
double PrioritizedSampler::largest_weight() const {
  return std::numeric_limits<double>::max() / static_cast<double>(2 * tree_.size());
}

}  // namespace atari_fast
