// What the tests of SequenceReplay share.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "replay/flags.h"
#include "replay/sequence_replay.h"

namespace atari_fast {

/// What a frame, a column and a state carry in their bytes.
struct RowTag {
  int64_t row = 0;
  int32_t env = 0;
  int32_t episode = 0;
  int32_t step = 0;
  int32_t mark = 0;  // never 0 in a frame, so that zeros are told apart

  bool operator==(const RowTag&) const = default;
};
static_assert(sizeof(RowTag) == 24);
inline constexpr size_t kRowTagBytes = sizeof(RowTag);

/// Settings of a replay of `rows` rows per environment, with one column and one state that hold
/// a tag.
inline SequenceReplayOptions sequence_options(size_t num_envs, size_t rows, SequenceShape shape) {
  SequenceReplayOptions o;
  o.num_envs = num_envs;
  o.capacity = num_envs * rows;
  o.frame_bytes = kRowTagBytes;
  o.shape = shape;
  o.draws.alpha = 0.9;
  o.columns = {{"tag", ElementType::kInt64, 3}, {"byte", ElementType::kUint8, 1}};
  o.states = {{"h", ElementType::kFloat32, 6}};
  return o;
}

/// Memory for B sequences.
struct SequenceMemory {
  SequenceMemory(const SequenceReplayOptions& o, size_t size)
      : frames(o.shape.frames() * size * o.frame_bytes, 0xEE),
        actions(o.shape.rows() * size, 99),
        prev_actions(o.shape.rows() * size, 99),
        rewards(o.shape.rows() * size, 99.0f),
        flags(o.shape.rows() * size, 99),
        burn_in(size),
        valid_length(size),
        bootstrap_length(size),
        weights(size),
        ids(size) {
    for (const VectorSpec& spec : o.columns) {
      columns.emplace_back(o.shape.rows() * size * spec.bytes(), std::byte{0xEE});
    }
    for (const VectorSpec& spec : o.sequence_states()) {
      states.emplace_back(size * spec.bytes(), std::byte{0xEE});
    }
  }

  SequenceBatch view() {
    SequenceBatch batch{frames, actions, prev_actions, rewards,          flags,   {},
                        {},     burn_in, valid_length, bootstrap_length, weights, ids};
    batch.columns.assign(columns.begin(), columns.end());
    batch.states.assign(states.begin(), states.end());
    return batch;
  }

  bool operator==(const SequenceMemory&) const = default;

  std::vector<uint8_t> frames;
  std::vector<int64_t> actions;
  std::vector<int64_t> prev_actions;
  std::vector<float> rewards;
  std::vector<uint8_t> flags;
  std::vector<std::vector<std::byte>> columns;
  std::vector<std::vector<std::byte>> states;
  std::vector<int64_t> burn_in;
  std::vector<int64_t> valid_length;
  std::vector<int64_t> bootstrap_length;
  std::vector<float> weights;
  std::vector<int64_t> ids;
};

/// One row of one environment.
struct ScriptRow {
  RowTag tag;
  uint8_t flags = 0;
  float reward = 0.0f;
  int64_t action = 0;
};

/// A stream of episodes for every environment, known in advance: at(env, row).
class SequenceScript {
 public:
  /// Environments whose episodes have the given numbers of steps, over and over, each flagged
  /// `end`.
  SequenceScript(const std::vector<std::vector<size_t>>& steps, size_t rows, uint8_t end) {
    for (const std::vector<size_t>& lengths : steps) {
      size_t episode = 0;
      size_t step = 0;
      std::vector<ScriptRow>& stream = begin_env();
      for (size_t r = 0; r < rows; ++r) {
        const bool last = step == lengths[episode % lengths.size()];
        const auto flags = static_cast<uint8_t>((step == 0 ? kFirst : 0) | (last ? end : 0));
        stream.push_back(make_row(r, episode, step, flags));
        episode += last ? 1 : 0;
        step = last ? 0 : step + 1;
      }
    }
  }

  /// Environments with random episodes: ends of both kinds, cuts without an end, lives lost.
  SequenceScript(size_t num_envs, size_t rows, uint64_t seed) {
    Rng rng(seed);
    for (size_t env = 0; env < num_envs; ++env) {
      std::vector<ScriptRow>& stream = begin_env();
      bool first = true;
      size_t episode = 0;
      size_t step = 0;
      for (size_t r = 0; r < rows; ++r) {
        first = first || rng.below(60) == 0;  // a reset of the pool ends no episode
        episode += first ? 1 : 0;
        step = first ? 0 : step + 1;
        uint8_t flags = first ? kFirst : 0;
        first = false;
        if (!(flags & kFirst)) {
          const uint64_t event = rng.below(25);
          flags |= event == 0 ? kTerminated : event == 1 ? kTruncated : event < 5 ? kLifeLost : 0;
          first = event < 2;
        }
        stream.push_back(make_row(r, episode, step, flags));
      }
    }
  }

  /// The rows of one environment.
  SequenceScript only(size_t env) const {
    SequenceScript script;
    script.rows_ = {rows_[env]};
    return script;
  }

  const ScriptRow& at(size_t env, int64_t row) const {
    return rows_[env][static_cast<size_t>(row)];
  }

  /// Row `row` of every environment.
  std::vector<NewSequence> append(SequenceReplay& replay, size_t row) const {
    std::vector<int64_t> envs(rows_.size());
    std::iota(envs.begin(), envs.end(), 0);
    return append_rows(replay, envs, std::vector<size_t>(envs.size(), row), {});
  }

  /// Row heads[e] of each of the environments, whose heads then advance.
  std::vector<NewSequence> append_some(SequenceReplay& replay, const std::vector<int64_t>& envs,
                                       std::vector<size_t>& heads) const {
    const std::vector<NewSequence> made = append_rows(replay, envs, heads, envs);
    for (const int64_t env : envs) {
      ++heads[static_cast<size_t>(env)];
    }
    return made;
  }

 private:
  SequenceScript() = default;

  std::vector<NewSequence> append_rows(SequenceReplay& replay, const std::vector<int64_t>& envs,
                                       const std::vector<size_t>& heads, const Envs& chosen) const {
    std::vector<RowTag> tags;
    std::vector<uint8_t> bytes;
    std::vector<int64_t> actions;
    std::vector<float> rewards;
    std::vector<uint8_t> flags;
    for (const int64_t env : envs) {
      const ScriptRow& r = rows_[static_cast<size_t>(env)][heads[static_cast<size_t>(env)]];
      tags.push_back(r.tag);
      bytes.push_back(static_cast<uint8_t>(r.tag.step));
      actions.push_back(r.action);
      rewards.push_back(r.reward);
      flags.push_back(r.flags);
    }
    const auto tag_bytes = std::as_bytes(std::span(tags));
    const std::span frames(reinterpret_cast<const uint8_t*>(tag_bytes.data()), tag_bytes.size());
    return replay.append({frames,
                          actions,
                          rewards,
                          flags,
                          {tag_bytes, std::as_bytes(std::span(bytes))},
                          {tag_bytes},
                          chosen});
  }

  std::vector<ScriptRow>& begin_env() { return rows_.emplace_back(); }

  ScriptRow make_row(size_t row, size_t episode, size_t step, uint8_t flags) const {
    const auto env = static_cast<int32_t>(rows_.size()) - 1;
    const auto number = static_cast<int64_t>(row);
    return {RowTag{number, env, static_cast<int32_t>(episode), static_cast<int32_t>(step), 7},
            flags, static_cast<float>((number * 7 + env) % 11) - 5.0f, (number * 5 + env) % 18};
  }

  std::vector<std::vector<ScriptRow>> rows_;
};

/// The start of sequence `i`, told by the frame of its first unroll row.
inline int64_t start_of(const SequenceReplayOptions& o, const SequenceMemory& batch, size_t i) {
  RowTag tag;
  const size_t t = o.shape.stack - 1 + o.shape.burn_in;
  std::memcpy(&tag, batch.frames.data() + (t * batch.ids.size() + i) * kRowTagBytes, kRowTagBytes);
  return tag.row;
}

/// The message of the std::invalid_argument that `call` throws.
inline std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Recomputes sequence `i` of a batch from the script, given the row in which it starts; returns
/// what differs, or nothing.
inline std::string sequence_difference(const SequenceScript& script, const SequenceReplayOptions& o,
                                       const SequenceMemory& batch, size_t i, size_t env,
                                       int64_t start) {
  const SequenceShape& shape = o.shape;
  const int64_t size = static_cast<int64_t>(batch.ids.size());
  const int64_t burn_in = static_cast<int64_t>(shape.burn_in);
  const int64_t stack = static_cast<int64_t>(shape.stack);
  const ScriptRow& first = script.at(env, start);
  const int64_t b = std::min<int64_t>(burn_in, first.tag.step);
  const int64_t end =
      batch.valid_length[i] + batch.bootstrap_length[i];  // relative to start, as all below
  if (batch.burn_in[i] != b || batch.valid_length[i] < 1 || batch.bootstrap_length[i] < 1) {
    return str_cat("start ", start, ": lengths ", batch.burn_in[i], " ", batch.valid_length[i], " ",
                   batch.bootstrap_length[i]);
  }
  const auto tag_at = [](const auto& bytes, int64_t place) {
    RowTag tag;
    std::memcpy(&tag, bytes.data() + static_cast<size_t>(place) * kRowTagBytes, kRowTagBytes);
    return tag;
  };
  for (int64_t k = -burn_in - stack + 1;
       k < static_cast<int64_t>(shape.unroll + shape.bootstrap_steps); ++k) {
    const bool inside = k >= -first.tag.step && k < end;
    const RowTag expected = inside ? script.at(env, start + k).tag : RowTag{};
    if (tag_at(batch.frames, (k + burn_in + stack - 1) * size + static_cast<int64_t>(i)) !=
        expected) {
      return str_cat("start ", start, ": frame ", k, " is wrong");
    }
    if (inside && expected.episode != first.tag.episode) {
      return str_cat("start ", start, ": row ", k, " is of another episode");
    }
    if (k < -burn_in) {
      continue;
    }
    const int64_t place = (k + burn_in) * size + static_cast<int64_t>(i);
    const auto at = static_cast<size_t>(place);
    const bool exists = k >= -b && k < end;
    const ScriptRow row = exists ? script.at(env, start + k) : ScriptRow{};
    const int64_t previous = exists && row.tag.step > 0 ? script.at(env, start + k - 1).action : -1;
    if (batch.actions[at] != row.action || batch.prev_actions[at] != previous ||
        batch.rewards[at] != row.reward || batch.flags[at] != row.flags ||
        tag_at(batch.columns[0], place) != row.tag ||
        batch.columns[1][at] != static_cast<std::byte>(row.tag.step)) {
      return str_cat("start ", start, ": row ", k, " is wrong");
    }
  }
  for (size_t k = 0; k < batch.states.size(); ++k) {
    const int64_t before = k == 0 ? start - b : start;
    const RowTag state = script.at(env, before).tag;
    if (tag_at(batch.states[k], static_cast<int64_t>(i)) != (state.step > 0 ? state : RowTag{})) {
      return str_cat("start ", start, ": state ", k, " is not that before row ", before);
    }
  }
  return "";
}

}  // namespace atari_fast

/// Expects that evaluating `call` throws std::invalid_argument with a message that has `part` in
/// it.
#define EXPECT_REFUSAL(call, part)                                        \
  do {                                                                    \
    const std::string text = refusal([&] { call; });                      \
    EXPECT_NE(text.find(part), std::string::npos) << "message: " << text; \
  } while (false)
