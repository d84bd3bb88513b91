// Wrong arguments and stale ids: what TransitionReplay refuses, drops and leaves as it was.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "replay/transition_replay.h"
#include "transition_replay_fixture.h"

namespace atari_fast {
namespace {

constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();

TEST(TransitionReplay, StaleIdsAreDroppedAndCounted) {
  TransitionReplayOptions o = replay_options(1, 8, 2, 1);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  fill_replay(replay, 20);  // rows 0 to 20: 13 to 20 are kept, starts 14 to 19
  EXPECT_EQ(replay.num_valid(), 6U);
  EXPECT_EQ(replay.num_rows(), 21);
  const auto dropped = [&](std::vector<int64_t> ids) {
    return replay.update_priorities(ids, std::vector<float>(ids.size(), 5.0f));
  };
  EXPECT_EQ(dropped({}), 0U);
  EXPECT_EQ(dropped({14, 15, 16, 17, 18, 19}), 0U);
  EXPECT_EQ(dropped({13}), 1U);               // its stack is gone
  EXPECT_EQ(dropped({20}), 1U);               // its window is open
  EXPECT_EQ(dropped({6, 14, 0, 14, 7}), 3U);  // 6 is where 14 is now
  EXPECT_REFUSED(dropped({14, 21}), "ids[1]");
  EXPECT_REFUSED(dropped({-1}), "ids[0]");
}

TEST(TransitionReplay, AnIdOfARowThatAnEnvDoesNotHaveYetIsRefused) {
  TransitionReplayOptions o = replay_options(2, 8, 1, 1);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  for (int row = 0; row < 3; ++row) {
    replay.append(std::vector<uint8_t>(kTagBytes), std::vector<int64_t>{1},
                  std::vector<float>{0.0f}, std::vector<uint8_t>{0}, std::vector<int64_t>{1});
  }
  const auto update = [&](int64_t id) {
    return replay.update_priorities(std::vector<int64_t>{id}, std::vector<float>{1.0f});
  };
  EXPECT_EQ(replay.valid_ids(), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(update(3), 0U);
  EXPECT_EQ(update(5), 1U);  // its window is open
  EXPECT_REFUSED(update(7), "ids[0]");
  EXPECT_REFUSED(update(0), "ids[0]");  // of the environment without rows
  ReplayBatch batch(o, 1);
  batch.ids = {2};
  EXPECT_REFUSED(replay.read(batch.view()), "ids[0]");
}

TEST(TransitionReplay, ReadsNothingForAnIdThatCannotBeDrawn) {
  TransitionReplayOptions o = replay_options(1, 8, 2, 1);
  TransitionReplay replay(o);
  EXPECT_TRUE(replay.valid_ids().empty());
  fill_replay(replay, 20);  // rows 0 to 20: 13 to 20 are kept, starts 14 to 19
  EXPECT_EQ(replay.valid_ids(), (std::vector<int64_t>{14, 15, 16, 17, 18, 19}));
  ReplayBatch batch(o, 3);
  const std::vector<uint8_t> untouched = batch.frames;
  // Overwritten, its stack gone, its window open, never given.
  for (const int64_t bad : {6, 13, 20, 21, -1}) {
    batch.ids = {19, bad, 14};
    EXPECT_REFUSED(replay.read(batch.view()), "ids[1]");
    EXPECT_EQ(batch.frames, untouched);
  }
  batch.ids = {19, 14, 19};
  replay.read(batch.view());
  for (const size_t i : {0U, 1U, 2U}) {  // frames are filled with their row's number
    EXPECT_EQ(batch.frames[(i * 3 + 1) * kTagBytes], i == 1 ? 14 : 19);
  }
  EXPECT_EQ(batch.weights, (std::vector<float>{1.0f, 1.0f, 1.0f}));
  ReplayBatch empty(o, 0);
  EXPECT_REFUSED(replay.read(empty.view()), "batch");
  batch.steps.pop_back();
  EXPECT_REFUSED(replay.read(batch.view()), "batch");
}

TEST(TransitionReplay, BadPrioritiesChangeNothing) {
  TransitionReplayOptions o = replay_options(1, 64, 1, 1);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  fill_replay(replay, 4);
  TransitionReplay reference(o);
  fill_replay(reference, 4);
  for (const float bad : {kNanF, kInfF, -kInfF, -1.0f, -1e-45f}) {
    EXPECT_REFUSED(replay.update_priorities(std::vector<int64_t>{0, 1, 2},
                                            std::vector<float>{9.0f, 9.0f, bad}),
                   "priorities[2]");
  }
  EXPECT_REFUSED(
      replay.update_priorities(std::vector<int64_t>{0, 4'000}, std::vector<float>{9.0f, 9.0f}),
      "ids[1]");
  EXPECT_REFUSED(replay.update_priorities(std::vector<int64_t>{0}, std::vector<float>{}),
                 "priorities");
  ReplayBatch a(o, 100);
  ReplayBatch b(o, 100);
  replay.sample(0.5, a.view());
  reference.sample(0.5, b.view());
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.weights, b.weights);
}

TEST(TransitionReplay, AllZeroPrioritiesAreDrawnEvenly) {
  TransitionReplayOptions o = replay_options(1, 64, 1, 1);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  fill_replay(replay, 8);
  std::vector<int64_t> ids(8);
  for (size_t i = 0; i < 8; ++i) {
    ids[i] = static_cast<int64_t>(i);
  }
  EXPECT_EQ(replay.update_priorities(ids, std::vector<float>(8, 0.0f)), 0U);
  EXPECT_EQ(replay.num_valid(), 8U);
  ReplayBatch batch(o, 8);
  replay.sample(1.0, batch.view());
  EXPECT_EQ(batch.ids, ids);
}

// Environments deliver a first row after every end; a stream that does not still mixes no rewards.
TEST(TransitionReplay, AnEndWithoutAFirstRowStillEndsTheWindow) {
  for (const uint8_t end : {kTerminated, kTruncated}) {
    TransitionReplayOptions o = replay_options(1, 32, 1, 3);
    o.draws.prioritized = true;  // one draw from each segment
    TransitionReplay replay(o);
    for (const uint8_t flags : {kFirst, uint8_t{0}, end, uint8_t{0}, uint8_t{0}, uint8_t{0}}) {
      replay.append(std::vector<uint8_t>(kTagBytes), std::vector<int64_t>{0},
                    std::vector<float>{1.0f}, std::vector<uint8_t>{flags});
    }
    ASSERT_EQ(replay.num_valid(), 2U);
    ReplayBatch batch(o, 2);
    replay.sample(0.0, batch.view());
    EXPECT_EQ(batch.ids, (std::vector<int64_t>{0, 1}));
    EXPECT_EQ(batch.steps, (std::vector<int64_t>{2, 1}));
  }
}

TEST(TransitionReplay, RefusesBadOptions) {
  const auto refused = [](const std::string& part, const auto& change) {
    TransitionReplayOptions o = replay_options(2, 50, 4, 3);
    change(o);
    EXPECT_REFUSED(TransitionReplay{o}, part);
  };
  using O = TransitionReplayOptions;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  refused("num_envs", [](O& o) { o.num_envs = 0; });
  refused("stack", [](O& o) { o.stack = 0; });
  refused("n_step", [](O& o) { o.n_step = 0; });
  refused("frame_bytes", [](O& o) { o.frame_bytes = 0; });
  refused("capacity", [](O& o) { o.capacity = 0; });
  refused("capacity", [](O& o) { o.capacity = 15; });
  refused("capacity", [](O& o) { o.n_step = 46; });
  refused("capacity", [](O& o) { o.n_step = std::numeric_limits<size_t>::max() - 3; });
  refused("capacity", [](O& o) { o.capacity = std::numeric_limits<size_t>::max(); });
  refused("capacity", [](O& o) { o.capacity = size_t{1} << 60; });
  refused("frame_bytes", [](O& o) { o.frame_bytes = size_t{1} << 62; });
  refused("frame_bytes", [](O& o) { o.frame_bytes = std::numeric_limits<size_t>::max(); });
  for (const double bad : {nan, inf, -0.1}) {
    refused("gamma", [&](O& o) { o.gamma = bad; });
    refused("reward_clip", [&](O& o) { o.reward_clip = bad; });
    refused("alpha", [&](O& o) { o.draws.alpha = bad; });
    refused("priority_epsilon", [&](O& o) { o.draws.priority_epsilon = bad; });
    refused("uniform_mix", [&](O& o) { o.draws.uniform_mix = bad; });
  }
  refused("priority_epsilon", [](O& o) { o.draws.priority_epsilon = 0.0; });
}

TEST(TransitionReplay, RefusesBadRowsAndBatches) {
  TransitionReplayOptions o = replay_options(1, 16, 1, 1);
  TransitionReplay replay(o);
  ReplayBatch batch(o, 4);
  EXPECT_REFUSED(replay.sample(0.4, batch.view()), "no transition");
  const std::vector<uint8_t> frame(kTagBytes);
  const auto append = [&](std::vector<int64_t> a, std::vector<float> r, std::vector<uint8_t> f) {
    replay.append(frame, a, r, f);
  };
  EXPECT_REFUSED(append({-1}, {0.0f}, {0}), "actions[0]");
  EXPECT_REFUSED(append({256}, {0.0f}, {0}), "actions[0]");
  EXPECT_REFUSED(append({0}, {kNanF}, {0}), "rewards[0]");
  EXPECT_REFUSED(append({0}, {-kInfF}, {0}), "rewards[0]");
  EXPECT_REFUSED(append({0, 0}, {0.0f}, {0}), "actions");
  EXPECT_REFUSED(replay.append(std::vector<uint8_t>(kTagBytes - 1), std::vector<int64_t>{0},
                               std::vector<float>{0.0f}, std::vector<uint8_t>{0}),
                 "frames");
  EXPECT_EQ(replay.num_rows(), 0);
  append({255}, {0.0f}, {kFirst});
  append({0}, {0.0f}, {0});
  for (const double beta : {-0.1, double{kNanF}, double{kInfF}}) {
    EXPECT_REFUSED(replay.sample(beta, batch.view()), "beta");
  }
  TransitionBatch small = batch.view();
  small.weights = small.weights.first(3);
  EXPECT_REFUSED(replay.sample(0.4, small), "batch");
  ReplayBatch none(o, 0);
  EXPECT_REFUSED(replay.sample(0.4, none.view()), "batch");
  EXPECT_REFUSED(replay.update_priorities(std::vector<int64_t>{0}, std::vector<float>{1.0f}),
                 "uniform");
  replay.sample(0.4, batch.view());
  EXPECT_EQ(batch.actions[0], 255);
}

TEST(TransitionReplay, RefusesEnvsThatAreNoneOrComeTwice) {
  TransitionReplay replay(replay_options(3, 16, 1, 1));
  const auto append = [&](const std::vector<int64_t>& envs, size_t rows) {
    replay.append(std::vector<uint8_t>(rows * kTagBytes), std::vector<int64_t>(rows),
                  std::vector<float>(rows), std::vector<uint8_t>(rows), envs);
  };
  EXPECT_REFUSED(append({0, 3}, 2), "envs[1]: expected an environment from 0 to 2, got 3");
  EXPECT_REFUSED(append({-1}, 1), "envs[0]: expected an environment from 0 to 2, got -1");
  EXPECT_REFUSED(append({2, 0, 2}, 3), "envs[2]: expected every environment at most once, got 2");
  EXPECT_REFUSED(append({0, 1}, 3), "frames: expected 48 bytes, got 72");
  EXPECT_REFUSED(
      replay.append(std::vector<uint8_t>(2 * kTagBytes), std::vector<int64_t>(2),
                    std::vector<float>(3), std::vector<uint8_t>(2), std::vector<int64_t>{0, 1}),
      "actions, rewards and flags: expected 2 of each, got 2, 3 and 2");
  EXPECT_EQ(replay.num_rows(), 0);
  append({}, 0);
  EXPECT_EQ(replay.num_rows(), 0);
  append({2}, 1);
  append({2, 1}, 2);
  EXPECT_EQ(replay.num_rows(), 3);
  EXPECT_EQ(replay.valid_ids(), std::vector<int64_t>{2});
}

// Frames that hardly compress, every other chunk of them by a key frame in the chunk before, in a
// memory that holds few: more rows go at once than are left beside a stack, and none is counted
// twice.
TEST(TransitionReplay, RowsThatGoInLeapsAreCountedOnce) {
  TransitionReplayOptions o = replay_options(1, 70, 47, 1);
  o.frame_bytes = 7056;
  o.frame_memory = 1;
  TransitionReplay replay(o);
  Rng rng(1);
  std::vector<uint8_t> noise(o.frame_bytes);
  ReplayBatch batch(o, 2);
  for (size_t row = 0; row < 400; ++row) {
    for (size_t i = row == 0 ? 0 : 1'500; i < noise.size(); ++i) {
      noise[i] = static_cast<uint8_t>(rng.next());
    }
    replay.append(noise, std::vector<int64_t>{0}, std::vector<float>{0.0f},
                  std::vector<uint8_t>{static_cast<uint8_t>(row == 0 ? kFirst : 0)});
    ASSERT_LE(replay.num_valid(), 70U) << row;
    if (replay.num_valid() > 0) {
      replay.sample(0.5, batch.view());
    }
  }
}

// Frames that stay take a byte each, so one chunk of memory that goes takes thousands of rows
// along.
TEST(TransitionReplay, ThousandsOfRowsThatGoAtOnceAreNoStartsAnyMore) {
  TransitionReplayOptions o = replay_options(1, 200'000, 1, 1);
  o.frame_memory = 1;
  TransitionReplay replay(o);
  FrameStore frames({1, 200'000, kTagBytes, o.row_bytes, 1});
  const std::vector<uint8_t> frame(kTagBytes);
  for (int64_t row = 0; row < 90'000; ++row) {
    replay.append(frame, std::vector<int64_t>{0}, std::vector<float>{0.0f},
                  std::vector<uint8_t>{static_cast<uint8_t>(row == 0 ? kFirst : 0)});
    frames.append(0, frame.data());
    ASSERT_EQ(replay.num_valid(), static_cast<size_t>(row - frames.first_row(0))) << row;
  }
  EXPECT_GT(frames.first_row(0), 10'000);
  ReplayBatch batch(o, 1'000);
  replay.sample(0.0, batch.view());
  for (size_t i = 0; i < 1'000; ++i) {
    ASSERT_GE(batch.ids[i], frames.first_row(0));
  }
}

// Chunks hold 16 frames that do not compress, and an environment keeps three full ones at least.
TEST(TransitionReplay, RefusesAFrameMemoryThatNoTransitionFitsInto) {
  TransitionReplayOptions o = replay_options(2, 100, 46, 3);
  o.frame_bytes = 7056;
  o.frame_memory = 1;
  EXPECT_EQ(TransitionReplay(o).num_rows(), 0);
  o.n_step = 4;
  EXPECT_REFUSED(TransitionReplay{o}, "frame_memory: expected 0 or at least 1146880 bytes");
  EXPECT_REFUSED(static_cast<void>(TransitionReplay::memory_bytes(o)), "frame_memory");
  o.frame_memory = 1'146'880;
  EXPECT_EQ(TransitionReplay(o).num_rows(), 0);
}

TEST(TransitionReplay, MemoryIsWhatItsPartsTake) {
  TransitionReplayOptions o = replay_options(1, 1000, 4, 3);
  const FrameStoreOptions frames{1, 1000, kTagBytes, 1};
  const size_t tree = (1000U + 128 + 16 + 8) * 8;
  EXPECT_EQ(TransitionReplay::memory_bytes(o), FrameStore::memory_bytes(frames) + 1000U * 6 + tree);
  o.draws.buffer_max_weights = true;
  EXPECT_EQ(TransitionReplay::memory_bytes(o),
            FrameStore::memory_bytes(frames) + 1000U * 6 + 2 * tree);
  EXPECT_LE(TransitionReplay(o).bytes_used(), TransitionReplay::memory_bytes(o));
  o.capacity = size_t{1} << 62;
  o.frame_bytes = 4;
  EXPECT_REFUSED(static_cast<void>(TransitionReplay::memory_bytes(o)), "capacity");
}

}  // namespace
}  // namespace atari_fast
