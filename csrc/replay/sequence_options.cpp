#include "replay/sequence_options.h"

#include <array>

#include "base/error.h"

namespace atari_fast {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 48;
constexpr size_t kMaxRows = size_t{1} << 32;   // of a part of a sequence
constexpr size_t kMaxWidth = size_t{1} << 24;  // of a column or state
constexpr std::array<const char*, 5> kNames{"float32", "float16", "uint8", "int32", "int64"};
constexpr std::array<size_t, 5> kBytes{4, 2, 1, 4, 8};

void check_range(const char* name, size_t value, size_t least, size_t most) {
  check_argument(value >= least && value <= most, name, ": expected a number from ", least, " to ",
                 most, ", got ", value);
}

void check_shape(const SequenceShape& shape) {
  check_range("stack", shape.stack, 1, kMaxRows);
  check_range("burn_in", shape.burn_in, 0, kMaxRows);
  check_range("unroll", shape.unroll, 1, kMaxRows);
  check_range("bootstrap_steps", shape.bootstrap_steps, 1, kMaxRows);
  check_argument(shape.period >= 1 && shape.period <= shape.unroll,
                 "period: expected a number from 1 to unroll = ", shape.unroll,
                 ", so that every step is learned from, got ", shape.period);
}

// Returns the bytes of one row of all specs.
size_t checked_specs(const char* what, const std::vector<VectorSpec>& specs) {
  check_argument(specs.size() <= 256, what, ": expected at most 256, got ", specs.size());
  size_t bytes = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    check_argument(!specs[i].name.empty(), what, "[", i, "]: expected a name, got none");
    for (size_t k = 0; k < i; ++k) {
      check_argument(specs[k].name != specs[i].name, what, "[", i, "]: expected a name of its own,",
                     " got that of ", what, "[", k, "] (", specs[i].name, ")");
    }
    check_argument(specs[i].width >= 1 && specs[i].width <= kMaxWidth, what, "[", i, "] (",
                   specs[i].name, "): expected a width from 1 to ", kMaxWidth, ", got ",
                   specs[i].width);
    bytes += specs[i].bytes();
  }
  return bytes;
}

// Keeps every product of sizes far from wrapping around.
void check_sizes(const SequenceReplayOptions& o, size_t column_bytes, size_t state_bytes) {
  check_range("frame_bytes", o.frame_bytes, 1, kMaxBytes);
  // 32 stands for the fixed columns and the two nodes of the tree.
  const size_t row = o.frame_bytes + column_bytes + 32;
  check_argument(o.capacity >= 1 && o.capacity <= kMaxBytes / row,
                 "capacity: expected a number from 1 to ", kMaxBytes / row, " for rows of ", row,
                 " bytes, got ", o.capacity);
  const size_t window = o.shape.frames();
  check_argument(o.rows_per_env() > window, "capacity: expected more than ", window,
                 " rows (stack - 1 + burn_in + unroll + bootstrap_steps) for each of the ",
                 o.num_envs, " environments, got ", o.capacity, " in all");
  check_argument(o.max_sequences == 0 || o.max_sequences >= o.num_envs,
                 "max_sequences: expected 0 or at least one for each of the ", o.num_envs,
                 " environments, got ", o.max_sequences);
  check_range("max_sequences", o.max_sequences, 0, kMaxBytes / 64);
  const size_t kept = o.sequences_per_env() * (o.unroll_states ? 2 : 1);
  const size_t held = o.num_envs * (kept + o.shape.rows());
  check_argument(held <= kMaxBytes / (state_bytes + 1), "states: expected at most ",
                 kMaxBytes / held, " bytes for each of ", held, " that are held, got ",
                 state_bytes);
}

}  // namespace

const char* element_name(ElementType type) { return kNames[static_cast<size_t>(type)]; }

size_t element_bytes(ElementType type) { return kBytes[static_cast<size_t>(type)]; }

ElementType element_type(const std::string& name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) {
      return static_cast<ElementType>(i);
    }
  }
  check_argument(false, "dtype: expected float32, float16, uint8, int32 or int64, got ", name);
  return ElementType::kFloat32;
}

size_t SequenceReplayOptions::sequences_per_env() const {
  if (max_sequences > 0) {
    return max_sequences / num_envs;
  }
  return rows_per_env() / shape.period + rows_per_env() / (4 * shape.period) + 2;
}

std::vector<VectorSpec> SequenceReplayOptions::sequence_states() const {
  std::vector<VectorSpec> all = states;
  if (unroll_states) {
    all.insert(all.end(), states.begin(), states.end());
  }
  return all;
}

const SequenceReplayOptions& checked_options(const SequenceReplayOptions& o) {
  check_range("num_envs", o.num_envs, 1, kMaxRows);
  check_shape(o.shape);
  const size_t column_bytes = checked_specs("columns", o.columns);
  const size_t state_bytes = checked_specs("states", o.states);
  for (const VectorSpec& spec : o.states) {
    check_argument(spec.type == ElementType::kFloat32 || spec.type == ElementType::kFloat16,
                   "states (", spec.name, "): expected dtype float32 or float16, got ",
                   element_name(spec.type));
  }
  check_sizes(o, column_bytes, state_bytes);
  checked_options(o.draws);
  check_range("threads", o.threads, 1, 256);
  return o;
}

}  // namespace atari_fast
