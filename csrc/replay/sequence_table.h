// Which sequences there are: cuts episodes into them, keeps where they lie.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/snapshot.h"
#include "replay/sequence_options.h"
#include "structures/prioritized_sampler.h"

namespace atari_fast {

/// Where a sequence lies in its environment. Rows are counted from the environment's first one.
struct Sequence {
  int64_t begin = 0;             ///< the episode's first row
  int64_t start = 0;             ///< the first unroll row
  int64_t valid_length = 0;      ///< valid unroll rows
  int64_t bootstrap_length = 0;  ///< rows that exist after those

  /// The first row that is unrolled, the one whose recurrent state is kept.
  int64_t first_row(const SequenceShape& shape) const {
    return std::max(begin, start - static_cast<int64_t>(shape.burn_in));
  }
  /// The oldest row whose frame is needed.
  int64_t oldest_frame(const SequenceShape& shape) const {
    return std::max(begin, start - static_cast<int64_t>(shape.burn_in + shape.stack - 1));
  }
  /// One beyond the last row.
  int64_t end_row() const { return start + valid_length + bootstrap_length; }
};

/// A row that has arrived, the next of its environment.
struct Arrival {
  size_t env = 0;
  int64_t row = 0;
  uint8_t flags = 0;
  int64_t readable = 0;  ///< the oldest row of the environment whose frame can be read
};

/// Rings of sequences, one for each environment, under one sampler.
///
/// In an episode of T steps, whose rows are 0 to T, starts are s = 0, period, 2 period and so on. A
/// sequence is made as soon as row s + L + bootstrap_steps - 1 has arrived; at the episode's end,
/// so are those left with s + L <= T. The starts left then with s + L > T make, with kMask,
/// sequences of T - s unroll rows; with kShift, one sequence with the start max(0, T - L) instead
/// of them all, unless there is one with that start. An episode that a first row cuts off without a
/// flagged end ends at the row before it; a row that follows a flagged end begins an episode even
/// when it is not flagged.
///
/// The sequences of an environment are numbered as they are made, and neither their starts nor
/// their oldest frames ever go back, so those alive are a range of numbers. Id = number * num_envs
/// + env. Not thread-safe.
class SequenceTable {
 public:
  /// A table with `places` for each environment.
  SequenceTable(const SequenceShape& shape, size_t num_envs, size_t places,
                const SamplerOptions& draws);

  /// The most sequences that one row completes.
  size_t most_made() const { return (shape_.unroll + shape_.bootstrap_steps) / shape_.period + 2; }

  /// Appends the ids of the sequences that the row completes to `made`, which must have room for
  /// `most_made` more where nothing may throw. One that needs frames which
  /// are gone is not made; where the ring is full the oldest sequence is dropped.
  void arrive(const Arrival& arrival, std::vector<int64_t>& made);

  /// Removes the sequences of the environment that need frames of rows before `readable`.
  void expire(size_t env, int64_t readable);

  /// Sequences dropped so far because their environment's ring was full.
  int64_t dropped() const { return dropped_; }
  /// Draws slots; its count is that of the sequences alive. Changes wait for its `apply`.
  const PrioritizedSampler& sampler() const { return sampler_; }
  PrioritizedSampler& sampler() { return sampler_; }
  /// First row of the environment's current episode.
  int64_t episode_begin(size_t env) const { return envs_[env].begin; }

  /// Whether the id belongs to a sequence that was made, be it gone or not.
  bool was_made(int64_t id) const { return id >= 0 && number(id) < envs_[env(id)].next; }
  bool alive(int64_t id) const { return was_made(id) && number(id) >= envs_[env(id)].oldest; }
  size_t env(int64_t id) const { return static_cast<size_t>(id) % envs_.size(); }
  /// Place of the sampler, and in any array with num_envs * places elements. The id must be >= 0.
  size_t slot(int64_t id) const;
  const Sequence& at(int64_t id) const { return sequences_[slot(id)]; }
  /// Id of the newest sequence that was made in the slot, of which there must be one.
  int64_t id_at(size_t slot) const;

  /// Appends the state to a snapshot.
  void save(SnapshotWriter& writer) const;
  /// Fills an empty table from a snapshot in which each environment has `heads` rows, those from
  /// `readable` on with their frames. Throws SnapshotError for anything that no table could have
  /// written.
  void load(SnapshotReader& reader, const std::vector<int64_t>& heads,
            const std::vector<int64_t>& readable);

 private:
  struct EnvSequences {
    int64_t begin = 0;       // the episode's first row
    int64_t next_start = 0;  // the next regular start
    bool ended = true;       // the next row begins an episode
    int64_t oldest = 0;      // number of the oldest sequence alive
    int64_t next = 0;        // number of the next sequence
  };

  int64_t number(int64_t id) const { return id / static_cast<int64_t>(envs_.size()); }
  int64_t id_of(size_t env, int64_t number) const;
  void finish(const Arrival& arrival, int64_t last, std::vector<int64_t>& made);
  void make(const Arrival& arrival, int64_t start, int64_t valid_length, int64_t bootstrap_length,
            std::vector<int64_t>& made);
  void drop_oldest(size_t env);

  SequenceShape shape_;
  size_t places_;
  std::vector<EnvSequences> envs_;
  std::vector<Sequence> sequences_;
  PrioritizedSampler sampler_;
  int64_t dropped_ = 0;
};

}  // namespace atari_fast
