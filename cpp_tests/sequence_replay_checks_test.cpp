// Priorities, wrong arguments and stale ids: what SequenceReplay weighs, refuses and drops.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "replay/sequence_replay.h"
#include "sequence_replay_fixture.h"

namespace atari_fast {
namespace {

constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr SequenceShape kSmall{2, 2, 4, 4, 2, SequenceTail::kShift};

/// A replay of one environment with sequences of starts 0, 4, 8 and 12, ids 0 to 3.
SequenceReplay& fill(SequenceReplay& replay) {
  const SequenceScript script({{1'000'000}}, 20, kTerminated);
  for (size_t row = 0; row < 18; ++row) {
    script.append(replay, row);
  }
  return replay;
}

TEST(SequenceReplay, PrioritiesOfTheSpecification) {
  SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  o.draws.priority_epsilon = 1e-300;
  for (const double mix : {0.0, 0.25}) {
    o.draws.uniform_mix = mix;
    SequenceReplay replay(o);
    fill(replay);
    ASSERT_EQ(replay.num_sequences(), 4U);
    // p = 1.875, which is what |delta| (0.1, 0.5, 2.0, 0.4) give: leaf 1.7607639784.
    EXPECT_EQ(replay.set_priorities(std::vector<int64_t>{0, 1, 2, 3},
                                    std::vector<float>{1.875f, 1.0f, 3.0f, 0.5f}),
              0U);
    std::vector<double> p{1.7607639784, 1.0, std::pow(3.0, 0.9), std::pow(0.5, 0.9)};
    const double total = p[0] + p[1] + p[2] + p[3];
    double rarest = 1.0;
    for (double& x : p) {
      x = (1.0 - mix) * x / total + mix / 4.0;
      rarest = std::min(rarest, x);
    }
    constexpr size_t kSize = 500;
    std::vector<double> counts(4, 0.0);
    SequenceMemory batch(o, kSize);
    for (int k = 0; k < 200; ++k) {
      replay.sample(0.6, batch.view());
      for (size_t i = 0; i < kSize; ++i) {
        const auto id = static_cast<size_t>(batch.ids[i]);
        counts[id] += 1.0;
        ASSERT_NEAR(batch.weights[i], std::pow(rarest / p[id], 0.6), 1e-6);
      }
    }
    double chi = 0.0;
    for (size_t i = 0; i < 4; ++i) {
      const double expected = p[i] * kSize * 200;
      chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi, 21.1);  // 3 degrees of freedom, p = 1e-4
  }
}

TEST(SequenceReplay, WeightsOverTheBufferKnowTheRarestSequence) {
  SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  o.draws.buffer_max_weights = true;
  o.draws.priority_epsilon = 1e-300;
  o.draws.alpha = 1.0;
  SequenceReplay replay(o);
  fill(replay);
  replay.set_priorities(std::vector<int64_t>{0, 1, 2, 3},
                        std::vector<float>{1e-9f, 1.0f, 2.0f, 4.0f});
  SequenceMemory batch(o, 3);
  replay.sample(0.5, batch.view());
  for (size_t i = 0; i < 3; ++i) {
    const double p = std::pow(2.0, static_cast<double>(batch.ids[i] - 1));
    EXPECT_NEAR(batch.weights[i] / std::sqrt(1e-9 / p), 1.0, 1e-6);
  }
}

TEST(SequenceReplay, NewSequencesGetTheLargestPrioritySeen) {
  SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  SequenceReplay replay(o);
  fill(replay);
  const std::vector<int64_t> all{0, 1, 2, 3};
  replay.set_priorities(all, std::vector<float>(4, 10.0f));
  replay.set_priorities(all, std::vector<float>(4, 0.0f));
  const SequenceScript script({{1'000'000}}, 30, kTerminated);
  for (size_t row = 18; row < 22; ++row) {
    script.append(replay, row);
  }
  SequenceMemory batch(o, 100);
  replay.sample(0.0, batch.view());
  EXPECT_EQ(batch.ids, std::vector<int64_t>(100, 4));  // priority 10 beside 1e-6
}

TEST(SequenceReplay, SequencesWhoseFramesAreGoneAreDroppedAndCounted) {
  const SequenceReplayOptions o = sequence_options(1, 12, kSmall);
  SequenceReplay replay(o);
  fill(replay);  // rows 6 to 17 are kept: start 12 needs row 9, start 8 row 5
  EXPECT_EQ(replay.num_sequences(), 1U);
  const auto set = [&](std::vector<int64_t> ids) {
    return replay.set_priorities(ids, std::vector<float>(ids.size(), 5.0f));
  };
  EXPECT_EQ(set({}), 0U);
  EXPECT_EQ(set({3}), 0U);
  EXPECT_EQ(set({0, 3, 1, 2, 0}), 4U);
  EXPECT_REFUSAL(set({3, 4}), "ids[1]");
  EXPECT_REFUSAL(set({-1}), "ids[0]");
}

TEST(SequenceReplay, BadSequencePrioritiesChangeNothing) {
  const SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  SequenceReplay replay(o);
  SequenceReplay reference(o);
  fill(replay);
  fill(reference);
  const std::vector<int64_t> ids{0, 1};
  for (const float bad : {kNanF, kInfF, -kInfF, -1.0f, -1e-45f}) {
    EXPECT_REFUSAL(replay.set_priorities(ids, std::vector<float>{9.0f, bad}), "priorities[1]");
  }
  EXPECT_REFUSAL(replay.set_priorities(std::vector<int64_t>{0, 4}, std::vector<float>{9.0f, 9.0f}),
                 "ids[1]");
  EXPECT_REFUSAL(replay.set_priorities(ids, std::vector<float>{9.0f}), "priorities");
  SequenceMemory a(o, 50);
  SequenceMemory b(o, 50);
  replay.sample(0.5, a.view());
  reference.sample(0.5, b.view());
  EXPECT_TRUE(a == b);
}

TEST(SequenceReplay, UniformSequencesHaveNoPriorities) {
  SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  o.draws.prioritized = false;
  SequenceReplay replay(o);
  fill(replay);
  SequenceMemory batch(o, 8);
  replay.sample(0.7, batch.view());
  for (const int64_t id : batch.ids) {
    EXPECT_TRUE(0 <= id && id < 4) << id;
  }
  EXPECT_EQ(batch.weights, std::vector<float>(8, 1.0f));
  EXPECT_REFUSAL(replay.set_priorities(std::vector<int64_t>{0}, std::vector<float>{1.0f}),
                 "uniform");
}

TEST(SequenceReplay, RefusesBadOptions) {
  const auto refused = [](const std::string& part, const auto& change) {
    SequenceReplayOptions o = sequence_options(2, 50, kSmall);
    change(o);
    EXPECT_REFUSAL(SequenceReplay{o}, part);
    EXPECT_REFUSAL(static_cast<void>(SequenceReplay::memory_bytes(o)), part);
  };
  using O = SequenceReplayOptions;
  constexpr size_t kHuge = std::numeric_limits<size_t>::max();
  refused("num_envs", [](O& o) { o.num_envs = 0; });
  refused("num_envs", [](O& o) { o.num_envs = kHuge; });
  refused("stack", [](O& o) { o.shape.stack = 0; });
  refused("stack", [](O& o) { o.shape.stack = kHuge; });
  refused("burn_in", [](O& o) { o.shape.burn_in = kHuge; });
  refused("unroll", [](O& o) { o.shape.unroll = 0; });
  refused("unroll", [](O& o) { o.shape.unroll = kHuge; });
  refused("period", [](O& o) { o.shape.period = 0; });
  refused("period", [](O& o) { o.shape.period = 5; });
  refused("bootstrap_steps", [](O& o) { o.shape.bootstrap_steps = 0; });
  refused("bootstrap_steps", [](O& o) { o.shape.bootstrap_steps = kHuge; });
  refused("frame_bytes", [](O& o) { o.frame_bytes = 0; });
  refused("frame_bytes", [](O& o) { o.frame_bytes = kHuge; });
  refused("capacity", [](O& o) { o.capacity = 0; });
  refused("capacity", [](O& o) { o.capacity = 2 * o.shape.frames() + 1; });
  refused("capacity", [](O& o) { o.capacity = kHuge; });
  refused("max_sequences", [](O& o) { o.max_sequences = 1; });
  refused("max_sequences", [](O& o) { o.max_sequences = kHuge; });
  refused("columns[1]", [](O& o) { o.columns[1].width = 0; });
  refused("columns[1]", [](O& o) { o.columns[1].width = kHuge; });
  refused("columns[1]", [](O& o) { o.columns[1].name = "tag"; });
  refused("columns[0]", [](O& o) { o.columns[0].name = ""; });
  refused("states[0]", [](O& o) { o.states[0].width = 0; });
  refused("states (h)", [](O& o) { o.states[0].type = ElementType::kInt64; });
  refused("threads", [](O& o) { o.threads = 0; });
  refused("threads", [](O& o) { o.threads = 257; });
  for (const double bad : {double{kNanF}, double{kInfF}, -0.1}) {
    refused("alpha", [&](O& o) { o.draws.alpha = bad; });
    refused("priority_epsilon", [&](O& o) { o.draws.priority_epsilon = bad; });
    refused("uniform_mix", [&](O& o) { o.draws.uniform_mix = bad; });
  }
  // The tree would refuse its power, in the middle of an append.
  refused("priority_epsilon", [](O& o) { o.draws.priority_epsilon = 1e300; });
  EXPECT_REFUSAL(static_cast<void>(element_type("float64")), "float64");
}

TEST(SequenceReplay, RefusesBadRowsAndBatches) {
  const SequenceReplayOptions o = sequence_options(1, 60, kSmall);
  SequenceReplay replay(o);
  SequenceMemory batch(o, 4);
  EXPECT_REFUSAL(replay.sample(0.4, batch.view()), "no sequence");
  const std::vector<uint8_t> frame(kRowTagBytes);
  const std::vector<std::byte> bytes(kRowTagBytes);
  std::vector<int64_t> action{0};
  std::vector<float> reward{0.0f};
  const std::vector<uint8_t> flags{kFirst};
  const auto append = [&](const auto& change) {
    SequenceRows rows{frame, action, reward, flags, {bytes, std::span(bytes).first(1)}, {bytes}};
    change(rows);
    replay.append(rows);
  };
  using R = SequenceRows;
  EXPECT_REFUSAL(append([](R& r) { r.frames = r.frames.first(3); }), "frames");
  EXPECT_REFUSAL(append([](R& r) { r.actions = {}; }), "actions");
  EXPECT_REFUSAL(append([](R& r) { r.columns.pop_back(); }), "columns");
  EXPECT_REFUSAL(append([](R& r) { r.columns[1] = {}; }), "columns[1] (byte)");
  EXPECT_REFUSAL(append([](R& r) { r.states[0] = r.states[0].first(3); }), "states[0] (h)");
  for (const float bad : {kNanF, kInfF}) {
    reward[0] = bad;
    EXPECT_REFUSAL(append([](R&) {}), "rewards[0]");
  }
  reward[0] = 0.0f;
  for (const int64_t bad : {-1, 256}) {
    action[0] = bad;
    EXPECT_REFUSAL(append([](R&) {}), "actions[0]");
  }
  EXPECT_EQ(replay.num_rows(), 0);
  fill(replay);
  for (const double beta : {-0.1, double{kNanF}, double{kInfF}}) {
    EXPECT_REFUSAL(replay.sample(beta, batch.view()), "beta");
  }
  const auto sample = [&](const auto& change) {
    SequenceBatch view = batch.view();
    change(view);
    replay.sample(0.4, view);
  };
  using B = SequenceBatch;
  EXPECT_REFUSAL(sample([](B& b) { b.ids = {}; }), "batch");
  EXPECT_REFUSAL(sample([](B& b) { b.frames = b.frames.first(9); }), "batch");
  EXPECT_REFUSAL(sample([](B& b) { b.prev_actions = b.prev_actions.first(9); }), "batch");
  EXPECT_REFUSAL(sample([](B& b) { b.bootstrap_length = b.bootstrap_length.first(3); }), "batch");
  EXPECT_REFUSAL(sample([](B& b) { b.columns[1] = {}; }), "columns");
  EXPECT_REFUSAL(sample([](B& b) { b.states.clear(); }), "states");
  EXPECT_REFUSAL(sample([](B& b) { b.states.push_back(b.states[0]); }), "states");
}

TEST(SequenceReplay, RefusesEnvsThatAreNoneOrComeTwice) {
  SequenceReplay replay(sequence_options(3, 60, kSmall));
  const std::vector<uint8_t> frames(3 * kRowTagBytes);
  const std::vector<std::byte> bytes(3 * kRowTagBytes);
  const std::vector<int64_t> actions(3);
  const std::vector<float> rewards(3);
  const std::vector<uint8_t> flags(3);
  const auto append = [&](const std::vector<int64_t>& envs, size_t n) {
    const auto tags = std::span(bytes).first(n * kRowTagBytes);
    replay.append({std::span(frames).first(n * kRowTagBytes),
                   std::span(actions).first(n),
                   std::span(rewards).first(n),
                   std::span(flags).first(n),
                   {tags, tags.first(n)},
                   {tags},
                   envs});
  };
  EXPECT_REFUSAL(append({0, 3}, 2), "envs[1]: expected an environment from 0 to 2, got 3");
  EXPECT_REFUSAL(append({-1}, 1), "envs[0]: expected an environment from 0 to 2, got -1");
  EXPECT_REFUSAL(append({2, 0, 2}, 3), "envs[2]: expected every environment at most once, got 2");
  EXPECT_REFUSAL(append({0, 1}, 3), "frames: expected 48 bytes, got 72");
  EXPECT_EQ(replay.num_rows(), 0);
  append({}, 0);
  append({2, 1}, 2);
  append({2}, 1);
  EXPECT_EQ(replay.num_rows(), 3);
}

// Frames that do not compress make all sequences in the least memory that is not refused.
TEST(SequenceReplay, RefusesAFrameMemoryThatNoSequenceFitsInto) {
  SequenceReplayOptions o = sequence_options(2, 1000, {4, 40, 80, 40, 5, SequenceTail::kShift});
  o.frame_bytes = 7056;
  o.columns.clear();
  o.states.clear();
  constexpr size_t kLeast = 2 * 9 * 114'688;  // 8 full chunks of 16 frames hold 128
  for (const size_t less : {size_t{1}, kLeast - 1}) {
    o.frame_memory = less;
    EXPECT_REFUSAL(SequenceReplay{o}, "frame_memory: expected 0 or at least 2064384 bytes");
    EXPECT_REFUSAL(static_cast<void>(SequenceReplay::memory_bytes(o)), "frame_memory");
  }
  o.frame_memory = kLeast;
  SequenceReplay replay(o);
  Rng rng(1);
  std::vector<uint8_t> noise(2 * o.frame_bytes);
  size_t made = 0;
  for (size_t row = 0; row < 1000; ++row) {
    for (uint8_t& byte : noise) {
      byte = static_cast<uint8_t>(rng.next());
    }
    const std::vector<uint8_t> flags(2, row == 0 ? kFirst : 0);
    const std::vector<int64_t> actions(2);
    const std::vector<float> rewards(2);
    made += replay.append({noise, actions, rewards, flags, {}, {}}).size();
  }
  EXPECT_EQ(made, 2U * 23);
}

TEST(SequenceReplay, MemoryIsWhatItsPartsTake) {
  SequenceReplayOptions o = sequence_options(2, 50, kSmall);
  const size_t places = 50 / 4 + 50 / 16 + 2;
  EXPECT_EQ(o.sequences_per_env(), places);
  const size_t frames = FrameStore::memory_bytes({2, 50, kRowTagBytes, o.row_bytes});
  const size_t tree = SumTree::memory_bytes(2 * places, false);
  EXPECT_EQ(SequenceReplay::memory_bytes(o), frames + 2 * 51 * (6U + 25U) +
                                                 (2 * places + 2U * 8) * 24 +
                                                 2 * places * sizeof(Sequence) + tree);
  EXPECT_LE(SequenceReplay(o).bytes_used(), SequenceReplay::memory_bytes(o));
  const size_t without = SequenceReplay::memory_bytes(o);
  o.unroll_states = true;
  EXPECT_EQ(SequenceReplay::memory_bytes(o), without + 2 * places * 24);
}

}  // namespace
}  // namespace atari_fast
