#include "structures/row_ring.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace atari_fast {

void RowRing::check(std::span<const int64_t> actions, std::span<const float> rewards,
                    std::span<const uint8_t> flags) const {
  check_argument(
      actions.size() == num_envs_ && rewards.size() == num_envs_ && flags.size() == num_envs_,
      "actions, rewards and flags: expected ", num_envs_, " of each, got ", actions.size(), ", ",
      rewards.size(), " and ", flags.size());
  for (size_t env = 0; env < num_envs_; ++env) {
    check_argument(actions[env] >= 0 && actions[env] <= 255, "actions[", env,
                   "]: expected 0 <= action <= 255, got ", actions[env]);
    check_argument(std::isfinite(rewards[env]), "rewards[", env,
                   "]: expected a finite reward, got ", rewards[env]);
  }
}

void RowRing::save(SnapshotWriter& writer) const {
  writer.array<uint8_t>(actions_);
  writer.array<float>(rewards_);
  writer.array<uint8_t>(flags_);
}

void RowRing::load(SnapshotReader& reader, int64_t head) {
  head_ = head;
  reader.array<uint8_t>(actions_);
  reader.array<float>(rewards_);
  reader.array<uint8_t>(flags_);
  reader.check(
      std::all_of(rewards_.begin(), rewards_.end(), [](float r) { return std::isfinite(r); }),
      "a reward is not finite");
}

}  // namespace atari_fast
