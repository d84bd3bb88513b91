// Replay of n-step transitions over stacks of frames, uniform or prioritized.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/snapshot.h"
#include "base/thread_pool.h"
#include "replay/flags.h"
#include "replay/replay_options.h"
#include "structures/frame_store.h"
#include "structures/n_step.h"
#include "structures/prioritized_sampler.h"
#include "structures/row_ring.h"

namespace atari_fast {

/// Settings of a TransitionReplay.
struct TransitionReplayOptions : ReplayOptions {
  size_t stack = 4;     ///< frames in an observation
  size_t n_step = 1;    ///< n
  double gamma = 0.99;  ///< discount of one step, in [0, 1]
  double reward_clip =
      0.0;  ///< rewards are clipped to [-x, x] when a batch is made; 0: not clipped
  bool zero_discount_on_life_loss = false;  ///< a lost life ends the return with discount 0
};

/// Throws std::invalid_argument, naming the setting, unless all are in range; returns them.
const TransitionReplayOptions& checked_options(const TransitionReplayOptions& options);

/// A batch of B transitions, written into the caller's memory.
struct TransitionBatch {
  std::span<uint8_t> frames;   ///< [B, stack + n, frame_bytes]: row s-stack+1 to s+n; zeros outside
                               ///< the episode and after s+m
  std::span<int64_t> actions;  ///< [B] action taken in row s
  std::span<float> rewards;    ///< [B] n-step reward, clipped step by step
  std::span<float> discounts;  ///< [B] what multiplies the bootstrap value: gamma^m or 0
  std::span<int64_t> steps;  ///< [B] m: the observation to bootstrap from is frames[m : m + stack]
  std::span<float> weights;  ///< [B] importance weights, at most 1
  std::span<int64_t> ids;    ///< [B] unique row numbers, for update_priorities
};

/// Ring of rows for each of E environments, from which n-step transitions are drawn (Mnih 2015;
/// Schaul 2016).
///
/// A row is the frame that arrived, the reward and flags that arrived with it, and the action then
/// chosen. A row becomes a start that can be drawn when its n-step window closes, and stops to be
/// one when the oldest frame of its stack is gone, overwritten or dropped because frames took all
/// of `frame_memory`: from then on its weight in the tree is 0. No window crosses an episode's end
/// or the write head of its environment. Environments may be appended to alone or in groups and
/// have any numbers of rows. The id of a row is its number in the environment * E + environment;
/// ids are never reused, so a stale id cannot hit a newer row.
///
/// Owns its memory. All methods are thread-safe (one mutex). Randomness is its own and depends on
/// the seed only.
class TransitionReplay {
 public:
  /// Throws std::invalid_argument when a setting is out of range, std::bad_alloc when memory is
  /// short.
  explicit TransitionReplay(const TransitionReplayOptions& options);

  /// Appends one row to each of n environments, all E of them unless `envs` chooses some: frames
  /// [n, frame_bytes], actions, rewards and flags [n], in the order of `envs`. The action of a row
  /// that ends an episode is ignored. Throws std::invalid_argument for wrong sizes, an environment
  /// that is out of range or comes twice, an action outside [0, 255] or a reward that is not
  /// finite, std::bad_alloc when memory is short; nothing is then stored.
  void append(std::span<const uint8_t> frames, std::span<const int64_t> actions,
              std::span<const float> rewards, std::span<const uint8_t> flags,
              const Envs& envs = {});

  /// Draws B transitions with importance exponent `beta` into `batch`. The weight of start i is (N
  /// P(i))^-beta over the largest of the batch (or of all starts), N the number of starts and P(i)
  /// the probability that it is drawn with. O(B (log capacity + (stack + n) frame_bytes)); a
  /// uniform draw (`uniform_mix`) tries capacity / N places on average, 64 at most, and then counts
  /// starts out. Throws
  /// std::invalid_argument for wrong sizes or when no start can be drawn yet. A call that throws
  /// uses up no random numbers.
  void sample(double beta, const TransitionBatch& batch);

  /// Ids of all starts that can be drawn, ascending. O(capacity), and a sort where environments
  /// hold different rows.
  std::vector<int64_t> valid_ids() const;

  /// Fills `batch` with the transitions of the starts `batch.ids`, in that order, with weights 1;
  /// any id may come more than once. Nothing of the replay changes. Costs of `sample` without the
  /// draw. Throws std::invalid_argument, naming the position, for an id that cannot be drawn, or
  /// for wrong sizes; nothing is then written.
  void read(const TransitionBatch& batch);

  /// Sets the priorities |delta| of drawn rows; ids of rows that were overwritten since are
  /// dropped. Of equal ids the last one wins. Returns how many were dropped. Throws
  /// std::invalid_argument, naming the position, for a priority that is negative or not finite or
  /// an id that was never given; nothing is then changed.
  size_t update_priorities(std::span<const int64_t> ids, std::span<const float> priorities);

  /// Number of starts that can be drawn, N.
  size_t num_valid() const;
  /// Rows appended so far over all environments, those overwritten included.
  int64_t num_rows() const;
  const TransitionReplayOptions& options() const { return options_; }
  /// Bytes taken now.
  size_t bytes_used() const;
  /// The most bytes that a replay with these options ever takes. Throws as the constructor does.
  static size_t memory_bytes(const TransitionReplayOptions& options);

  /// Writes the whole state to a file, or to several as `files` says. Throws SnapshotError.
  void save(const std::string& path, const SnapshotFiles& files = {}) const;
  /// Takes the state of a replay with the same options out of a file. Throws SnapshotError, naming
  /// the file and the cause, for a file that is damaged or another replay's; this one is then as it
  /// was. Until the file is known to be whole both states are in memory, so that as much as the
  /// saved replay took (`bytes_used`) is needed beside this one.
  void load(const std::string& path);

 private:
  uint8_t flags_at(size_t env, int64_t row) const { return rows_.flags(rows_.place(env, row)); }
  Outcome outcome_at(size_t env, int64_t row) const;
  void expire(size_t env, int64_t begin, int64_t end);
  void close_windows(size_t env, int64_t row);
  int64_t oldest_start(size_t env) const;
  void read_state(SnapshotReader& reader);
  bool is_complete(size_t place) const;
  bool was_given(int64_t id) const;
  void check_batch(const TransitionBatch& batch) const;
  int64_t start_at(int64_t id) const;
  void write_items(std::span<const int64_t> places, const TransitionBatch& batch);
  void write_item(size_t place, size_t item, const TransitionBatch& batch) const;
  void write_frames(size_t env, int64_t row, size_t steps, uint8_t* out) const;

  TransitionReplayOptions options_;
  mutable std::mutex mutex_;
  FrameStore frames_;
  RowRing rows_;
  PrioritizedSampler starts_;  // its places are those of rows_
  ThreadPool threads_;
};

}  // namespace atari_fast
