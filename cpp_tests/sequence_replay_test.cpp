#include "replay/sequence_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sequence_replay_fixture.h"
#include "snapshot_fixture.h"

namespace atari_fast {
namespace {

constexpr SequenceShape kR2d2{4, 40, 80, 40, 5, SequenceTail::kShift};

struct Cut {
  int64_t made = 0;  // row whose arrival made it
  int64_t start = 0;
  int64_t valid_length = 0;
  int64_t bootstrap_length = 0;

  bool operator==(const Cut&) const = default;
};

void PrintTo(const Cut& cut, std::ostream* out) {
  *out << "{" << cut.made << ", " << cut.start << ", " << cut.valid_length << ", "
       << cut.bootstrap_length << "}";
}

/// The sequences of one episode of `steps` steps that begins with row 0, and that all are right.
std::vector<Cut> cuts(SequenceShape shape, size_t steps, SequenceTail tail, uint8_t end) {
  shape.tail = tail;
  const SequenceReplayOptions o = sequence_options(1, 400, shape);
  SequenceReplay replay(o);
  const SequenceScript script({{steps, 1'000'000}}, steps + 2, end);
  std::vector<Cut> found;
  // One row more where no flag tells the end: the next episode's first.
  for (size_t row = 0; row < steps + (end == 0 ? 2 : 1); ++row) {
    for (const NewSequence& made : script.append(replay, row)) {
      EXPECT_EQ(made.env, 0);
      EXPECT_EQ(made.id, static_cast<int64_t>(found.size()));
      found.push_back({static_cast<int64_t>(row), made.start, made.valid_length, 0});
    }
  }
  EXPECT_EQ(replay.num_sequences(), found.size());
  if (found.empty()) {
    return found;
  }
  SequenceMemory batch(o, found.size());  // stratified draws of equal weights: each once
  replay.sample(0.0, batch.view());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(batch.ids[i], static_cast<int64_t>(i));
    EXPECT_EQ(batch.valid_length[i], found[i].valid_length);
    EXPECT_EQ(sequence_difference(script, o, batch, i, 0, found[i].start), "");
    found[i].bootstrap_length = batch.bootstrap_length[i];
  }
  return found;
}

using Cuts = std::vector<Cut>;

TEST(SequenceReplay, ShiftedTailsWorkedByHand) {
  for (const uint8_t end : {kTerminated, kTruncated}) {
    const auto shift = [&](size_t steps) { return cuts(kR2d2, steps, SequenceTail::kShift, end); };
    EXPECT_EQ(shift(0), Cuts{});
    EXPECT_EQ(shift(1), (Cuts{{1, 0, 1, 1}}));
    EXPECT_EQ(shift(7), (Cuts{{7, 0, 7, 1}}));
    EXPECT_EQ(shift(79), (Cuts{{79, 0, 79, 1}}));
    EXPECT_EQ(shift(80), (Cuts{{80, 0, 80, 1}}));
    EXPECT_EQ(shift(81), (Cuts{{81, 0, 80, 2}, {81, 1, 80, 1}}));
    EXPECT_EQ(shift(84), (Cuts{{84, 0, 80, 5}, {84, 4, 80, 1}}));
    EXPECT_EQ(shift(95), (Cuts{{84, 0, 80, 5}, {95, 15, 80, 1}}));
    EXPECT_EQ(shift(120), (Cuts{{84, 0, 80, 5}, {120, 40, 80, 1}}));
    EXPECT_EQ(shift(122), (Cuts{{84, 0, 80, 5}, {122, 40, 80, 3}, {122, 42, 80, 1}}));
    EXPECT_EQ(shift(130), (Cuts{{84, 0, 80, 5}, {124, 40, 80, 5}, {130, 50, 80, 1}}));
  }
}

TEST(SequenceReplay, MaskedTailsWorkedByHand) {
  for (const uint8_t end : {kTerminated, kTruncated}) {
    const auto mask = [&](size_t steps) { return cuts(kR2d2, steps, SequenceTail::kMask, end); };
    EXPECT_EQ(mask(0), Cuts{});
    EXPECT_EQ(mask(1), (Cuts{{1, 0, 1, 1}}));
    EXPECT_EQ(mask(40), (Cuts{{40, 0, 40, 1}}));
    EXPECT_EQ(mask(60), (Cuts{{60, 0, 60, 1}, {60, 40, 20, 1}}));
    EXPECT_EQ(mask(80), (Cuts{{80, 0, 80, 1}, {80, 40, 40, 1}}));
    EXPECT_EQ(mask(81), (Cuts{{81, 0, 80, 2}, {81, 40, 41, 1}, {81, 80, 1, 1}}));
    EXPECT_EQ(mask(95), (Cuts{{84, 0, 80, 5}, {95, 40, 55, 1}, {95, 80, 15, 1}}));
  }
}

TEST(SequenceReplay, AnEpisodeThatIsCutOffEndsAtItsLastRow) {
  EXPECT_EQ(cuts(kR2d2, 7, SequenceTail::kShift, 0), (Cuts{{8, 0, 7, 1}}));
  EXPECT_EQ(cuts(kR2d2, 95, SequenceTail::kShift, 0), (Cuts{{84, 0, 80, 5}, {96, 15, 80, 1}}));
  EXPECT_EQ(cuts(kR2d2, 95, SequenceTail::kMask, 0),
            (Cuts{{84, 0, 80, 5}, {96, 40, 55, 1}, {96, 80, 15, 1}}));
  // The state of row 3 has waited for as long as any can when row 10 tells that row 9 was the last.
  EXPECT_EQ(cuts({1, 2, 4, 2, 1, SequenceTail::kShift}, 9, SequenceTail::kShift, 0),
            (Cuts{{4, 0, 4, 1}, {6, 2, 4, 1}, {8, 4, 4, 1}, {10, 5, 4, 1}}));
}

TEST(SequenceReplay, ShapesAtTheirLimits) {
  const SequenceShape least{1, 0, 1, 1, 1, SequenceTail::kShift};
  EXPECT_EQ(cuts(least, 3, SequenceTail::kShift, kTerminated),
            (Cuts{{1, 0, 1, 1}, {2, 1, 1, 1}, {3, 2, 1, 1}}));
  // A burn-in longer than the unroll window, one start for each L steps.
  const SequenceShape wide{2, 50, 10, 10, 3, SequenceTail::kShift};
  EXPECT_EQ(cuts(wide, 34, SequenceTail::kShift, kTerminated),
            (Cuts{{12, 0, 10, 3}, {22, 10, 10, 3}, {32, 20, 10, 3}, {34, 24, 10, 1}}));
}

TEST(SequenceReplay, EnvsOutOfStepAreCutAlone) {
  const SequenceReplayOptions o = sequence_options(2, 400, kR2d2);
  SequenceReplay replay(o);
  const SequenceScript script({{95}, {60, 81}}, 200, kTerminated);
  std::vector<std::pair<int64_t, int64_t>> found;  // env, start
  std::vector<int64_t> ids;
  for (size_t row = 0; row < 150; ++row) {
    for (const NewSequence& made : script.append(replay, row)) {
      found.emplace_back(made.env, made.start);
      ids.push_back(made.id);
    }
  }
  // Environment 1: rows 0 to 60, then an episode that begins with row 61.
  EXPECT_EQ(found,
            (std::vector<std::pair<int64_t, int64_t>>{{1, 0}, {0, 0}, {0, 15}, {1, 61}, {1, 62}}));
  EXPECT_EQ(ids, (std::vector<int64_t>{1, 0, 2, 3, 5}));
}

// Groups of environments in any order, one far ahead of the others. Each must make what it makes in
// a replay of its own.
TEST(SequenceReplay, EnvsThatAreAppendedToAloneHaveRowsOfTheirOwn) {
  for (const SequenceTail tail : {SequenceTail::kShift, SequenceTail::kMask}) {
    const SequenceShape shape{2, 4, 6, 3, 2, tail};
    SequenceReplayOptions o = sequence_options(3, 50, shape);
    o.unroll_states = tail == SequenceTail::kShift;
    SequenceReplay replay(o);
    std::vector<std::unique_ptr<SequenceReplay>> alone;
    std::vector<SequenceScript> scripts;
    const SequenceScript script(3, 400, 21);
    SequenceReplayOptions one = sequence_options(1, 50, shape);
    for (size_t env = 0; env < 3; ++env) {
      alone.push_back(std::make_unique<SequenceReplay>(one));
      scripts.push_back(script.only(env));
    }
    Rng rng(2);
    std::vector<size_t> heads(3);
    for (size_t turn = 0; turn < 400; ++turn) {
      std::vector<int64_t> envs;
      for (const int64_t env : {1, 0, 2}) {
        if (env == 1 || rng.below(env == 0 ? 3 : 15) == 0) {
          envs.insert(rng.below(2) == 0 ? envs.begin() : envs.end(), env);
        }
      }
      const std::vector<size_t> before = heads;
      const std::vector<NewSequence> made = script.append_some(replay, envs, heads);
      auto next = made.begin();
      for (const int64_t env : envs) {
        const auto e = static_cast<size_t>(env);
        for (const NewSequence& expected : scripts[e].append(*alone[e], before[e])) {
          ASSERT_NE(next, made.end());
          ASSERT_EQ(next->id, expected.id * 3 + env);
          ASSERT_EQ(next->env, env);
          ASSERT_EQ(next->start, expected.start);
          ASSERT_EQ(next->valid_length, expected.valid_length);
          ASSERT_EQ(next->bootstrap_length, expected.bootstrap_length);
          ++next;
        }
      }
      ASSERT_EQ(next, made.end());
      ASSERT_EQ(replay.num_sequences(),
                alone[0]->num_sequences() + alone[1]->num_sequences() + alone[2]->num_sequences());
      if (turn % 50 == 9) {
        const TemporaryFile file;
        replay.save(file.path());
        SequenceReplay loaded(o);
        loaded.load(file.path());
        const TemporaryFile again;
        loaded.save(again.path());
        ASSERT_EQ(file.bytes(), again.bytes());
        replay.load(again.path());
      }
      if (replay.num_sequences() == 0) {
        continue;
      }
      SequenceMemory batch(o, 6);
      replay.sample(0.6, batch.view());
      for (size_t i = 0; i < 6; ++i) {
        const auto env = static_cast<size_t>(batch.ids[i] % 3);
        const int64_t start = start_of(o, batch, i);
        ASSERT_EQ(sequence_difference(script, o, batch, i, env, start), "");
        ASSERT_LE(start + batch.valid_length[i] + batch.bootstrap_length[i],
                  static_cast<int64_t>(heads[env]));
      }
      EXPECT_EQ(replay.set_priorities(batch.ids, std::vector<float>(6, 2.0f)), 0U);
    }
    EXPECT_EQ(heads[1], 400U);
    EXPECT_GT(heads[2], 10U);
    EXPECT_GT(heads[0], 3 * heads[2]);
  }
}

// The same rows env by env, in groups and all at once: the same places, weights and bytes.
TEST(SequenceReplay, TheOrderOfAppendsLeavesNoTraceInASnapshot) {
  const SequenceReplayOptions o = sequence_options(3, 50, {2, 4, 6, 3, 2, SequenceTail::kShift});
  const SequenceScript script(3, 120, 4);
  SequenceReplay together(o);
  SequenceReplay apart(o);
  for (size_t row = 0; row < 120; ++row) {
    script.append(together, row);
  }
  std::vector<size_t> heads(3);
  for (size_t row = 0; row < 120; ++row) {
    script.append_some(apart, {2}, heads);
  }
  for (size_t row = 0; row < 120; ++row) {
    script.append_some(apart, {1, 0}, heads);
  }
  const TemporaryFile a;
  const TemporaryFile b;
  together.save(a.path());
  apart.save(b.path());
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(SequenceReplay, ASequenceDiesWithItsOldestFrame) {
  const SequenceShape shape{2, 2, 4, 4, 1, SequenceTail::kShift};
  for (const size_t rows : {9U, 12U}) {
    const SequenceReplayOptions o = sequence_options(1, rows, shape);
    SequenceReplay replay(o);
    const SequenceScript script({{1'000'000}}, 100, kTerminated);
    for (int64_t head = 0; head < 60; ++head) {
      script.append(replay, static_cast<size_t>(head));
      size_t alive = 0;
      for (int64_t start = 0; start + 4 <= head; start += 4) {
        alive += std::max<int64_t>(0, start - 3) >= head + 1 - static_cast<int64_t>(rows) ? 1 : 0;
      }
      ASSERT_EQ(replay.num_sequences(), alive) << head;
    }
  }
}

TEST(SequenceReplay, AFullTableDropsTheOldestOfItsEnv) {
  SequenceReplayOptions o = sequence_options(1, 200, {1, 2, 4, 2, 1, SequenceTail::kMask});
  o.max_sequences = 3;
  SequenceReplay replay(o);
  const SequenceScript script({{20}}, 21, kTerminated);
  for (size_t row = 0; row < 21; ++row) {
    script.append(replay, row);
  }
  EXPECT_EQ(replay.num_sequences(), 3U);
  EXPECT_EQ(replay.num_dropped(), 7);
  SequenceMemory batch(o, 3);
  replay.sample(0.0, batch.view());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sequence_difference(script, o, batch, i, 0, start_of(o, batch, i)), "");
  }
  EXPECT_EQ(replay.set_priorities(std::vector<int64_t>{6, 7, 8, 9}, std::vector<float>(4, 1.0f)),
            1U);
}

/// Draws beside a writer until `total` draws are done; no sample mixes episodes or crosses the
/// write head.
void draw_beside_a_writer(SequenceReplayOptions o, size_t total) {
  constexpr size_t kRows = 20'000;
  constexpr size_t kSize = 64;
  o.draws.uniform_mix = 0.1;
  SequenceReplay replay(o);
  const size_t num_envs = o.num_envs;
  const auto rows = static_cast<int64_t>(o.rows_per_env());
  const SequenceScript script(num_envs, kRows, 7);
  for (size_t row = 0; row < 60; ++row) {
    script.append(replay, row);
  }
  std::atomic<size_t> draws{0};
  std::thread writer([&] {
    for (size_t row = 60; row < kRows; ++row) {
      while (draws.load(std::memory_order_relaxed) < row * (total / kRows)) {
        std::this_thread::yield();
      }
      script.append(replay, row);
    }
  });
  SequenceMemory batch(o, kSize);
  std::string wrong;
  while (wrong.empty() && draws < total) {
    const int64_t before = replay.num_rows() / static_cast<int64_t>(num_envs);
    replay.sample(0.6, batch.view());
    const int64_t after = replay.num_rows() / static_cast<int64_t>(num_envs);
    for (size_t i = 0; i < kSize && wrong.empty(); ++i) {
      const int64_t start = start_of(o, batch, i);
      const size_t env = static_cast<size_t>(batch.ids[i]) % num_envs;
      wrong = sequence_difference(script, o, batch, i, env, start);
      if (start + batch.valid_length[i] + batch.bootstrap_length[i] > after ||
          start - batch.burn_in[i] < before - rows) {
        wrong = str_cat("start ", start, " crosses the write head ", before, " to ", after);
      }
    }
    std::vector<float> priorities(kSize);
    for (size_t i = 0; i < kSize; ++i) {
      priorities[i] = static_cast<float>(batch.ids[i] % 5);
    }
    replay.set_priorities(batch.ids, priorities);
    draws += kSize;
  }
  draws = std::numeric_limits<size_t>::max();  // lets the writer finish
  writer.join();
  EXPECT_EQ(wrong, "");
  EXPECT_EQ(replay.num_rows(), static_cast<int64_t>(num_envs * kRows));
}

TEST(SequenceReplay, MillionDrawsBesideAWriter) {
  SequenceReplayOptions o = sequence_options(2, 60, {3, 4, 8, 4, 3, SequenceTail::kShift});
  o.unroll_states = true;
  draw_beside_a_writer(o, 1'000'000);
}

TEST(SequenceReplay, ThreadsAndMaskedTailsBesideAWriter) {
  SequenceReplayOptions o = sequence_options(3, 50, {1, 6, 8, 3, 1, SequenceTail::kMask});
  o.threads = 3;
  draw_beside_a_writer(o, 100'000);
}

TEST(SequenceReplay, ThreadsChangeNothing) {
  std::vector<SequenceMemory> batches;
  for (const size_t threads : {1U, 2U, 5U}) {
    SequenceReplayOptions o = sequence_options(3, 300, kR2d2);
    o.threads = threads;
    SequenceReplay replay(o);
    const SequenceScript script(3, 400, 3);
    SequenceMemory batch(o, 17);
    for (size_t row = 0; row < 400; ++row) {
      script.append(replay, row);
      if (replay.num_sequences() > 0 && row % 20 == 0) {
        replay.sample(0.6, batch.view());
        std::vector<float> priorities(17, 0.5f);
        priorities[5] = static_cast<float>(row);
        replay.set_priorities(batch.ids, priorities);
      }
    }
    replay.sample(0.6, batch.view());
    batches.push_back(batch);
  }
  EXPECT_TRUE(batches[0] == batches[1]);
  EXPECT_TRUE(batches[0] == batches[2]);
}

}  // namespace
}  // namespace atari_fast
