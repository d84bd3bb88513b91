#include "replay/transition_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "snapshot_fixture.h"
#include "transition_replay_fixture.h"

namespace atari_fast {
namespace {

/// What a frame carries in its bytes.
struct Tag {
  int64_t row = 0;
  int32_t env = 0;
  int32_t episode = 0;
  int32_t step = 0;
  int32_t mark = 0;  // never 0 in a frame, so that zeros are told apart
};
static_assert(sizeof(Tag) == kTagBytes);

struct Row {
  Tag tag;
  uint8_t flags = 0;
  float reward = 0.0f;
  int64_t action = 0;
};

/// A stream of episodes for every environment, known in advance: rows[env][row].
class Script {
 public:
  Script(size_t num_envs, size_t rows, uint64_t seed) : num_envs_(num_envs) {
    Rng rng(seed);
    for (size_t env = 0; env < num_envs; ++env) {
      std::vector<Row>& stream = rows_.emplace_back(rows);
      bool first = true;
      int32_t episode = 0;
      int32_t step = 0;
      for (size_t r = 0; r < rows; ++r) {
        first = first || rng.below(60) == 0;  // a reset of the pool ends no episode
        episode += first ? 1 : 0;
        step = first ? 0 : step + 1;
        uint8_t flags = first ? kFirst : 0;
        first = false;
        if (!(flags & kFirst)) {
          const uint64_t event = rng.below(30);
          flags |= event == 0 ? kTerminated : event == 1 ? kTruncated : event < 5 ? kLifeLost : 0;
          first = event < 2;
        }
        stream[r] =
            Row{Tag{static_cast<int64_t>(r), static_cast<int32_t>(env), episode, step, 7}, flags,
                static_cast<float>(rng.below(9)) - 4.0f, static_cast<int64_t>(rng.below(18))};
      }
    }
  }

  const Row& at(size_t env, int64_t row) const { return rows_[env][static_cast<size_t>(row)]; }

  /// Row `row` of every environment.
  void append(TransitionReplay& replay, size_t row) const {
    std::vector<int64_t> envs(num_envs_);
    std::iota(envs.begin(), envs.end(), 0);
    append_rows(replay, envs, std::vector<size_t>(num_envs_, row), {});
  }

  /// Row heads[e] of each of the environments, whose heads then advance.
  void append_some(TransitionReplay& replay, const std::vector<int64_t>& envs,
                   std::vector<size_t>& heads) const {
    append_rows(replay, envs, heads, envs);
    for (const int64_t env : envs) {
      ++heads[static_cast<size_t>(env)];
    }
  }

 private:
  void append_rows(TransitionReplay& replay, const std::vector<int64_t>& envs,
                   const std::vector<size_t>& heads, const Envs& chosen) const {
    std::vector<uint8_t> frames;
    std::vector<int64_t> actions;
    std::vector<float> rewards;
    std::vector<uint8_t> flags;
    for (const int64_t env : envs) {
      const Row& r =
          at(static_cast<size_t>(env), static_cast<int64_t>(heads[static_cast<size_t>(env)]));
      const auto* const tag = reinterpret_cast<const uint8_t*>(&r.tag);
      frames.insert(frames.end(), tag, tag + kTagBytes);
      actions.push_back(r.action);
      rewards.push_back(r.reward);
      flags.push_back(r.flags);
    }
    replay.append(frames, actions, rewards, flags, chosen);
  }

  size_t num_envs_;
  std::vector<std::vector<Row>> rows_;
};

/// Whether nothing may be bootstrapped from `row`.
bool is_terminal(const Row& row, const TransitionReplayOptions& o) {
  return (row.flags & kTerminated) || (o.zero_discount_on_life_loss && (row.flags & kLifeLost));
}

bool stops(const Row& row, const TransitionReplayOptions& o) {
  return is_terminal(row, o) || (row.flags & kTruncated);
}

/// Recomputes item `i` from the script; returns what differs, or nothing.
std::string difference(const Script& script, const TransitionReplayOptions& o,
                       const ReplayBatch& batch, size_t i) {
  const auto env = static_cast<size_t>(batch.ids[i]) % o.num_envs;
  const int64_t row = batch.ids[i] / static_cast<int64_t>(o.num_envs);
  if (script.at(env, row).flags & (kTerminated | kTruncated)) {
    return str_cat("row ", row, " ended an episode and is no start");
  }
  double reward = 0.0;
  double discount = 1.0;
  int64_t m = 0;
  while (m < static_cast<int64_t>(o.n_step) && (m == 0 || !stops(script.at(env, row + m), o))) {
    const Row& next = script.at(env, row + ++m);
    if (next.flags & kFirst) {
      return str_cat("the window of row ", row, " enters the next episode");
    }
    const auto clip = static_cast<float>(o.reward_clip);
    reward += discount * (clip > 0.0f ? std::clamp(next.reward, -clip, clip) : next.reward);
    discount *= o.gamma;
  }
  discount = is_terminal(script.at(env, row + m), o) ? 0.0 : discount;
  if (batch.actions[i] != script.at(env, row).action || batch.steps[i] != m ||
      batch.rewards[i] != static_cast<float>(reward) ||
      batch.discounts[i] != static_cast<float>(discount)) {
    return str_cat("row ", row, ": action, steps, reward or discount differ");
  }
  const uint8_t* frame = batch.frames.data() + i * (o.stack + o.n_step) * kTagBytes;
  for (int64_t k = 1 - static_cast<int64_t>(o.stack); k <= static_cast<int64_t>(o.n_step); ++k) {
    const bool inside = k <= m && script.at(env, row).tag.step + k >= 0;
    const Tag expected = inside ? script.at(env, row + k).tag : Tag{};
    if (std::memcmp(frame, &expected, kTagBytes) != 0) {
      return str_cat("row ", row, ": frame ", k, " is wrong");
    }
    frame += kTagBytes;
  }
  return "";
}

TEST(TransitionReplay, EveryItemEqualsABruteForceReading) {
  for (const size_t num_envs : {1U, 3U}) {
    for (const size_t stack : {1U, 2U, 4U}) {
      for (const size_t n_step : {1U, 3U, 5U}) {
        for (const bool life : {false, true}) {
          TransitionReplayOptions o = replay_options(num_envs, stack + n_step + 14, stack, n_step);
          o.zero_discount_on_life_loss = life;
          o.reward_clip = life ? 1.0 : 0.0;
          o.draws.prioritized = num_envs > 1;
          o.draws.uniform_mix = 0.2;
          TransitionReplay replay(o);
          const Script script(num_envs, 600, 100 * stack + n_step);
          for (size_t row = 0; row < 600; ++row) {
            script.append(replay, row);
            if (replay.num_valid() == 0) {
              continue;
            }
            ReplayBatch batch(o, 8);
            replay.sample(0.4, batch.view());
            for (size_t i = 0; i < 8; ++i) {
              ASSERT_EQ(difference(script, o, batch, i), "");
            }
          }
        }
      }
    }
  }
}

/// Ids of the starts that can be drawn, by going through the rows of the script.
std::vector<int64_t> expected_ids(const Script& script, const TransitionReplayOptions& o,
                                  const std::vector<size_t>& heads) {
  std::vector<int64_t> ids;
  for (size_t env = 0; env < o.num_envs; ++env) {
    const auto head = static_cast<int64_t>(heads[env]);
    const int64_t gone = head - static_cast<int64_t>(o.rows_per_env());
    const int64_t oldest = gone > 0 ? gone + static_cast<int64_t>(o.stack) - 1 : 0;
    for (int64_t row = oldest; row < head; ++row) {
      int64_t m = 0;
      while (m < static_cast<int64_t>(o.n_step) && row + m + 1 < head &&
             !(script.at(env, row + m + 1).flags & kFirst) &&
             (m == 0 || !stops(script.at(env, row + m), o))) {
        ++m;
      }
      const bool ended = (script.at(env, row).flags & (kTerminated | kTruncated)) != 0;
      const bool closed =
          m > 0 && (m == static_cast<int64_t>(o.n_step) || stops(script.at(env, row + m), o));
      if (!ended && closed) {
        ids.push_back(row * static_cast<int64_t>(o.num_envs) + static_cast<int64_t>(env));
      }
    }
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Groups of environments in any order, one far ahead of the others; saved and loaded on the way.
TEST(TransitionReplay, EnvsThatAreAppendedToAloneHaveRowsOfTheirOwn) {
  for (const bool prioritized : {false, true}) {
    TransitionReplayOptions o = replay_options(4, 30, 3, 3);
    o.draws.prioritized = prioritized;
    o.zero_discount_on_life_loss = prioritized;
    TransitionReplay replay(o);
    const Script script(4, 700, 5);
    Rng rng(8);
    std::vector<size_t> heads(4);
    for (size_t turn = 0; turn < 700; ++turn) {
      std::vector<int64_t> envs;
      for (const int64_t env : {2, 0, 3, 1}) {
        if (rng.below(env == 2 ? 1 : env == 3 ? 20 : 4) == 0) {
          envs.insert(rng.below(2) == 0 ? envs.begin() : envs.end(), env);
        }
      }
      script.append_some(replay, envs, heads);
      ASSERT_EQ(replay.valid_ids(), expected_ids(script, o, heads)) << turn;
      ASSERT_EQ(replay.num_rows(), std::accumulate(heads.begin(), heads.end(), int64_t{0}));
      if (turn % 50 == 7) {
        const TemporaryFile file;
        replay.save(file.path());
        TransitionReplay loaded(o);
        loaded.load(file.path());
        const TemporaryFile again;
        loaded.save(again.path());
        ASSERT_EQ(file.bytes(), again.bytes());
        replay.load(again.path());
      }
      if (replay.num_valid() == 0) {
        continue;
      }
      ReplayBatch batch(o, 8);
      replay.sample(0.4, batch.view());
      for (size_t i = 0; i < 8; ++i) {
        ASSERT_EQ(difference(script, o, batch, i), "");
      }
      if (prioritized) {
        EXPECT_EQ(replay.update_priorities(batch.ids, std::vector<float>(8, 2.0f)), 0U);
      }
    }
    EXPECT_GT(heads[2], 10 * heads[3]);
    EXPECT_GT(heads[3], 5U);
  }
}

// The same rows env by env, in groups and all at once: the same places, weights and bytes.
TEST(TransitionReplay, TheOrderOfAppendsLeavesNoTraceInASnapshot) {
  TransitionReplayOptions o = replay_options(3, 40, 4, 3);
  o.draws.prioritized = true;
  const Script script(3, 100, 3);
  TransitionReplay together(o);
  TransitionReplay apart(o);
  for (size_t row = 0; row < 100; ++row) {
    script.append(together, row);
  }
  std::vector<size_t> heads(3);
  for (size_t row = 0; row < 100; ++row) {
    script.append_some(apart, {1}, heads);
  }
  for (size_t row = 0; row < 100; ++row) {
    script.append_some(apart, {2, 0}, heads);
  }
  const TemporaryFile a;
  const TemporaryFile b;
  together.save(a.path());
  apart.save(b.path());
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(TransitionReplay, ReadingInOrderGivesEveryStartAndChangesNothing) {
  for (const bool prioritized : {false, true}) {
    TransitionReplayOptions o = replay_options(3, 40, 4, 3);
    o.draws.prioritized = prioritized;
    o.threads = prioritized ? 3 : 1;
    TransitionReplay replay(o);
    const Script script(3, 200, 11);
    for (size_t row = 0; row < 200; ++row) {
      script.append(replay, row);
      const std::vector<int64_t> ids = replay.valid_ids();
      ASSERT_EQ(ids.size(), replay.num_valid());
      ASSERT_TRUE(std::adjacent_find(ids.begin(), ids.end(), std::greater_equal()) == ids.end());
      if (ids.empty() || row % 20 != 0) {
        continue;
      }
      const TemporaryFile before;
      const TemporaryFile after;
      replay.save(before.path());
      ReplayBatch batch(o, ids.size());
      batch.ids = ids;
      replay.read(batch.view());
      EXPECT_EQ(batch.ids, ids);
      EXPECT_EQ(batch.weights, std::vector<float>(ids.size(), 1.0f));
      for (size_t i = 0; i < ids.size(); ++i) {
        ASSERT_EQ(difference(script, o, batch, i), "");
      }
      replay.save(after.path());
      ASSERT_EQ(before.bytes(), after.bytes());
    }
  }
}

// No sample mixes episodes or crosses the write head while another thread appends.
TEST(TransitionReplay, MillionDrawsBesideAWriter) {
  constexpr size_t kRows = 30'000;
  constexpr size_t kSize = 64;
  TransitionReplayOptions o = replay_options(2, 40, 4, 3);
  o.draws.prioritized = true;
  o.draws.uniform_mix = 1e-3;
  TransitionReplay replay(o);
  const Script script(2, kRows, 7);
  for (size_t row = 0; row < 40; ++row) {
    script.append(replay, row);
  }
  std::atomic<size_t> draws{0};
  std::thread writer([&] {
    for (size_t row = 40; row < kRows; ++row) {
      // Spread over the draws, so that both go on until the end.
      while (draws.load(std::memory_order_relaxed) < row * (1'000'000 / kRows)) {
        std::this_thread::yield();
      }
      script.append(replay, row);
    }
  });
  ReplayBatch batch(o, kSize);
  std::string wrong;
  while (wrong.empty() && draws < 1'000'000) {
    const int64_t before = replay.num_rows() / 2;
    replay.sample(0.6, batch.view());
    const int64_t after = replay.num_rows() / 2;
    for (size_t i = 0; i < kSize && wrong.empty(); ++i) {
      const int64_t row = batch.ids[i] / 2;
      wrong = difference(script, o, batch, i);
      if (row + batch.steps[i] >= after || std::max<int64_t>(0, row - 3) < before - 40) {
        wrong = str_cat("row ", row, " crosses the write head ", before, " to ", after);
      }
    }
    std::vector<float> priorities(kSize);
    for (size_t i = 0; i < kSize; ++i) {
      priorities[i] = static_cast<float>(batch.ids[i] % 5);
    }
    replay.update_priorities(batch.ids, priorities);
    draws += kSize;
  }
  draws = std::numeric_limits<size_t>::max();  // lets the writer finish
  writer.join();
  EXPECT_EQ(wrong, "");
  EXPECT_EQ(replay.num_rows(), static_cast<int64_t>(2 * kRows));
}

TEST(TransitionReplay, ProbabilitiesAndWeightsOfTheSpecification) {
  TransitionReplayOptions o = replay_options(1, 64, 1, 1);
  o.draws.prioritized = true;
  o.draws.alpha = 0.6;
  o.draws.priority_epsilon = 1e-12;
  for (const bool stratified : {true, false}) {
    for (const double mix : {0.0, 0.25}) {
      o.draws.stratified = stratified;
      o.draws.uniform_mix = mix;
      TransitionReplay replay(o);
      fill_replay(replay, 4);
      replay.update_priorities(std::vector<int64_t>{0, 1, 2, 3}, std::vector<float>{1, 2, 3, 4});
      std::vector<double> p{0.1482295026, 0.2246739128, 0.2865546130, 0.3405419717};
      for (double& x : p) {
        x = (1.0 - mix) * x + mix / 4.0;
      }
      constexpr size_t kSize = 1000;
      constexpr int kBatches = 1000;
      ReplayBatch batch(o, kSize);
      std::vector<double> counts(4, 0.0);
      for (int k = 0; k < kBatches; ++k) {
        replay.sample(0.4, batch.view());
        for (size_t i = 0; i < kSize; ++i) {
          const auto id = static_cast<size_t>(batch.ids[i]);
          counts[id] += 1.0;
          ASSERT_NEAR(batch.weights[i], std::pow(p[0] / p[id], 0.4), 1e-6);
        }
      }
      double chi = 0.0;
      for (size_t i = 0; i < 4; ++i) {
        const double expected = p[i] * kSize * kBatches;
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
      }
      EXPECT_LT(chi, 21.1);  // 3 degrees of freedom, p = 1e-4
    }
  }
}

TEST(TransitionReplay, StratifiedDrawsTakeOneFromEachSegment) {
  TransitionReplayOptions o = replay_options(1, 200, 1, 1);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  fill_replay(replay, 128);
  ReplayBatch batch(o, 128);
  replay.sample(0.0, batch.view());
  for (size_t i = 0; i < 128; ++i) {
    EXPECT_EQ(batch.ids[i], static_cast<int64_t>(i));
    EXPECT_EQ(batch.weights[i], 1.0f);
  }
}

TEST(TransitionReplay, WeightsStayFiniteAtAnyExponentAndPriority) {
  TransitionReplayOptions o = replay_options(1, 64, 1, 1);
  o.draws.prioritized = true;
  o.draws.alpha = 1.0;
  o.draws.priority_epsilon = 1e-300;
  o.draws.uniform_mix = 0.5;
  TransitionReplay replay(o);
  fill_replay(replay, 4);
  replay.update_priorities(
      std::vector<int64_t>{0, 1, 2, 3},
      std::vector<float>{0.0f, std::numeric_limits<float>::denorm_min(), 1.0f, 1e38f});
  ReplayBatch batch(o, 64);
  for (const double beta : {0.0, 0.4, 1.0, 30.0, 1e4, 1e300}) {
    replay.sample(beta, batch.view());
    EXPECT_EQ(*std::max_element(batch.weights.begin(), batch.weights.end()), 1.0f) << beta;
    for (const float weight : batch.weights) {
      EXPECT_TRUE(weight >= 0.0f && weight <= 1.0f) << beta << ": " << weight;
    }
  }
}

}  // namespace
}  // namespace atari_fast
