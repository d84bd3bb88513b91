// What the tests of TransitionReplay share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "replay/transition_replay.h"

namespace atari_fast {

inline constexpr size_t kTagBytes = 24;

/// Memory for B transitions.
struct ReplayBatch {
  ReplayBatch(const TransitionReplayOptions& o, size_t size)
      : frames(size * (o.stack + o.n_step) * o.frame_bytes, 0xEE),
        actions(size),
        rewards(size),
        discounts(size),
        steps(size),
        weights(size),
        ids(size) {}

  TransitionBatch view() { return {frames, actions, rewards, discounts, steps, weights, ids}; }

  std::vector<uint8_t> frames;
  std::vector<int64_t> actions;
  std::vector<float> rewards;
  std::vector<float> discounts;
  std::vector<int64_t> steps;
  std::vector<float> weights;
  std::vector<int64_t> ids;
};

/// Settings of a replay of `rows` rows per environment.
inline TransitionReplayOptions replay_options(size_t num_envs, size_t rows, size_t stack,
                                              size_t n_step) {
  TransitionReplayOptions o;
  o.num_envs = num_envs;
  o.capacity = num_envs * rows;
  o.frame_bytes = kTagBytes;
  o.stack = stack;
  o.n_step = n_step;
  o.gamma = 0.997;
  o.draws.prioritized = false;
  return o;
}

/// Appends rows of one environment and one long episode until rows 0 to `starts` - 1 have been
/// starts.
inline void fill_replay(TransitionReplay& replay, size_t starts) {
  for (size_t row = 0; row < starts + replay.options().n_step; ++row) {
    const std::vector<uint8_t> frame(replay.options().frame_bytes, static_cast<uint8_t>(row));
    replay.append(frame, std::vector<int64_t>{1}, std::vector<float>{1.0f},
                  std::vector<uint8_t>{static_cast<uint8_t>(row == 0 ? kFirst : 0)});
  }
}

/// The message of the std::invalid_argument that `call` throws.
inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace atari_fast

/// Expects that evaluating `call` throws std::invalid_argument with a message that has `part` in
/// it.
#define EXPECT_REFUSED(call, part)                                        \
  do {                                                                    \
    const std::string text = message_of([&] { call; });                   \
    EXPECT_NE(text.find(part), std::string::npos) << "message: " << text; \
  } while (false)
