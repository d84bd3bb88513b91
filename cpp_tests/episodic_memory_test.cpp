// The episodic novelty: oracles of the equations, and whole runs beside a plain reference in
// float64.
#include "replay/episodic_memory.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/rng.h"
#include "episodic_memory_fixture.h"

namespace atari_fast {
namespace {

double oracle(std::vector<double> distances, double epsilon, double mean = 1.0) {
  EpisodicMemoryOptions o;
  o.kernel_epsilon = epsilon;
  return episodic_reward(distances, mean, o);
}

TEST(EpisodicReward, EqualsTheValuesWorkedOutByHand) {
  const std::vector<double> mixed{0.0, 0.004, 0.008, 0.018, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0};
  EXPECT_NEAR(oracle(mixed, 1e-3), 0.5681500170, 1e-10);
  EXPECT_NEAR(oracle(mixed, 1e-4), 0.5760341814, 1e-10);
  const std::vector<double> zeros(10, 0.0);
  EXPECT_NEAR(oracle(zeros, 1e-3), 0.3161277976, 1e-10);
  EXPECT_NEAR(oracle(zeros, 1e-4), 0.3161277976, 1e-10);
  const std::vector<double> ones(10, 1.0);
  EXPECT_NEAR(oracle(ones, 1e-3), 9.8666182899, 1e-9);
  EXPECT_NEAR(oracle(ones, 1e-4), 30.5358135, 1e-7);
}

TEST(EpisodicReward, AMeanOfZeroMakesAllDistancesZero) {
  EXPECT_EQ(oracle(std::vector<double>(10, 3.0), 1e-4, 0.0),
            oracle(std::vector<double>(10, 0.0), 1e-4, 1.0));
}

TEST(EpisodicReward, AFarRowHasAtMostOneOverThePseudoCount) {
  EXPECT_NEAR(oracle(std::vector<double>(10, 1e30), 1e-4), 1000.0, 1e-6);
}

TEST(EpisodicReward, TooSimilarRowsHaveNone) {
  EpisodicMemoryOptions o;
  o.neighbours = 64;
  const std::vector<double> zeros(64, 0.0);  // s = 8.001 > 8
  EXPECT_EQ(episodic_reward(zeros, 1.0, o), 0.0);
  o.max_similarity = 8.002;
  EXPECT_NEAR(episodic_reward(zeros, 1.0, o), 1.0 / 8.001, 1e-12);
}

TEST(EpisodicReward, OfAShortMemoryIsAsTheOptionSays) {
  EpisodicMemoryOptions o;
  const std::vector<double> one{1.0};
  o.short_memory = ShortMemory::kUse;
  EXPECT_NEAR(episodic_reward(one, 1.0, o), 90.6, 0.1);
  o.short_memory = ShortMemory::kScale;
  EXPECT_NEAR(episodic_reward(one, 1.0, o), 30.5358135, 1e-7);
  o.short_memory = ShortMemory::kZero;
  EXPECT_EQ(episodic_reward(one, 1.0, o), 0.0);
  o.neighbours = 1;
  EXPECT_GT(episodic_reward(one, 1.0, o), 90.0);  // not short any more
}

TEST(EpisodicMemory, TheFirstRowHasNoReward) {
  EpisodicMemory memory(small_options(1));
  EXPECT_EQ(step(memory, {1.0f, 2.0f, 3.0f}, {0})[0], 0.0f);
  EXPECT_EQ(memory.running_means()[0], RunningMean{});
  EXPECT_EQ(memory.sizes()[0], 1U);
}

TEST(EpisodicMemory, ARowIsNotItsOwnNeighbour) {
  EpisodicMemoryOptions o = small_options(1);
  o.neighbours = 1;
  EpisodicMemory memory(o);
  step(memory, {0.0f, 0.0f, 0.0f}, {0});
  step(memory, {2.0f, 0.0f, 0.0f}, {0});
  EXPECT_EQ(memory.running_means()[0], (RunningMean{4.0, 1}));
  step(memory, {2.0f, 1.0f, 0.0f}, {0});
  EXPECT_EQ(memory.running_means()[0], (RunningMean{2.5, 2}));
}

TEST(EpisodicMemory, ADuplicateIsAtDistanceZero) {
  for (const bool float16 : {false, true}) {
    EpisodicMemoryOptions o = small_options(1);
    o.float16 = float16;
    o.neighbours = 1;
    EpisodicMemory memory(o);
    Rng rng(1);
    const std::vector<float> same = random_row(rng, o.dim);
    step(memory, same, {0});
    for (int i = 0; i < 100; ++i) {
      step(memory, random_row(rng, o.dim), {0});
    }
    memory.set_running_means(std::vector<RunningMean>(1));
    const float reward = step(memory, same, {0})[0];
    EXPECT_EQ(memory.running_means()[0], (RunningMean{0.0, 1}));
    EXPECT_EQ(reward, static_cast<float>(1.0 / (1.0 + o.pseudo_count)));
  }
}

TEST(EpisodicMemory, TheRingForgetsTheOldestRows) {
  EpisodicMemoryOptions o = small_options(1);
  o.capacity = 50;
  o.neighbours = 1;
  EpisodicMemory memory(o);
  const auto place = [](size_t i) { return std::vector<float>{static_cast<float>(i), 0.0f, 0.0f}; };
  for (size_t i = 0; i < o.capacity + 5; ++i) {
    step(memory, place(i), {0});
  }
  EXPECT_EQ(memory.sizes()[0], o.capacity);
  memory.set_running_means(std::vector<RunningMean>(1));
  step(memory, place(4), {0});  // rows 5 to 54 are there, so row 4 is 1 away
  EXPECT_EQ(memory.running_means()[0], (RunningMean{1.0, 1}));
  step(memory, place(6), {0});  // row 5 was overwritten, 6 was not
  EXPECT_EQ(memory.running_means()[0], (RunningMean{0.5, 2}));
}

TEST(EpisodicMemory, TheMeanIsPlainThenExponentialAndOutlivesResets) {
  EpisodicMemoryOptions o = small_options(1);
  o.mean_updates = 3;
  o.mean_rate = 0.25;
  o.neighbours = 1;
  EpisodicMemory memory(o);
  double expected = 0.0;
  for (int update = 1; update <= 6; ++update) {
    memory.reset(std::vector<int64_t>{0});
    step(memory, {0.0f, 0.0f, 0.0f}, {0});
    step(memory, {static_cast<float>(update), 0.0f, 0.0f}, {0});
    const double rate = update <= 3 ? 1.0 / update : 0.25;
    expected += rate * (update * update - expected);
    EXPECT_EQ(memory.running_means()[0], (RunningMean{expected, update}));
  }
}

TEST(EpisodicMemory, TheFirstUpdateOfTheMeanIsNeverAnExponentialOne) {
  EpisodicMemoryOptions o = small_options(1);
  o.mean_updates = 0;
  EpisodicMemory memory(o);
  step(memory, {0.0f, 0.0f, 0.0f}, {0});
  step(memory, {3.0f, 0.0f, 0.0f}, {0});
  EXPECT_EQ(memory.running_means()[0], (RunningMean{9.0, 1}));
}

struct Case {
  size_t rows, capacity, dim, k;
  bool float16;
  ShortMemory short_memory;
};

class EpisodicRun : public testing::TestWithParam<Case> {};

TEST_P(EpisodicRun, EqualsTheReference) {
  const Case& c = GetParam();
  EpisodicMemoryOptions o = small_options(1);
  o.capacity = c.capacity;
  o.dim = c.dim;
  o.neighbours = c.k;
  o.float16 = c.float16;
  o.short_memory = c.short_memory;
  o.mean_updates = 20;
  EpisodicMemory memory(o);
  EpisodicReference reference(o);
  Rng rng(17);
  for (size_t i = 0; i < c.rows; ++i) {
    if (i == 2 * c.rows / 3) {
      memory.reset(std::vector<int64_t>{0});
      reference.reset();
    }
    const std::vector<float> row = random_row(rng, c.dim, i % 3 == 0 ? 0.0 : 1.0);
    const double expected = reference.novelty(row);
    EXPECT_NEAR(step(memory, row, {0})[0], expected, 1e-5 * expected) << "row " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, EpisodicRun,
                         testing::Values(Case{400, 150, 32, 10, false, ShortMemory::kScale},
                                         Case{400, 150, 32, 10, true, ShortMemory::kScale},
                                         Case{300, 1000, 5, 3, false, ShortMemory::kUse},
                                         Case{300, 97, 9, 200, false, ShortMemory::kZero},
                                         Case{300, 97, 9, 200, true, ShortMemory::kUse},
                                         Case{100, 1, 4, 10, false, ShortMemory::kScale},
                                         Case{600, 320, 2, 1, false, ShortMemory::kScale}));

std::vector<float> run_of(EpisodicMemoryOptions o, size_t threads, InstructionSet set,
                          size_t steps) {
  set_instruction_set(set);
  o.threads = threads;
  EpisodicMemory memory(o);
  Rng rng(3);
  std::vector<float> all;
  for (size_t i = 0; i < steps; ++i) {
    std::vector<int64_t> envs;
    for (size_t env = 0; env < o.num_envs; ++env) {
      if (rng.uniform() < 0.8) {
        envs.insert(envs.begin() + static_cast<ptrdiff_t>(rng.below(envs.size() + 1)),
                    static_cast<int64_t>(env));
      }
    }
    const std::vector<float> rewards = step(memory, random_row(rng, o.num_envs * o.dim), envs);
    all.insert(all.end(), rewards.begin(), rewards.end());
    memory.reset(std::vector<int64_t>(i % 70 == 69 ? 1 : 0, 2));
  }
  set_instruction_set(best_instruction_set());
  return all;
}

TEST(EpisodicMemory, NeitherThreadsNorInstructionsChangeAResult) {
  for (const bool float16 : {false, true}) {
    EpisodicMemoryOptions o = small_options(5);
    o.dim = 13;
    o.capacity = 230;  // 8 blocks: codes are read for 1 neighbour, not for 10
    o.float16 = float16;
    for (const size_t neighbours : {1, 10}) {
      o.neighbours = neighbours;
      const std::vector<float> expected = run_of(o, 1, InstructionSet::kScalar, 330);
      for (const InstructionSet set : instruction_sets()) {
        for (const size_t threads : {1, 2, 3, 8}) {
          EXPECT_EQ(run_of(o, threads, set, 330), expected);
        }
      }
    }
  }
}

TEST(EpisodicMemory, TheOrderOfRowsDoesNotMatter) {
  EpisodicMemoryOptions o = small_options(2);
  o.dim = 8;
  EpisodicMemory memory(o);
  Rng rng(5);
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 90; ++i) {
    rows.push_back(random_row(rng, o.dim));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<float> both = rows[i];
    const std::vector<float>& other = rows[rows.size() - 1 - i];
    both.insert(both.end(), other.begin(), other.end());
    step(memory, both, {0, 1});
  }
  memory.set_running_means(std::vector<RunningMean>(2));
  const std::vector<float> query = random_row(rng, o.dim);
  std::vector<float> both = query;
  both.insert(both.end(), query.begin(), query.end());
  const std::vector<float> rewards = step(memory, both, {0, 1});
  EXPECT_EQ(rewards[0], rewards[1]);
}

TEST(EpisodicMemory, RowsCanBeAppendedWithoutAReward) {
  EpisodicMemoryOptions o = small_options(2);
  o.float16 = true;
  EpisodicMemory memory(o);
  EpisodicMemory other(o);
  Rng rng(6);
  for (int i = 0; i < 50; ++i) {
    const std::vector<float> rows = random_row(rng, 6);
    step(memory, rows, {1});
    other.append(rows, std::vector<int64_t>{1});
  }
  EXPECT_EQ(other.sizes(), (std::vector<size_t>{0, 50}));
  EXPECT_EQ(other.running_means(), std::vector<RunningMean>(2));
  memory.set_running_means(std::vector<RunningMean>(2));
  const std::vector<float> rows = random_row(rng, 6);
  EXPECT_EQ(step(memory, rows, {1}), step(other, rows, {1}));
}

TEST(EpisodicMemory, GrowsAsItIsUsed) {
  for (const bool float16 : {false, true}) {
    EpisodicMemoryOptions o = small_options(2);
    o.capacity = 1000;
    o.float16 = float16;
    EpisodicMemory memory(o);
    const size_t block = 32 * (o.dim * (float16 ? 2 : 4) + 4);  // and codes, a byte each, in pairs
    EXPECT_EQ(EpisodicMemory::memory_bytes(o), 2 * 32 * block);
    EXPECT_EQ(memory.bytes_used(), 0U);
    Rng rng(1);
    for (size_t i = 0; i < 33; ++i) {
      step(memory, random_row(rng, 2 * o.dim), {1});
    }
    EXPECT_EQ(memory.bytes_used(), 2 * block);
    memory.reset(std::vector<int64_t>{0, 1});
    EXPECT_EQ(memory.bytes_used(), 2 * block);
    for (size_t i = 0; i < 2000; ++i) {
      step(memory, random_row(rng, 2 * o.dim), {0, 1});
    }
    EXPECT_EQ(memory.bytes_used(), EpisodicMemory::memory_bytes(o));
  }
}

TEST(EpisodicMemory, EnvsAreSeparateAndOthersAreLeftAlone) {
  EpisodicMemoryOptions o = small_options(3);
  EpisodicMemory memory(o);
  Rng rng(8);
  for (int i = 0; i < 40; ++i) {
    step(memory, random_row(rng, 3 * o.dim), {2, 0});
  }
  EXPECT_EQ(memory.sizes(), (std::vector<size_t>{40, 0, 40}));
  EXPECT_EQ(memory.running_means()[1], RunningMean{});
  memory.reset(std::vector<int64_t>{2});
  EXPECT_EQ(memory.sizes(), (std::vector<size_t>{40, 0, 0}));
  EXPECT_EQ(memory.running_means()[2].updates, 39);
}

}  // namespace
}  // namespace atari_fast
