#include "replay/episodic_memory.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/half.h"

namespace atari_fast {
namespace {

constexpr size_t kMaxNeighbours = 4096;

EmbeddingRingOptions ring_options(const EpisodicMemoryOptions& o) {
  return {o.capacity, o.dim, o.float16};
}

void check_positive(double value, const char* name) {
  check_argument(std::isfinite(value) && value > 0.0, name, ": expected a finite number > 0, got ",
                 value);
}

const EpisodicMemoryOptions& checked(const EpisodicMemoryOptions& o) {
  EpisodicMemory::memory_bytes(o);
  check_argument(o.neighbours >= 1 && o.neighbours <= kMaxNeighbours,
                 "neighbours: expected a number from 1 to ", kMaxNeighbours, ", got ",
                 o.neighbours);
  check_positive(o.kernel_epsilon, "kernel_epsilon");
  check_argument(std::isfinite(o.cluster_distance) && o.cluster_distance >= 0.0,
                 "cluster_distance: expected a finite number >= 0, got ", o.cluster_distance);
  check_positive(o.pseudo_count, "pseudo_count");
  check_positive(o.max_similarity, "max_similarity");
  check_argument(o.short_memory <= ShortMemory::kScale, "short_memory: expected kUse, kZero or ",
                 "kScale, got ", static_cast<int>(o.short_memory));
  check_argument(o.mean_rate >= 0.0 && o.mean_rate <= 1.0,
                 "mean_rate: expected a number in [0, 1], got ", o.mean_rate);
  return o;
}

}  // namespace

double episodic_reward(std::span<const double> distances, double mean,
                       const EpisodicMemoryOptions& o) {
  double sum = 0.0;
  for (const double distance : distances) {
    const double ratio = mean > 0.0 ? distance / mean : 0.0;
    sum += o.kernel_epsilon / (std::max(ratio - o.cluster_distance, 0.0) + o.kernel_epsilon);
  }
  if (distances.size() < o.neighbours) {
    if (o.short_memory == ShortMemory::kZero) {
      return 0.0;
    }
    if (o.short_memory == ShortMemory::kScale) {
      sum *= static_cast<double>(o.neighbours) / static_cast<double>(distances.size());
    }
  }
  const double similarity = std::sqrt(sum) + o.pseudo_count;
  return similarity > o.max_similarity ? 0.0 : 1.0 / similarity;
}

size_t EpisodicMemory::memory_bytes(const EpisodicMemoryOptions& o) {
  const size_t lane = EmbeddingRing::memory_bytes(ring_options(o));
  const size_t most = (size_t{1} << 48) / lane;
  check_argument(o.lanes >= 1 && o.lanes <= most, "lanes: expected a number from 1 to ", most,
                 " for memories of ", lane, " bytes, got ", o.lanes);
  return o.lanes * lane;
}

EpisodicMemory::EpisodicMemory(const EpisodicMemoryOptions& options)
    : options_(checked(options)),
      lanes_(empty_lanes()),
      scratch_(options.threads,
               Scratch{std::vector<float>(options.dim), std::vector<double>(options.neighbours),
                       Search(options.neighbours)}),
      pool_(options.threads) {}

std::vector<EpisodicMemory::Lane> EpisodicMemory::empty_lanes() const {
  std::vector<Lane> lanes;
  lanes.reserve(options_.lanes);
  for (size_t lane = 0; lane < options_.lanes; ++lane) {
    lanes.push_back({EmbeddingRing(ring_options(options_)), {}});
  }
  return lanes;
}

void EpisodicMemory::check_lanes(std::span<const int64_t> lanes) const {
  for (size_t i = 0; i < lanes.size(); ++i) {
    check_argument(lanes[i] >= 0 && static_cast<size_t>(lanes[i]) < options_.lanes, "lanes[", i,
                   "]: expected 0 <= lane < ", options_.lanes, ", got ", lanes[i]);
  }
}

float EpisodicMemory::max_number() const { return options_.float16 ? kMaxHalf : kMaxNumber; }

void EpisodicMemory::check_embedding(int64_t lane, std::span<const float> embedding) const {
  const float most = max_number();
  for (size_t d = 0; d < embedding.size(); ++d) {
    if (!(std::abs(embedding[d]) <= most)) [[unlikely]] {
      throw std::invalid_argument(str_cat("embeddings: expected finite numbers of at most ", most,
                                          " in size, got ", embedding[d], " in lane ", lane,
                                          ", dimension ", d));
    }
  }
}

void EpisodicMemory::check_rows(std::span<const float> embeddings,
                                std::span<const int64_t> lanes) const {
  const size_t dim = options_.dim;
  check_argument(embeddings.size() == options_.lanes * dim, "embeddings: expected float32[",
                 options_.lanes, ", ", dim, "], ", options_.lanes * dim, " numbers, got ",
                 embeddings.size());
  check_lanes(lanes);
  std::vector<bool> named(options_.lanes);
  for (size_t i = 0; i < lanes.size(); ++i) {
    const auto lane = static_cast<size_t>(lanes[i]);
    check_argument(!named[lane], "lanes[", i, "]: expected each lane once, got ", lane, " again");
    named[lane] = true;
    check_embedding(lanes[i], embeddings.subspan(lane * dim, dim));
  }
}

void EpisodicMemory::novelty(std::span<const float> embeddings, std::span<const int64_t> lanes,
                             std::span<float> rewards) {
  check_argument(rewards.size() == lanes.size(), "rewards: expected memory for the ", lanes.size(),
                 " lanes, got ", rewards.size());
  check_rows(embeddings, lanes);
  const std::lock_guard lock(mutex_);
  pool_.run(lanes.size(), [&](size_t part, size_t begin, size_t end) {
    Scratch& scratch = scratch_[part];
    for (size_t i = begin; i < end; ++i) {
      const auto lane = static_cast<size_t>(lanes[i]);
      const float* row = embeddings.data() + lane * options_.dim;
      std::transform(row, row + options_.dim, scratch.query.begin(),
                     [this](float x) { return options_.float16 ? from_half(to_half(x)) : x; });
      rewards[i] = static_cast<float>(reward_of(lanes_[lane], scratch));
      lanes_[lane].rows.append(scratch.query);
    }
  });
}

void EpisodicMemory::append(std::span<const float> embeddings, std::span<const int64_t> lanes) {
  check_rows(embeddings, lanes);
  const std::lock_guard lock(mutex_);
  for (const int64_t lane : lanes) {
    const auto l = static_cast<size_t>(lane);
    lanes_[l].rows.append(embeddings.subspan(l * options_.dim, options_.dim));
  }
}

// The reward of scratch.query, which is not in the lane's memory yet.
double EpisodicMemory::reward_of(Lane& lane, Scratch& scratch) const {
  lane.rows.find(scratch.query, scratch.search);
  const std::span<const Neighbour> found = scratch.search.nearest.found();
  if (found.empty()) {
    return 0.0;
  }
  double sum = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    scratch.distances[i] = static_cast<double>(found[i].distance);
    sum += scratch.distances[i];
  }
  update(lane.mean, sum / static_cast<double>(found.size()));
  return episodic_reward({scratch.distances.data(), found.size()}, lane.mean.mean, options_);
}

bool RunningMean::is_valid() const {
  constexpr int64_t kMaxUpdates = int64_t{1} << 62;
  return std::isfinite(mean) && mean >= 0.0 && updates >= 0 && updates <= kMaxUpdates &&
         (updates > 0 || mean == 0.0);
}

void EpisodicMemory::update(RunningMean& mean, double value) const {
  ++mean.updates;
  const bool plain =
      mean.updates == 1 || static_cast<uint64_t>(mean.updates) <= options_.mean_updates;
  const double rate = plain ? 1.0 / static_cast<double>(mean.updates) : options_.mean_rate;
  mean.mean += rate * (value - mean.mean);
}

void EpisodicMemory::reset(std::span<const int64_t> lanes) {
  check_lanes(lanes);
  const std::lock_guard lock(mutex_);
  for (const int64_t lane : lanes) {
    lanes_[static_cast<size_t>(lane)].rows.clear();
  }
}

std::vector<size_t> EpisodicMemory::sizes() const {
  const std::lock_guard lock(mutex_);
  std::vector<size_t> sizes;
  for (const Lane& lane : lanes_) {
    sizes.push_back(lane.rows.size());
  }
  return sizes;
}

std::vector<RunningMean> EpisodicMemory::running_means() const {
  const std::lock_guard lock(mutex_);
  std::vector<RunningMean> means;
  for (const Lane& lane : lanes_) {
    means.push_back(lane.mean);
  }
  return means;
}

void EpisodicMemory::set_running_means(std::span<const RunningMean> means) {
  check_argument(means.size() == options_.lanes, "means: expected one for each of the ",
                 options_.lanes, " lanes, got ", means.size());
  for (size_t lane = 0; lane < means.size(); ++lane) {
    check_argument(means[lane].is_valid(), "means[", lane,
                   "]: expected a finite mean >= 0 with updates >= 0, and 0 without updates, got ",
                   means[lane].mean, " with ", means[lane].updates, " updates");
  }
  const std::lock_guard lock(mutex_);
  for (size_t lane = 0; lane < means.size(); ++lane) {
    lanes_[lane].mean = means[lane];
  }
}

size_t EpisodicMemory::bytes_used() const {
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const Lane& lane : lanes_) {
    bytes += lane.rows.bytes_used();
  }
  return bytes;
}

}  // namespace atari_fast
