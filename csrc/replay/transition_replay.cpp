#include "replay/transition_replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "replay/importance.h"

namespace atari_fast {
namespace {

constexpr size_t kChanges = 1024;  // of the tree, noted before they are applied
constexpr size_t kTries = 64;      // places that a uniform draw looks at

// Keeps every product of sizes far from wrapping around.
void check_sizes(const TransitionReplayOptions& o) {
  check_argument(o.num_envs >= 1, "num_envs: expected at least 1, got ", o.num_envs);
  constexpr size_t kMaxBytes = size_t{1} << 48;
  check_argument(o.frame_bytes >= 1 && o.frame_bytes <= kMaxBytes,
                 "frame_bytes: expected a number from 1 to ", kMaxBytes, ", got ", o.frame_bytes);
  check_argument(o.capacity >= 1 && o.capacity <= kMaxBytes / o.frame_bytes,
                 "capacity: expected a number from 1 to ", kMaxBytes / o.frame_bytes,
                 " for frames of ", o.frame_bytes, " bytes, got ", o.capacity);
}

const TransitionReplayOptions& checked(const TransitionReplayOptions& o) {
  check_argument(o.stack >= 1, "stack: expected at least 1, got ", o.stack);
  check_argument(o.n_step >= 1, "n_step: expected at least 1, got ", o.n_step);
  check_sizes(o);
  check_argument(o.capacity / o.num_envs > o.stack && o.capacity / o.num_envs - o.stack > o.n_step,
                 "capacity: expected more than ", o.stack + o.n_step,
                 " rows (stack + n_step) for each of the ", o.num_envs, " environments, got ",
                 o.capacity, " in all");
  check_argument(o.gamma >= 0.0 && o.gamma <= 1.0, "gamma: expected a number in [0, 1], got ",
                 o.gamma);
  check_argument(std::isfinite(o.reward_clip) && o.reward_clip >= 0.0,
                 "reward_clip: expected a finite number >= 0, got ", o.reward_clip);
  check_argument(o.alpha >= 0.0 && o.alpha <= 1.0, "alpha: expected a number in [0, 1], got ",
                 o.alpha);
  check_argument(std::isfinite(o.priority_epsilon) && o.priority_epsilon > 0.0,
                 "priority_epsilon: expected a finite number > 0, got ", o.priority_epsilon);
  check_argument(o.uniform_mix >= 0.0 && o.uniform_mix <= 1.0,
                 "uniform_mix: expected a number in [0, 1], got ", o.uniform_mix);
  check_argument(o.threads >= 1 && o.threads <= 256,
                 "threads: expected a number from 1 to 256, got ", o.threads);
  // So that no weight, nor the sum of all, is ever refused by the tree.
  check_argument(o.priority_epsilon <= 1e250, "priority_epsilon: expected at most 1e250, got ",
                 o.priority_epsilon);
  return o;
}

FrameStoreOptions frame_options(const TransitionReplayOptions& o) {
  const FrameStoreOptions frames{o.num_envs, o.capacity / o.num_envs, o.frame_bytes, o.row_bytes,
                                 o.frame_memory};
  FrameStore::check_holds(frames, o.stack + o.n_step);
  return frames;
}

}  // namespace

TransitionReplay::TransitionReplay(const TransitionReplayOptions& options)
    : options_(checked(options)),
      rows_(options.capacity / options.num_envs),
      frames_(frame_options(options)),
      actions_(options.num_envs * rows_),
      rewards_(options.num_envs * rows_),
      flags_(options.num_envs * rows_),
      tree_(options.num_envs * rows_, options.buffer_max_weights),
      max_weight_(weight_of(1.0)),
      rng_(options.seed),
      threads_(options.threads) {
  changed_.reserve(kChanges);
  changes_.reserve(kChanges);
}

size_t TransitionReplay::memory_bytes(const TransitionReplayOptions& o) {
  check_sizes(o);
  const size_t row = sizeof(uint8_t) + sizeof(float) + sizeof(uint8_t);
  return FrameStore::memory_bytes(frame_options(o)) + o.capacity * row +
         SumTree::memory_bytes(o.capacity, o.buffer_max_weights);
}

size_t TransitionReplay::slot(size_t env, int64_t row) const {
  return env * rows_ + static_cast<size_t>(row) % rows_;
}

double TransitionReplay::weight_of(double priority) const {
  // Positive even where the power underflows: a start never loses its place in the draw.
  return std::max(std::pow(priority + options_.priority_epsilon, options_.alpha),
                  std::numeric_limits<double>::min());
}

Outcome TransitionReplay::outcome_at(size_t env, int64_t row) const {
  const uint8_t flags = flags_at(env, row);
  if ((flags & kTerminated) || (options_.zero_discount_on_life_loss && (flags & kLifeLost))) {
    return Outcome::kTerminate;
  }
  return (flags & kTruncated) ? Outcome::kTruncate : Outcome::kContinue;
}

// Notes a change of the tree, in memory that is there. A start whose weight is noted twice before
// `apply_changes` must stay one.
void TransitionReplay::set_start(size_t slot, double weight) {
  if (changed_.size() == kChanges) {
    apply_changes();
  }
  num_starts_ -= tree_.get(slot) > 0.0 ? 1 : 0;
  num_starts_ += weight > 0.0 ? 1 : 0;
  changed_.push_back(static_cast<int64_t>(slot));
  changes_.push_back(weight);
}

void TransitionReplay::apply_changes() {
  tree_.set(changed_, changes_);
  changed_.clear();
  changes_.clear();
}

void TransitionReplay::append(std::span<const uint8_t> frames, std::span<const int64_t> actions,
                              std::span<const float> rewards, std::span<const uint8_t> flags) {
  const size_t num_envs = options_.num_envs;
  check_argument(frames.size() == num_envs * options_.frame_bytes, "frames: expected ",
                 num_envs * options_.frame_bytes, " bytes, got ", frames.size());
  check_argument(
      actions.size() == num_envs && rewards.size() == num_envs && flags.size() == num_envs,
      "actions, rewards and flags: expected ", num_envs, " of each, got ", actions.size(), ", ",
      rewards.size(), " and ", flags.size());
  for (size_t env = 0; env < num_envs; ++env) {
    check_argument(actions[env] >= 0 && actions[env] <= 255, "actions[", env,
                   "]: expected 0 <= action <= 255, got ", actions[env]);
    check_argument(std::isfinite(rewards[env]), "rewards[", env,
                   "]: expected a finite reward, got ", rewards[env]);
  }
  const std::lock_guard lock(mutex_);
  frames_.reserve();  // from here on nothing throws: the environments stay in step
  for (size_t env = 0; env < num_envs; ++env) {
    const int64_t first = frames_.first_row(env);
    frames_.append(env, frames.data() + env * options_.frame_bytes);
    expire(env, first, frames_.first_row(env));
    const size_t at = slot(env, head_);
    actions_[at] = static_cast<uint8_t>(actions[env]);
    rewards_[at] = rewards[env];
    flags_[at] = flags[env];
    close_windows(env, head_);
  }
  apply_changes();
  ++head_;
}

// Rows [begin, end) cannot be read any more: the starts whose stacks reach back to them are no
// starts any more.
void TransitionReplay::expire(size_t env, int64_t begin, int64_t end) {
  if (begin == end) {
    return;
  }
  const int64_t reach = static_cast<int64_t>(options_.stack) - 1;
  const int64_t last = std::min(end + reach, head_);  // no row from here on is a start yet
  for (int64_t start = begin == 0 ? 0 : begin + reach; start < last; ++start) {
    set_start(slot(env, start), 0.0);
  }
}

// Row `row` has arrived: makes starts of the rows before it whose window it closes.
void TransitionReplay::close_windows(size_t env, int64_t row) {
  const bool stop = outcome_at(env, row) != Outcome::kContinue;
  const double weight = options_.prioritized ? max_weight_ : 1.0;
  const int64_t oldest = oldest_start(env);
  for (size_t k = 1; k <= options_.n_step; ++k) {
    const int64_t start = row - static_cast<int64_t>(k);
    if (start < oldest || (flags_at(env, start + 1) & kFirst)) {
      return;  // start + 1 begins an episode: nothing before it reaches `row`
    }
    const uint8_t flags = flags_at(env, start);
    if (flags & (kTerminated | kTruncated)) {
      return;
    }
    if (stop || k == options_.n_step) {
      set_start(slot(env, start), weight);
    }
    if (outcome_at(env, start) != Outcome::kContinue) {
      return;  // windows of earlier starts closed at this life loss
    }
  }
}

// The oldest row whose stack can still be read.
int64_t TransitionReplay::oldest_start(size_t env) const {
  const int64_t first = frames_.first_row(env);
  return first == 0 ? 0 : first + static_cast<int64_t>(options_.stack) - 1;
}

int64_t TransitionReplay::row_at(size_t slot) const {
  const int64_t rows = static_cast<int64_t>(rows_);
  const int64_t position = static_cast<int64_t>(slot % rows_);
  const int64_t newest = head_ - 1;
  return newest - (newest - position) % rows;
}

// The probability that a start of this weight is drawn times the total weight, which unlike the
// probability cannot underflow to 0.
double TransitionReplay::density(double weight) const {
  const double mix = options_.uniform_mix;
  return (1.0 - mix) * weight + mix * (tree_.total() / static_cast<double>(num_starts_));
}

// A uniform start: places that hold none are drawn again, which leaves the others equally likely.
// Where starts are so few that this goes on, one is drawn by its number instead.
size_t TransitionReplay::draw_uniform(Rng& rng) const {
  for (size_t k = 0; k < kTries; ++k) {
    const size_t place = rng.below(tree_.size());
    if (tree_.get(place) > 0.0) {
      return place;
    }
  }
  return tree_.nth_positive(rng.below(num_starts_));
}

void TransitionReplay::draw(Rng& rng, std::span<int64_t> slots) const {
  const auto size = static_cast<double>(slots.size());
  const bool stratified = options_.prioritized && options_.stratified;
  std::vector<double> us;
  std::vector<int64_t> leaves(slots.size());
  us.reserve(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i] = -1;
    if (options_.uniform_mix > 0.0 && rng.uniform() < options_.uniform_mix) {
      slots[i] = static_cast<int64_t>(draw_uniform(rng));
      continue;
    }
    const double lower = stratified ? static_cast<double>(i) / size : 0.0;
    const double upper = stratified ? static_cast<double>(i + 1) / size : 1.0;
    us.push_back((lower + rng.uniform() * (upper - lower)) * tree_.total());
  }
  leaves.resize(us.size());
  tree_.find(us, leaves);
  auto leaf = leaves.begin();
  for (int64_t& slot : slots) {
    slot = slot < 0 ? *leaf++ : slot;
  }
}

void TransitionReplay::check_batch(const TransitionBatch& batch) const {
  const size_t size = batch.actions.size();
  const size_t window = (options_.stack + options_.n_step) * options_.frame_bytes;
  check_argument(size >= 1, "batch: expected at least 1 transition, got 0");
  check_argument(batch.frames.size() == size * window && batch.rewards.size() == size &&
                     batch.discounts.size() == size && batch.steps.size() == size &&
                     batch.weights.size() == size && batch.ids.size() == size,
                 "batch: expected arrays for ", size, " transitions of ", window, " frame bytes");
}

void TransitionReplay::sample(double beta, const TransitionBatch& batch) {
  check_batch(batch);
  check_argument(std::isfinite(beta) && beta >= 0.0, "beta: expected a finite number >= 0, got ",
                 beta);
  const std::lock_guard lock(mutex_);
  check_argument(num_starts_ > 0, "sample: no transition is complete yet; append more rows first");
  std::vector<int64_t> slots(batch.ids.size());
  Rng rng = rng_;
  draw(rng, slots);
  write_weights(beta, slots, batch.weights);
  write_items(slots, batch);
  rng_ = rng;
}

void TransitionReplay::write_weights(double beta, std::span<const int64_t> slots,
                                     std::span<float> weights) const {
  std::vector<double> densities(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    densities[i] = density(tree_.get(static_cast<size_t>(slots[i])));
  }
  const double rarest = options_.buffer_max_weights
                            ? density(tree_.min_positive())
                            : *std::min_element(densities.begin(), densities.end());
  importance_weights(densities, rarest, beta, weights);
}

void TransitionReplay::write_items(std::span<const int64_t> slots, const TransitionBatch& batch) {
  for (const int64_t slot : slots) {  // what the items need is fetched while others are written
    const auto at = static_cast<size_t>(slot);
    __builtin_prefetch(&flags_[at]);
    __builtin_prefetch(&rewards_[at]);
    __builtin_prefetch(&actions_[at]);
    frames_.prefetch_index(at / rows_, row_at(at));
  }
  threads_.run(slots.size(), [&](size_t /*part*/, size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + 1 < end) {
        const auto next = static_cast<size_t>(slots[i + 1]);
        frames_.prefetch_codes(next / rows_, row_at(next));
      }
      write_item(static_cast<size_t>(slots[i]), i, batch);
    }
  });
}

void TransitionReplay::write_item(size_t slot_index, size_t item,
                                  const TransitionBatch& batch) const {
  const size_t env = slot_index / rows_;
  const int64_t row = row_at(slot_index);
  const size_t n = options_.n_step;
  const float bound = options_.reward_clip > 0.0 ? static_cast<float>(options_.reward_clip)
                                                 : std::numeric_limits<float>::max();
  NStepReturn result;
  for (int64_t next = row + 1; !result.closed; ++next) {
    const float reward = std::clamp(rewards_[slot(env, next)], -bound, bound);
    result.add(reward, outcome_at(env, next), n, options_.gamma);
  }
  batch.actions[item] = actions_[slot_index];
  batch.rewards[item] = static_cast<float>(result.reward);
  batch.discounts[item] = static_cast<float>(result.discount);
  batch.steps[item] = static_cast<int64_t>(result.steps);
  batch.ids[item] = row * static_cast<int64_t>(options_.num_envs) + static_cast<int64_t>(env);
  write_frames(env, row, result.steps,
               batch.frames.data() + item * (options_.stack + n) * options_.frame_bytes);
}

void TransitionReplay::write_frames(size_t env, int64_t row, size_t steps, uint8_t* out) const {
  const size_t bytes = options_.frame_bytes;
  // The oldest frame of the stack that belongs to the episode.
  int64_t oldest = row;
  const int64_t limit = std::max<int64_t>(0, row - static_cast<int64_t>(options_.stack) + 1);
  while (oldest > limit && !(flags_at(env, oldest) & kFirst)) {
    --oldest;
  }
  const int64_t begin = row - static_cast<int64_t>(options_.stack) + 1;
  const auto before = static_cast<size_t>(oldest - begin);
  const auto count = static_cast<size_t>(row - oldest) + 1 + steps;
  const size_t after = options_.stack + options_.n_step - before - count;
  std::memset(out, 0, before * bytes);
  frames_.read(env, oldest, count, out + before * bytes, bytes);
  std::memset(out + (before + count) * bytes, 0, after * bytes);
}

size_t TransitionReplay::update_priorities(std::span<const int64_t> ids,
                                           std::span<const float> priorities) {
  check_argument(options_.prioritized,
                 "update_priorities: this replay is uniform; build it with prioritized=True");
  check_argument(ids.size() == priorities.size(), "priorities: expected one for each of the ",
                 ids.size(), " ids, got ", priorities.size());
  const std::lock_guard lock(mutex_);
  const int64_t num_envs = static_cast<int64_t>(options_.num_envs);
  for (size_t i = 0; i < ids.size(); ++i) {
    check_argument(std::isfinite(priorities[i]) && priorities[i] >= 0.0f, "priorities[", i,
                   "]: expected a finite priority >= 0, got ", priorities[i]);
    check_argument(ids[i] >= 0 && ids[i] < head_ * num_envs, "ids[", i,
                   "]: expected an id that sample() gave, got ", ids[i]);
  }
  size_t dropped = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t at = start_at(ids[i]);
    if (at < 0) {
      ++dropped;
      continue;
    }
    const double weight = weight_of(static_cast<double>(priorities[i]));
    set_start(static_cast<size_t>(at), weight);
    max_weight_ = std::max(max_weight_, weight);
  }
  apply_changes();
  return dropped;
}

size_t TransitionReplay::num_valid() const {
  const std::lock_guard lock(mutex_);
  return num_starts_;
}

size_t TransitionReplay::bytes_used() const {
  const std::lock_guard lock(mutex_);
  const size_t slots = actions_.size();
  return frames_.bytes_used() + slots * (sizeof(uint8_t) + sizeof(float) + sizeof(uint8_t)) +
         SumTree::memory_bytes(slots, options_.buffer_max_weights);
}

int64_t TransitionReplay::num_rows() const {
  const std::lock_guard lock(mutex_);
  return head_ * static_cast<int64_t>(options_.num_envs);
}

}  // namespace atari_fast
