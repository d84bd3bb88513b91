// What is stored of each row beside its frame: action, reward and flags.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "base/snapshot.h"

namespace atari_fast {

/// The environments that an append has a row of: n distinct ones in any order, or nothing for all E
/// of them in order.
using Envs = std::optional<std::span<const int64_t>>;

/// The newest rows of each of E environments. Every environment has a head of its own; its rows are
/// numbered from 0. Owns its memory; not thread-safe.
class RowRing {
 public:
  /// Keeps `rows` rows of each environment.
  RowRing(size_t num_envs, size_t rows)
      : num_envs_(num_envs),
        rows_(rows),
        heads_(num_envs),
        all_(num_envs),
        actions_(num_envs * rows),
        rewards_(num_envs * rows),
        flags_(num_envs * rows) {
    std::iota(all_.begin(), all_.end(), 0);
  }

  /// The environments of an append, in the order of its rows: int64[n]. Throws
  /// std::invalid_argument, naming the position, for one that is out of range or comes twice.
  std::span<const int64_t> checked_envs(const Envs& envs) const;
  /// Throws std::invalid_argument unless there are n of each, all actions are from 0 to 255 and all
  /// rewards finite.
  void check(size_t n, std::span<const int64_t> actions, std::span<const float> rewards,
             std::span<const uint8_t> flags) const;
  /// Stores the checked row `head(env)` of an environment.
  void store(size_t env, int64_t action, float reward, uint8_t flags) {
    const size_t at = place(env, heads_[env]);
    actions_[at] = static_cast<uint8_t>(action);
    rewards_[at] = reward;
    flags_[at] = flags;
  }
  /// Ends the environment's row, once it is stored.
  void advance(size_t env) {
    ++heads_[env];
    ++num_rows_;
  }

  /// Rows of the environment so far, those overwritten included.
  int64_t head(size_t env) const { return heads_[env]; }
  /// The most rows that an environment has so far.
  int64_t max_head() const { return *std::max_element(heads_.begin(), heads_.end()); }
  /// Rows so far over all environments.
  int64_t num_rows() const { return num_rows_; }

  /// Place of a row in the columns, and in any array with E * rows elements.
  size_t place(size_t env, int64_t row) const {
    return env * rows_ + static_cast<size_t>(row) % rows_;
  }
  size_t env_at(size_t place) const { return place / rows_; }
  /// The newest row of the place, which must have had one.
  int64_t row_at(size_t place) const {
    const int64_t newest = heads_[env_at(place)] - 1;
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

  /// Appends the columns to a snapshot, which has the heads elsewhere.
  void save(SnapshotWriter& writer) const;
  /// The same back, into a new ring whose environments have these heads. Throws SnapshotError for a
  /// reward that is not finite.
  void load(SnapshotReader& reader, const std::vector<int64_t>& heads);

  /// Bytes that a ring takes.
  static size_t memory_bytes(size_t num_envs, size_t rows) {
    return num_envs * rows * (sizeof(uint8_t) + sizeof(float) + sizeof(uint8_t));
  }

 private:
  size_t num_envs_;
  size_t rows_;
  int64_t num_rows_ = 0;
  std::vector<int64_t> heads_;
  std::vector<int64_t> all_;  // the environments in order
  std::vector<uint8_t> actions_;
  std::vector<float> rewards_;
  std::vector<uint8_t> flags_;
};

}  // namespace atari_fast
