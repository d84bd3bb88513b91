// Replay of overlapping sequences with stored recurrent states, for R2D2, NGU and Agent57.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/snapshot.h"
#include "base/thread_pool.h"
#include "replay/sequence_options.h"
#include "replay/sequence_table.h"
#include "structures/frame_store.h"
#include "structures/row_ring.h"

namespace atari_fast {

/// Ring of rows for each of E environments, from which sequences of burn-in, unroll and bootstrap
/// rows are drawn (Kapturowski 2019, section 2.3). SequenceTable says which sequences there are.
///
/// A row is the frame that arrived, the reward and flags that arrived with it, and the action then
/// chosen; any number of further columns are the caller's, and their values are not looked at. No
/// frame is stored twice: a sequence is a place in the ring, and it is gone as soon as the oldest
/// frame that it needs cannot be read any more. No sequence crosses an episode or the write head of
/// its environment. Environments may be appended to alone or in groups and have any numbers of
/// rows.
///
/// The recurrent state is kept for the first row that is unrolled, max(0, s - burn_in) in the
/// episode, and if asked for also for the first unroll row s. Whether and with which start a
/// sequence will exist is known only after its rows have arrived, so the states of each
/// environment's last burn_in + L + bootstrap_steps rows wait in a ring, and those that belong to a
/// sequence are copied when the sequence is made. At an episode's first row the state is zeros,
/// whatever was given.
///
/// Owns its memory. All methods are thread-safe (one mutex, held while a batch is gathered).
/// Randomness is its own and depends on the seed only; the number of threads changes no result.
class SequenceReplay {
 public:
  /// Throws std::invalid_argument when a setting is out of range, std::bad_alloc when memory is
  /// short.
  explicit SequenceReplay(const SequenceReplayOptions& options);

  /// Appends one row to each of n environments, all E of them unless `rows.envs` chooses some, and
  /// returns the sequences that this made, environment by environment; they have the largest
  /// priority seen so far until set_priorities is called. The action of a row that ends an episode
  /// has no meaning. Throws std::invalid_argument for wrong sizes, an environment that is out of
  /// range or comes twice, an action outside [0, 255] or a reward that is not finite,
  /// std::bad_alloc when memory is short; nothing is then stored.
  std::vector<NewSequence> append(const SequenceRows& rows);

  /// Draws B sequences with importance exponent `beta` into `batch`. The weight of sequence i is (N
  /// P(i))^-beta over the largest of the batch (or of all, with buffer_max_weights), N the number
  /// of sequences and P(i) the probability that it is drawn with. O(B (log N + bytes of a
  /// sequence)). Throws std::invalid_argument for wrong sizes or when there is no sequence yet. A
  /// call that throws uses up no random numbers.
  void sample(double beta, const SequenceBatch& batch);

  /// Sets priorities; ids of sequences that are gone are dropped. Of equal ids the last one wins.
  /// Returns how many were dropped. Throws std::invalid_argument, naming the position, for a
  /// priority that is negative or not finite or an id that was never given; nothing is then
  /// changed.
  size_t set_priorities(std::span<const int64_t> ids, std::span<const float> priorities);

  /// Number of sequences that can be drawn, N.
  size_t num_sequences() const;
  /// Rows appended so far over all environments, those overwritten included.
  int64_t num_rows() const;
  /// Sequences that were dropped before their frames were gone, because max_sequences was reached.
  int64_t num_dropped() const;
  const SequenceReplayOptions& options() const { return options_; }
  /// Bytes taken now.
  size_t bytes_used() const;
  /// The most bytes that a replay with these options ever takes. Throws as the constructor does.
  static size_t memory_bytes(const SequenceReplayOptions& options);

  /// Writes the whole state to a file, or to several as `files` says. Throws SnapshotError.
  void save(const std::string& path, const SnapshotFiles& files = {}) const;
  /// Takes the state of a replay with the same options out of a file. Throws SnapshotError, naming
  /// the file and the cause, for a file that is damaged or another replay's; this one is then as it
  /// was. Until the file is known to be whole both states are in memory, so that as much as the
  /// saved replay took (`bytes_used`) is needed beside this one.
  void load(const std::string& path);

 private:
  /// Values of one column or state, `bytes` for each place.
  struct Values {
    size_t bytes = 0;
    std::vector<std::byte> data;

    std::byte* at(size_t place) { return data.data() + place * bytes; }
    const std::byte* at(size_t place) const { return data.data() + place * bytes; }
  };

  static size_t fixed_bytes(const SequenceReplayOptions& options);
  void read_state(SnapshotReader& reader);
  size_t waiting_slot(size_t env, int64_t row) const;
  void check_rows(const SequenceRows& rows, size_t n) const;
  void check_batch(const SequenceBatch& batch) const;
  void store_row(const SequenceRows& rows, size_t i, size_t env);
  void store_waiting_states(const SequenceRows& rows, size_t i, size_t env);
  NewSequence keep_states(int64_t id);
  void write_frames(int64_t id, size_t item, const SequenceBatch& batch) const;
  void write_rows(int64_t id, size_t item, const SequenceBatch& batch) const;
  void write_head(int64_t id, size_t item, const SequenceBatch& batch) const;

  SequenceReplayOptions options_;
  size_t waiting_;  // rows of an environment whose states are held
  mutable std::mutex mutex_;
  FrameStore frames_;
  RowRing rows_;  // one row more of each environment than there are frames, for prev_actions
  std::vector<Values> columns_;         // at the places of rows_
  std::vector<Values> waiting_states_;  // of the newest rows
  std::vector<Values> states_;          // of the sequences, as sequence_states() has them
  SequenceTable table_;
  ThreadPool pool_;
};

}  // namespace atari_fast
