// Saving and loading of the transition replay.
#include <vector>

#include "base/snapshot.h"
#include "replay/transition_replay.h"

namespace atari_fast {
namespace {

constexpr std::string_view kKind = "transition replay";
constexpr uint32_t kVersion = 1;

/// The settings that rows and starts depend on; frames check their own.
std::vector<uint64_t> settings(const TransitionReplayOptions& o) {
  return {o.num_envs,
          o.rows_per_env(),
          o.stack,
          o.n_step,
          static_cast<uint64_t>(o.zero_discount_on_life_loss),
          static_cast<uint64_t>(o.draws.prioritized)};
}

}  // namespace

void TransitionReplay::save(const std::string& path, const SnapshotFiles& files) const {
  const std::lock_guard lock(mutex_);
  SnapshotWriter writer(path, kKind, kVersion, files);
  writer.array<uint64_t>(settings(options_));
  writer.value(rows_.max_head());  // the frames tell those of all environments
  starts_.save_state(writer);
  frames_.save(writer);
  rows_.save(writer);
  starts_.save_weights(writer);
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
  rows_ = std::move(loaded.rows_);
  starts_ = std::move(loaded.starts_);
}

void TransitionReplay::read_state(SnapshotReader& reader) {
  const std::vector<uint64_t> expected = settings(options_);
  std::vector<uint64_t> saved(expected.size());
  reader.array<uint64_t>(saved);
  reader.check(
      saved == expected,
      "it is of a replay with other settings (num_envs, capacity, stack, n_step, life loss "
      "or prioritized)");
  const auto head = reader.value<int64_t>();
  starts_.load_state(reader);
  frames_.load(reader);
  rows_.load(reader, frames_.next_rows());
  reader.check(rows_.max_head() == head, "its rows are not as many as its frames");
  starts_.load_weights(reader);
  for (size_t place = 0; place < options_.num_envs * options_.rows_per_env(); ++place) {
    reader.check(!starts_.holds(place) || is_complete(place), "a transition has no end");
  }
}

// Whether the row in this place is one that can be drawn: its frames are there and its window
// closes.
bool TransitionReplay::is_complete(size_t place) const {
  const size_t env = rows_.env_at(place);
  const int64_t row = rows_.head(env) > 0 ? rows_.row_at(place) : -1;
  if (row < oldest_start(env) || (rows_.flags(place) & (kTerminated | kTruncated)) != 0) {
    return false;
  }
  NStepReturn window;
  for (int64_t next = row + 1; !window.closed; ++next) {
    if (next >= rows_.head(env)) {
      return false;
    }
    window.add(0.0, outcome_at(env, next), options_.n_step, options_.gamma);
  }
  return true;
}

}  // namespace atari_fast
