// Saving and loading of the transition replay.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/snapshot.h"
#include "replay/transition_replay.h"

namespace atari_fast {
namespace {

constexpr std::string_view kKind = "transition replay";
constexpr uint32_t kVersion = 1;

/// The settings that rows and starts depend on; frames check their own.
std::vector<uint64_t> settings(const TransitionReplayOptions& o) {
  return {o.num_envs,
          o.capacity / o.num_envs,
          o.stack,
          o.n_step,
          static_cast<uint64_t>(o.zero_discount_on_life_loss),
          static_cast<uint64_t>(o.prioritized)};
}

}  // namespace

void TransitionReplay::save(const std::string& path, const SnapshotFiles& files) const {
  const std::lock_guard lock(mutex_);
  SnapshotWriter writer(path, kKind, kVersion, files);
  writer.array<uint64_t>(settings(options_));
  writer.value(head_);
  writer.value(max_weight_);
  writer.value(rng_.key());
  writer.value(rng_.counter());
  frames_.save(writer);
  writer.array<uint8_t>(actions_);
  writer.array<float>(rewards_);
  writer.array<uint8_t>(flags_);
  writer.array<double>(tree_.leaves());
  writer.finish();
}

void TransitionReplay::load(const std::string& path) {
  SnapshotReader reader(path, kKind, kVersion);
  TransitionReplayOptions options = options_;
  options.threads = 1;
  TransitionReplay loaded(options);
  loaded.read_state(reader);
  reader.finish();

  const std::lock_guard lock(mutex_);
  frames_ = std::move(loaded.frames_);
  actions_ = std::move(loaded.actions_);
  rewards_ = std::move(loaded.rewards_);
  flags_ = std::move(loaded.flags_);
  tree_ = std::move(loaded.tree_);
  num_starts_ = loaded.num_starts_;
  max_weight_ = loaded.max_weight_;
  head_ = loaded.head_;
  rng_ = loaded.rng_;
}

void TransitionReplay::read_state(SnapshotReader& reader) {
  const std::vector<uint64_t> expected = settings(options_);
  std::vector<uint64_t> saved(expected.size());
  reader.array<uint64_t>(saved);
  reader.check(
      saved == expected,
      "it is of a replay with other settings (num_envs, capacity, stack, n_step, life loss "
      "or prioritized)");
  head_ = reader.value<int64_t>();
  max_weight_ = reader.value<double>();
  const auto key = reader.value<uint64_t>();
  rng_.set_state(key, reader.value<uint64_t>());
  const double largest = std::numeric_limits<double>::max() / static_cast<double>(2 * tree_.size());
  reader.check(max_weight_ > 0.0 && max_weight_ <= largest, "its largest weight is none");
  frames_.load(reader);
  for (size_t env = 0; env < options_.num_envs; ++env) {
    reader.check(frames_.next_row(env) == head_, "its environments have different numbers of rows");
  }
  reader.array<uint8_t>(actions_);
  reader.array<float>(rewards_);
  reader.array<uint8_t>(flags_);
  std::vector<double> weights(tree_.size());
  reader.array<double>(weights);
  reader.check(
      std::all_of(rewards_.begin(), rewards_.end(), [](float r) { return std::isfinite(r); }),
      "a reward is not finite");
  for (size_t at = 0; at < weights.size(); ++at) {
    reader.check(weights[at] >= 0.0 && weights[at] <= largest, "a weight is none");
    reader.check(weights[at] == 0.0 || is_complete(at), "a transition has no end");
    num_starts_ += weights[at] > 0.0 ? 1 : 0;
  }
  std::vector<int64_t> all(weights.size());
  std::iota(all.begin(), all.end(), 0);
  tree_.set(all, weights);
}

// Whether the row in this slot is one that can be drawn: its frames are there and its window
// closes.
bool TransitionReplay::is_complete(size_t at) const {
  const size_t env = at / rows_;
  const int64_t row = head_ > 0 ? row_at(at) : -1;
  if (row < oldest_start(env) || (flags_[at] & (kTerminated | kTruncated)) != 0) {
    return false;
  }
  NStepReturn window;
  for (int64_t next = row + 1; !window.closed; ++next) {
    if (next >= head_) {
      return false;
    }
    window.add(0.0, outcome_at(env, next), options_.n_step, options_.gamma);
  }
  return true;
}

}  // namespace atari_fast
