#include "structures/sum_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/rng.h"

namespace atari_fast {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kMax = std::numeric_limits<double>::max();
constexpr double kDenormal = std::numeric_limits<double>::denorm_min();

SumTree tree_of(const std::vector<double>& weights) {
  SumTree tree(weights.size());
  std::vector<int64_t> indices(weights.size());
  std::iota(indices.begin(), indices.end(), 0);
  tree.set(indices, weights);
  return tree;
}

/// Sets one leaf, and then the sums.
void set_one(SumTree& tree, size_t index, double weight) {
  tree.set_leaf(index, weight);
  const auto at = static_cast<int64_t>(index);
  tree.refresh({&at, 1});
}

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(SumTree, OracleOfTheSpecification) {
  const SumTree tree = tree_of({1.0, 2.0, 3.0, 4.0});
  EXPECT_EQ(tree.total(), 10.0);
  for (const auto& [u, leaf] : std::vector<std::pair<double, size_t>>{{0.0, 0},
                                                                      {0.999, 0},
                                                                      {1.0, 1},
                                                                      {2.999, 1},
                                                                      {3.0, 2},
                                                                      {5.999, 2},
                                                                      {6.0, 3},
                                                                      {9.999, 3}}) {
    EXPECT_EQ(tree.find(u), leaf) << u;
  }
}

TEST(SumTree, ClampsOutsideOfItsRange) {
  const SumTree tree = tree_of({0.0, 1.0, 0.0, 2.0, 0.0, 0.0});
  for (const double u : {-kInf, -1.0, -0.0, 0.0, kDenormal}) {
    EXPECT_EQ(tree.find(u), 1U) << u;
  }
  for (const double u : {std::nextafter(3.0, 0.0), 3.0, 3.5, 1e300, kMax, kInf}) {
    EXPECT_EQ(tree.find(u), 3U) << u;
  }
  EXPECT_THROW(static_cast<void>(tree.find(kNan)), std::invalid_argument);
}

TEST(SumTree, NothingToDraw) {
  EXPECT_THROW(SumTree(0), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(SumTree(5).find(0.0)), std::invalid_argument);
  SumTree tree(1);
  set_one(tree, 0, 0.5);
  EXPECT_EQ(tree.find(0.25), 0U);
  set_one(tree, 0, 0.0);
  EXPECT_THROW(static_cast<void>(tree.find(0.0)), std::invalid_argument);
}

TEST(SumTree, RefusesSizesThatNoMachineHolds) {
  for (const int shift : {59, 60, 61, 62, 63}) {
    EXPECT_THROW(SumTree(size_t{1} << shift), std::exception) << shift;
  }
  EXPECT_THROW(SumTree((size_t{1} << 63) - 1), std::exception);
  EXPECT_THROW(SumTree(std::numeric_limits<size_t>::max()), std::exception);
}

class SumTreeSizes : public ::testing::TestWithParam<size_t> {};

// Small integers add up without rounding, so the tree must agree exactly with cumulative sums.
TEST_P(SumTreeSizes, EqualsCumulativeSums) {
  const size_t size = GetParam();
  Rng rng(size);
  std::vector<double> weights(size);
  for (double& weight : weights) {
    weight = static_cast<double>(rng.below(4));
  }
  weights[rng.below(size)] = 5.0;
  const SumTree tree = tree_of(weights);
  std::vector<double> ends(size);
  std::partial_sum(weights.begin(), weights.end(), ends.begin());
  ASSERT_EQ(tree.size(), size);
  ASSERT_EQ(tree.total(), ends.back());
  for (size_t i = 0; i < size; ++i) {
    ASSERT_EQ(tree.get(i), weights[i]);
    if (weights[i] > 0.0) {
      ASSERT_EQ(tree.find(ends[i] - weights[i]), i);
      ASSERT_EQ(tree.find(std::nextafter(ends[i], 0.0)), i);
    }
  }
  for (int draw = 0; draw < 1000; ++draw) {
    const double u = rng.uniform() * tree.total();
    const auto end = std::upper_bound(ends.begin(), ends.end(), u);
    ASSERT_EQ(tree.find(u), static_cast<size_t>(end - ends.begin()));
  }
  EXPECT_THROW(static_cast<void>(tree.get(size)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(tree.get(std::numeric_limits<size_t>::max())),
               std::invalid_argument);
}

// With arbitrary weights a draw may differ from cumulative sums by rounding only, and is never an
// empty leaf.
TEST_P(SumTreeSizes, AgreesWithCumulativeSumsUpToRounding) {
  const size_t size = GetParam();
  Rng rng(size + 1);
  std::vector<double> weights(size);
  for (double& weight : weights) {
    weight = rng.below(3) == 0 ? 0.0 : std::exp(40.0 * rng.uniform() - 20.0);
  }
  weights[size / 2] = 1.0;
  const SumTree tree = tree_of(weights);
  std::vector<long double> ends(size);
  long double sum = 0.0L;
  for (size_t i = 0; i < size; ++i) {
    ends[i] = sum += static_cast<long double>(weights[i]);
  }
  const double slack = 64 * std::numeric_limits<double>::epsilon() * tree.total();
  EXPECT_NEAR(tree.total(), static_cast<double>(sum), slack);
  for (int draw = 0; draw < 10'000; ++draw) {
    const double u = rng.uniform() * tree.total();
    const size_t i = tree.find(u);
    ASSERT_LT(i, size);
    ASSERT_GT(weights[i], 0.0);
    ASSERT_GE(u, static_cast<double>(ends[i]) - weights[i] - slack);
    ASSERT_LE(u, static_cast<double>(ends[i]) + slack);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, SumTreeSizes,
                         ::testing::Values(1, 2, 3, 5, 7, 1000, 1023, 1024, 1'000'000));

TEST(SumTree, CountsOutTheLeavesAboveZero) {
  Rng rng(11);
  for (const size_t size : {1U, 7U, 8U, 9U, 64U, 65U, 600U, 5000U}) {
    for (const uint64_t share : {1U, 2U, 20U, 2000U}) {
      std::vector<double> weights(size, 0.0);
      weights[rng.below(size)] = 1.0;
      for (double& weight : weights) {
        weight = rng.below(share) == 0 ? 2.0 : weight;
      }
      const SumTree tree = tree_of(weights);
      size_t count = 0;
      for (size_t leaf = 0; leaf < size; ++leaf) {
        if (weights[leaf] > 0.0) {
          ASSERT_EQ(tree.nth_positive(count++), leaf) << "size " << size;
        }
      }
    }
  }
}

TEST(SumTree, OfEqualIndicesTheLastOneWins) {
  SumTree tree(5);
  const std::vector<int64_t> indices{2, 0, 2, 4, 2, 0};
  const std::vector<double> weights{9.0, 8.0, 7.0, 1.0, 3.0, 0.0};
  tree.set(indices, weights);
  EXPECT_EQ(tree.get(0), 0.0);
  EXPECT_EQ(tree.get(2), 3.0);
  EXPECT_EQ(tree.get(4), 1.0);
  EXPECT_EQ(tree.total(), 4.0);
  EXPECT_EQ(tree.find(2.9), 2U);
  EXPECT_EQ(tree.find(3.0), 4U);
}

TEST(SumTree, RefusalsNameThePositionAndChangeNothing) {
  SumTree tree = tree_of({1.0, 2.0, 3.0});
  const auto refuses = [&](std::vector<int64_t> indices, std::vector<double> weights,
                           const std::string& part) {
    const std::string text = message_of([&] { tree.set(indices, weights); });
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(tree.get(0), 1.0);
    EXPECT_EQ(tree.get(1), 2.0);
    EXPECT_EQ(tree.get(2), 3.0);
    EXPECT_EQ(tree.total(), 6.0);
    EXPECT_EQ(tree.find(5.9), 2U);
  };
  for (const double bad : {kNan, kInf, -kInf, -1.0, -kDenormal}) {
    refuses({0, 1, 2}, {5.0, 5.0, bad}, "weights[2]");
    refuses({0, 1}, {bad, 5.0}, "weights[0]");
    EXPECT_THROW(tree.set_leaf(0, bad), std::invalid_argument);
  }
  for (const int64_t bad :
       {int64_t{-1}, int64_t{3}, int64_t{4}, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()}) {
    refuses({0, bad}, {5.0, 5.0}, "indices[1]");
    EXPECT_THROW(tree.set_leaf(static_cast<size_t>(bad), 5.0), std::invalid_argument);
  }
  refuses({0, 1}, {5.0}, "weights");
  refuses({}, {5.0}, "weights");
  tree.set(std::vector<int64_t>{}, std::vector<double>{});
  EXPECT_EQ(tree.total(), 6.0);
}

// Finite weights whose sum is infinite would make every draw land left of the overflow.
TEST(SumTree, RefusesWeightsThatCouldOverflowTheTotal) {
  SumTree tree(4);
  EXPECT_THROW(tree.set_leaf(0, kMax), std::invalid_argument);
  EXPECT_THROW(tree.set(std::vector<int64_t>{0, 1}, std::vector<double>{1e308, 1e308}),
               std::invalid_argument);
  EXPECT_EQ(tree.total(), 0.0);
  for (size_t i = 0; i < 4; ++i) {
    set_one(tree, i, 4e307);
  }
  EXPECT_TRUE(std::isfinite(tree.total()));
  EXPECT_EQ(tree.find(0.6 * tree.total()), 2U);
  SumTree one(1);
  set_one(one, 0, kMax);
  EXPECT_EQ(one.find(1.0), 0U);
}

TEST(SumTree, DenormalWeightsAreDrawn) {
  const SumTree tree = tree_of({0.0, kDenormal, 0.0, kDenormal});
  EXPECT_EQ(tree.total(), 2 * kDenormal);
  EXPECT_EQ(tree.find(0.0), 1U);
  EXPECT_EQ(tree.find(kDenormal), 3U);
}

TEST(SumTree, RootDoesNotDriftInTenMillionUpdates) {
  constexpr size_t kSize = 1'000'000;
  constexpr size_t kBatch = 500;
  SumTree tree(kSize);
  Rng rng(11);
  std::vector<int64_t> indices(kBatch);
  std::vector<double> weights(kBatch);
  for (size_t done = 0; done < 10'000'000; done += kBatch) {
    for (size_t i = 0; i < kBatch; ++i) {
      indices[i] = static_cast<int64_t>(rng.below(kSize));
      // Large and small weights follow one another, which is what makes differences drift.
      weights[i] = rng.uniform() * (rng.below(2) == 0 ? 1e-6 : 1e6);
    }
    tree.set(indices, weights);
  }
  long double sum = 0.0L;
  for (size_t i = 0; i < kSize; ++i) {
    sum += static_cast<long double>(tree.get(i));
  }
  const double exact = static_cast<double>(sum);
  EXPECT_LE(std::abs(tree.total() - exact) / exact, 1e-12);
}

TEST(SumTree, SingleUpdatesEqualBatchedOnesBitForBit) {
  SumTree single(37);
  SumTree batched(37);
  Rng rng(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<int64_t> indices(1 + rng.below(50));
    std::vector<double> weights(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) {
      indices[i] = static_cast<int64_t>(rng.below(37));
      weights[i] = rng.uniform();
      set_one(single, static_cast<size_t>(indices[i]), weights[i]);
    }
    batched.set(indices, weights);
    ASSERT_EQ(single.total(), batched.total());
    for (int draw = 0; draw < 20; ++draw) {
      const double u = rng.uniform() * single.total();
      ASSERT_EQ(single.find(u), batched.find(u));
    }
  }
}

/// Upper bound of the chi-square statistic at p = 1e-4 (Wilson and Hilferty).
double chi_square_bound(double degrees) {
  const double k = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1.0 - k + 3.719 * std::sqrt(k), 3);
}

TEST(SumTree, TenMillionDrawsFollowTheWeightsAndSkipZeros) {
  constexpr size_t kSize = 1000;
  constexpr int kDraws = 10'000'000;
  Rng rng(12);
  std::vector<double> weights(kSize);
  for (double& weight : weights) {
    weight = rng.below(4) == 0 ? 0.0 : 0.1 + rng.uniform();
  }
  const SumTree tree = tree_of(weights);
  std::vector<int> counts(kSize, 0);
  for (int draw = 0; draw < kDraws; ++draw) {
    ++counts[tree.find(rng.uniform() * tree.total())];
  }
  double chi = 0.0;
  double degrees = -1.0;
  for (size_t i = 0; i < kSize; ++i) {
    if (weights[i] == 0.0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    const double expected = kDraws * weights[i] / tree.total();
    chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    degrees += 1.0;
  }
  EXPECT_LT(chi, chi_square_bound(degrees));
}

}  // namespace
}  // namespace atari_fast
