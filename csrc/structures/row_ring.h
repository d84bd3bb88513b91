// What is stored of each row beside its frame: action, reward and flags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/snapshot.h"

namespace atari_fast {

/// The newest rows of each of E environments, which are appended to together; an environment's rows
/// are numbered from 0. Owns its memory; not thread-safe.
class RowRing {
 public:
  /// Keeps `rows` rows of each environment.
  RowRing(size_t num_envs, size_t rows)
      : num_envs_(num_envs),
        rows_(rows),
        actions_(num_envs * rows),
        rewards_(num_envs * rows),
        flags_(num_envs * rows) {}

  /// Throws std::invalid_argument unless there are E of each, all actions are from 0 to 255 and all
  /// rewards finite.
  void check(std::span<const int64_t> actions, std::span<const float> rewards,
             std::span<const uint8_t> flags) const;
  /// Stores the checked row `head()` of an environment.
  void store(size_t env, int64_t action, float reward, uint8_t flags) {
    const size_t at = place(env, head_);
    actions_[at] = static_cast<uint8_t>(action);
    rewards_[at] = reward;
    flags_[at] = flags;
  }
  /// Ends the row, once it is stored for every environment.
  void advance() { ++head_; }

  /// Rows of each environment so far, those overwritten included.
  int64_t head() const { return head_; }
  /// Rows so far over all environments.
  int64_t num_rows() const { return head_ * static_cast<int64_t>(num_envs_); }

  /// Place of a row in the columns, and in any array with E * rows elements.
  size_t place(size_t env, int64_t row) const {
    return env * rows_ + static_cast<size_t>(row) % rows_;
  }
  size_t env_at(size_t place) const { return place / rows_; }
  /// The newest row of the place, which must have had one.
  int64_t row_at(size_t place) const {
    const int64_t newest = head_ - 1;
    return newest - (newest - static_cast<int64_t>(place % rows_)) % static_cast<int64_t>(rows_);
  }
  uint8_t action(size_t place) const { return actions_[place]; }
  float reward(size_t place) const { return rewards_[place]; }
  uint8_t flags(size_t place) const { return flags_[place]; }
  void prefetch(size_t place) const {
    __builtin_prefetch(&flags_[place]);
    __builtin_prefetch(&rewards_[place]);
    __builtin_prefetch(&actions_[place]);
  }

  /// Appends the columns to a snapshot, which has the head elsewhere.
  void save(SnapshotWriter& writer) const;
  /// The same back, into a new ring. Throws SnapshotError for a reward that is not finite.
  void load(SnapshotReader& reader, int64_t head);

  /// Bytes that a ring takes.
  static size_t memory_bytes(size_t num_envs, size_t rows) {
    return num_envs * rows * (sizeof(uint8_t) + sizeof(float) + sizeof(uint8_t));
  }

 private:
  size_t num_envs_;
  size_t rows_;
  int64_t head_ = 0;
  std::vector<uint8_t> actions_;
  std::vector<float> rewards_;
  std::vector<uint8_t> flags_;
};

}  // namespace atari_fast
