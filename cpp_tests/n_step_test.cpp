#include "structures/n_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace atari_fast {
namespace {

constexpr double kGamma = 0.997;
const std::vector<double> kRewards{1.0, 0.0, 2.0, 0.0, 1.0};

/// Adds rewards until the return closes; step `last` (counted from 1) has outcome `end`.
NStepReturn run(size_t n, size_t last, Outcome end, double gamma = kGamma) {
  NStepReturn result;
  for (size_t k = 0; k < kRewards.size() && !result.closed; ++k) {
    result.add(kRewards[k], k + 1 == last ? end : Outcome::kContinue, n, gamma);
  }
  return result;
}

TEST(NStep, FiveStepsWithoutAnEnd) {
  const NStepReturn r = run(5, 0, Outcome::kContinue);
  EXPECT_TRUE(r.closed);
  EXPECT_EQ(r.steps, 5U);
  EXPECT_NEAR(r.reward, 3.9760718921, 1e-10);
  EXPECT_NEAR(r.reward + r.discount * 10.0, 13.8269691961, 1e-10);
}

TEST(NStep, TerminalAtTheThirdStepBootstrapsNothing) {
  const NStepReturn r = run(5, 3, Outcome::kTerminate);
  EXPECT_TRUE(r.closed);
  EXPECT_EQ(r.steps, 3U);
  EXPECT_NEAR(r.reward, 2.988018, 1e-12);
  EXPECT_EQ(r.discount, 0.0);
}

TEST(NStep, TruncationAtTheThirdStepBootstrapsWithItsOwnDiscount) {
  const NStepReturn r = run(5, 3, Outcome::kTruncate);
  EXPECT_TRUE(r.closed);
  EXPECT_EQ(r.steps, 3U);
  EXPECT_NEAR(r.discount, std::pow(kGamma, 3), 1e-15);  // not gamma^5
  EXPECT_NEAR(r.reward + r.discount * 10.0, 12.8982877, 1e-7);
}

TEST(NStep, StaysOpenUntilSomethingClosesIt) {
  NStepReturn r;
  for (int k = 0; k < 4; ++k) {
    EXPECT_FALSE(r.closed);
    r.add(1.0, Outcome::kContinue, 5, kGamma);
  }
  EXPECT_FALSE(r.closed);
  EXPECT_EQ(r.steps, 4U);
  EXPECT_NEAR(r.discount, std::pow(kGamma, 4), 1e-15);
}

TEST(NStep, EndAtTheLastStepWins) {
  EXPECT_EQ(run(3, 3, Outcome::kTerminate).discount, 0.0);
  EXPECT_NEAR(run(3, 3, Outcome::kTruncate).discount, std::pow(kGamma, 3), 1e-15);
  EXPECT_EQ(run(1, 1, Outcome::kTerminate).discount, 0.0);
  EXPECT_EQ(run(1, 0, Outcome::kContinue).steps, 1U);
}

TEST(NStep, ExtremeDiscounts) {
  const NStepReturn none = run(5, 0, Outcome::kContinue, 0.0);
  EXPECT_EQ(none.reward, 1.0);  // only the first reward counts
  EXPECT_EQ(none.discount, 0.0);
  const NStepReturn all = run(5, 0, Outcome::kContinue, 1.0);
  EXPECT_EQ(all.reward, 4.0);
  EXPECT_EQ(all.discount, 1.0);
}

}  // namespace
}  // namespace atari_fast
