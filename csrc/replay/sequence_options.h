// Settings of a SequenceReplay, and the memory that rows and batches are handed over in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "replay/replay_options.h"
#include "structures/row_ring.h"

namespace atari_fast {

/// Type of the elements of a column or a recurrent state.
enum class ElementType : uint8_t { kFloat32, kFloat16, kUint8, kInt32, kInt64 };

/// Name of the type as numpy spells it.
const char* element_name(ElementType type);
/// Bytes of one element.
size_t element_bytes(ElementType type);
/// The type with numpy's name `name`. Throws std::invalid_argument for any other name.
ElementType element_type(const std::string& name);

/// A named vector of `width` elements: an extra column of every row, or a recurrent state.
struct VectorSpec {
  std::string name;
  ElementType type = ElementType::kFloat32;
  size_t width = 1;

  size_t bytes() const { return width * element_bytes(type); }
};

/// What is done with the starts whose unroll window reaches beyond the end of the episode.
enum class SequenceTail : uint8_t {
  kShift,  ///< one start takes their place, so far back that its unroll window is full
  kMask,   ///< each of them makes a sequence with fewer unroll rows
};

/// Which rows a sequence has. Rows are counted from the episode's first one; s is the start.
struct SequenceShape {
  size_t stack = 1;     ///< frames in an observation; the device cuts the stacks
  size_t burn_in = 40;  ///< rows before s that only produce a recurrent state, where there are any
  size_t unroll = 80;   ///< L, rows that are learned from
  size_t period = 40;   ///< steps from one start to the next, at most L
  size_t bootstrap_steps = 5;  ///< rows after the unroll window, at least 1; n for n-step targets
                               ///< in all of L
  SequenceTail tail = SequenceTail::kShift;

  /// Rows of the time axis of a batch.
  size_t rows() const { return burn_in + unroll + bootstrap_steps; }
  /// Frames of the time axis of a batch.
  size_t frames() const { return stack - 1 + rows(); }
};

/// Settings of a SequenceReplay.
struct SequenceReplayOptions : ReplayOptions {
  SequenceShape shape;
  std::vector<VectorSpec> columns;  ///< of every row, beside frame, action, reward and flags
  std::vector<VectorSpec> states;   ///< kept for each sequence, before its first row
  bool unroll_states = false;       ///< keep them before its first unroll row too
  size_t max_sequences = 0;         ///< over all environments; 0: 1.25 capacity / period + 2 for
                                    ///< each, which suffices where episodes have 4 periods or
                                    ///< more. An environment that has no place left drops its
                                    ///< oldest sequence.

  /// Places for sequences in each environment.
  size_t sequences_per_env() const;
  /// The states of a sequence: those before its first row and then, with unroll_states, the same
  /// before its first unroll row.
  std::vector<VectorSpec> sequence_states() const;
};

/// Throws std::invalid_argument, naming the setting, unless all are in range; returns them.
const SequenceReplayOptions& checked_options(const SequenceReplayOptions& options);

/// One row of each of n environments. Row i of every array belongs to environment envs[i].
struct SequenceRows {
  std::span<const uint8_t> frames;                  ///< [n, frame_bytes], the frame that arrived
  std::span<const int64_t> actions;                 ///< [n], the action then chosen, from 0 to 255
  std::span<const float> rewards;                   ///< [n], raw, what arrived with the frame
  std::span<const uint8_t> flags;                   ///< [n], what arrived with the frame
  std::vector<std::span<const std::byte>> columns;  ///< [n, width] each
  std::vector<std::span<const std::byte>>
      states;   ///< [n, width] each: the recurrent state before this row is fed to the network
  Envs envs{};  ///< [n], or nothing for all E environments in order
};

/// A sequence that an append made.
struct NewSequence {
  int64_t id = 0;            ///< for set_priorities
  int64_t env = 0;           ///< where it is
  int64_t start = 0;         ///< number of its first unroll row; an environment's rows count from 0
  int64_t valid_length = 0;  ///< valid unroll rows
  int64_t bootstrap_length = 0;  ///< rows that exist after those
};

/// A batch of B sequences, time-major, written into the caller's memory. T = burn_in + L +
/// bootstrap_steps.
///
/// Row s stands at t = burn_in in every sequence. The rows of sequence b that exist are t in
/// [burn_in - burn_in[b], burn_in + valid_length[b] + bootstrap_length[b]); everything else is
/// zeros (-1 in prev_actions) and must not influence anything.
struct SequenceBatch {
  std::span<uint8_t> frames;   ///< [stack - 1 + T, B, frame_bytes]: frames[t : t + stack] is the
                               ///< observation of row t; zeros before the episode
  std::span<int64_t> actions;  ///< [T, B] action taken in row t
  std::span<int64_t> prev_actions;  ///< [T, B] action taken in row t - 1; -1 where row t begins the
                                    ///< episode or does not exist
  std::span<float> rewards;         ///< [T, B] raw reward that arrived with row t
  std::span<uint8_t> flags;         ///< [T, B] flags that arrived with row t
  std::vector<std::span<std::byte>> columns;  ///< [T, B, width] each
  std::vector<std::span<std::byte>> states;   ///< [B, width] each, those of sequence_states()
  std::span<int64_t> burn_in;                 ///< [B] rows before s that exist: min(burn_in, s)
  std::span<int64_t> valid_length;            ///< [B] valid unroll rows, 1 to L
  std::span<int64_t> bootstrap_length;  ///< [B] rows that exist after those, 1 to bootstrap_steps:
                                        ///< the last of them has an observation only, what follows
                                        ///< its action is not there
  std::span<float> weights;             ///< [B] importance weights
  std::span<int64_t> ids;               ///< [B] unique numbers, for set_priorities
};

}  // namespace atari_fast
