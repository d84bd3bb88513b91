#include "structures/row_ring.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace atari_fast {

std::span<const int64_t> RowRing::checked_envs(const Envs& envs) const {
  if (!envs) {
    return all_;
  }
  std::vector<bool> seen(num_envs_);
  for (size_t i = 0; i < envs->size(); ++i) {
    const int64_t env = (*envs)[i];
    check_argument(env >= 0 && env < static_cast<int64_t>(num_envs_), "envs[", i,
                   "]: expected an environment from 0 to ", num_envs_ - 1, ", got ", env);
    const auto at = static_cast<size_t>(env);
    check_argument(!seen[at], "envs[", i, "]: expected every environment at most once, got ", env,
                   " again");
    seen[at] = true;
  }
  return *envs;
}

void RowRing::check(size_t n, std::span<const int64_t> actions, std::span<const float> rewards,
                    std::span<const uint8_t> flags) const {
  check_argument(actions.size() == n && rewards.size() == n && flags.size() == n,
                 "actions, rewards and flags: expected ", n, " of each, got ", actions.size(), ", ",
                 rewards.size(), " and ", flags.size());
  for (size_t i = 0; i < n; ++i) {
    check_argument(actions[i] >= 0 && actions[i] <= 255, "actions[", i,
                   "]: expected 0 <= action <= 255, got ", actions[i]);
    check_argument(std::isfinite(rewards[i]), "rewards[", i, "]: expected a finite reward, got ",
                   rewards[i]);
  }
}

void RowRing::save(SnapshotWriter& writer) const {
  writer.array<uint8_t>(actions_);
  writer.array<float>(rewards_);
  writer.array<uint8_t>(flags_);
}

void RowRing::load(SnapshotReader& reader, const std::vector<int64_t>& heads) {
  heads_ = heads;
  num_rows_ = std::accumulate(heads.begin(), heads.end(), int64_t{0});
  reader.array<uint8_t>(actions_);
  reader.array<float>(rewards_);
  reader.array<uint8_t>(flags_);
  reader.check(
      std::all_of(rewards_.begin(), rewards_.end(), [](float r) { return std::isfinite(r); }),
      "a reward is not finite");
}

}  // namespace atari_fast
