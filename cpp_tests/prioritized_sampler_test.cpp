#include "structures/prioritized_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <vector>

#include "snapshot_fixture.h"

namespace atari_fast {
namespace {

const auto kItself = [](int64_t id) { return id; };

/// Places 0 to weights.size() - 1 with these priorities, or none where it is negative.
PrioritizedSampler sampler_of(const SamplerOptions& options, const std::vector<float>& weights) {
  PrioritizedSampler sampler(options, weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] >= 0.0f) {
      const auto id = static_cast<int64_t>(i);
      sampler.add(i);
      sampler.set_priorities({&id, 1}, {&weights[i], 1}, kItself);
    }
  }
  return sampler;
}

std::vector<int64_t> drawn(PrioritizedSampler& sampler, size_t size) {
  std::vector<int64_t> places(size);
  std::vector<float> weights(size);
  sampler.use_up(sampler.draw(0.5, places, weights));
  return places;
}

// The same place may come and go any number of times before the sums are made.
TEST(PrioritizedSampler, CountsPlacesHoweverOftenTheyChange) {
  PrioritizedSampler sampler({}, 5000);
  Rng rng(1);
  std::set<size_t> expected;
  for (int change = 0; change < 20'000; ++change) {
    const size_t place = rng.below(change % 3 == 0 ? 5000 : 7);
    if (rng.below(2) == 0) {
      sampler.add(place);
      expected.insert(place);
    } else {
      sampler.remove(place);
      expected.erase(place);
    }
    ASSERT_EQ(sampler.count(), expected.size());
    ASSERT_EQ(sampler.holds(place), expected.contains(place));
  }
  sampler.apply();
  for (const int64_t place : drawn(sampler, 20'000)) {
    ASSERT_TRUE(expected.contains(static_cast<size_t>(place)));
  }
}

TEST(PrioritizedSampler, DrawsFollowPrioritiesWithAMixOfUniformOnes) {
  SamplerOptions o;
  o.priority_epsilon = 1e-300;
  o.alpha = 1.0;
  for (const bool stratified : {true, false}) {
    for (const double mix : {0.0, 0.25, 1.0}) {
      for (const bool over_all : {false, true}) {
        o.stratified = stratified;
        o.uniform_mix = mix;
        o.buffer_max_weights = over_all;
        PrioritizedSampler sampler = sampler_of(o, {-1.0f, 1.0f, 2.0f, -1.0f, 5.0f});
        const std::vector<double> p{0.0, 1.0 / 8, 2.0 / 8, 0.0, 5.0 / 8};
        std::vector<double> counts(5);
        std::vector<int64_t> places(1000);
        std::vector<float> weights(1000);
        for (int batch = 0; batch < 100; ++batch) {
          sampler.use_up(sampler.draw(0.5, places, weights));
          for (size_t i = 0; i < places.size(); ++i) {
            const auto at = static_cast<size_t>(places[i]);
            counts[at] += 1.0;
            const double ratio = (1 - mix) * p[1] + mix / 3;
            ASSERT_NEAR(weights[i], std::sqrt(ratio / ((1 - mix) * p[at] + mix / 3)), 1e-6);
          }
        }
        double chi = 0.0;
        for (const size_t at : {1U, 2U, 4U}) {
          const double expected = 1e5 * ((1 - mix) * p[at] + mix / 3);
          chi += (counts[at] - expected) * (counts[at] - expected) / expected;
        }
        EXPECT_LT(chi, 18.4);  // 2 degrees of freedom, p = 1e-4
        EXPECT_EQ(counts[0] + counts[3], 0.0);
      }
    }
  }
}

TEST(PrioritizedSampler, ADrawThatIsNotUsedUpIsRepeated) {
  SamplerOptions o;
  o.stratified = false;
  PrioritizedSampler sampler = sampler_of(o, {1.0f, 2.0f, 3.0f, 4.0f});
  std::vector<int64_t> first(50);
  std::vector<int64_t> second(50);
  std::vector<float> weights(50);
  static_cast<void>(sampler.draw(0.5, first, weights));
  sampler.use_up(sampler.draw(0.5, second, weights));
  EXPECT_EQ(first, second);
  EXPECT_NE(drawn(sampler, 50), first);
}

TEST(PrioritizedSampler, NewPlacesGetTheLargestPriorityOrEqualOnes) {
  SamplerOptions o;
  PrioritizedSampler sampler = sampler_of(o, {1e6f, 0.0f, -1.0f});
  const std::vector<int64_t> ids{0, -1};
  const std::vector<float> priorities{0.0f, 7.0f};
  EXPECT_EQ(sampler.set_priorities(ids, priorities, kItself), 1U);
  sampler.add(2);
  sampler.apply();
  EXPECT_EQ(drawn(sampler, 100), std::vector<int64_t>(100, 2));
  o.prioritized = false;
  PrioritizedSampler uniform(o, 2);
  EXPECT_THROW(uniform.check_priorities("f", 1, std::vector<float>{1.0f}), std::invalid_argument);
  sampler.check_priorities("f", 1, std::vector<float>{1.0f});
  EXPECT_THROW(sampler.check_priorities("f", 2, std::vector<float>{1.0f}), std::invalid_argument);
  EXPECT_THROW(sampler.check_priorities("f", 1, std::vector<float>{-1.0f}), std::invalid_argument);
}

TEST(PrioritizedSampler, ASavedOneDrawsOnAsTheFirst) {
  SamplerOptions o;
  o.uniform_mix = 0.2;
  PrioritizedSampler sampler = sampler_of(o, {1.0f, -1.0f, 3.0f, 4.0f, 0.0f});
  drawn(sampler, 10);
  const TemporaryFile file;
  SnapshotWriter writer(file.path(), "sampler", 1);
  sampler.save_state(writer);
  sampler.save_weights(writer);
  writer.finish();
  o.seed = 99;
  PrioritizedSampler copy(o, 5);
  SnapshotReader reader(file.path(), "sampler", 1);
  copy.load_state(reader);
  copy.load_weights(reader);
  reader.finish();
  EXPECT_EQ(copy.count(), 4U);
  EXPECT_EQ(drawn(copy, 100), drawn(sampler, 100));
}

}  // namespace
}  // namespace atari_fast
