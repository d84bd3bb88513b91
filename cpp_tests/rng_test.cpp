#include "base/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace atari_fast {
namespace {

TEST(Rng, EqualsPublishedSplitMix64FromStateZero) {
  Rng rng(0);  // mix(0) is 0, so the stream is that of the reference generator with state 0
  constexpr std::array<uint64_t, 5> kExpected{0xE220A8397B1DCDAFULL, 0x6E789E6AA1B965F4ULL,
                                              0x06C45D188009454FULL, 0xF88BB8A8724C81ECULL,
                                              0x1B39896A51A8749BULL};
  for (const uint64_t expected : kExpected) {
    EXPECT_EQ(rng.next(), expected);
  }
}

TEST(Rng, DependsOnTheSeedAlone) {
  Rng a(17);
  Rng b(17);
  Rng c(18);
  int equal = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = a.next();
    EXPECT_EQ(x, b.next());
    equal += x == c.next() ? 1 : 0;
  }
  EXPECT_EQ(equal, 0);
}

TEST(Rng, NeighbouringSeedsHaveDistinctFirstDraws) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    seen.insert(Rng(seed).next());
    seen.insert(Rng(~seed).next());
  }
  EXPECT_EQ(seen.size(), 20'000U);
}

TEST(Rng, UniformStaysInTheUnitIntervalWithItsMoments) {
  Rng rng(3);
  constexpr int kDraws = 1'000'000;
  double sum = 0.0;
  double squares = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / kDraws, 1.0 / 2.0, 5 * std::sqrt(1.0 / 12.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3.0, 5 * std::sqrt(4.0 / 45.0 / kDraws));
}

TEST(Rng, BelowReachesEveryIntegerEvenly) {
  Rng rng(4);
  constexpr int kCells = 7;
  constexpr int kDraws = 700'000;
  std::vector<int> counts(kCells, 0);
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t cell = rng.below(kCells);
    ASSERT_LT(cell, static_cast<uint64_t>(kCells));
    ++counts[cell];
  }
  double chi = 0.0;
  for (const int count : counts) {
    const double excess = count - kDraws / double{kCells};
    chi += excess * excess / (kDraws / double{kCells});
  }
  EXPECT_LT(chi, 27.9);  // 6 degrees of freedom, p = 1e-4
  EXPECT_EQ(rng.below(1), 0U);
}

// The largest value that uniform() can give, times any size, still truncates below that size.
TEST(Rng, BelowCannotRoundUpToItsBound) {
  const double largest = 1.0 - 0x1.0p-53;
  for (uint64_t n = 1; n < (uint64_t{1} << 52); n = n * 3 / 2 + 1) {
    EXPECT_LT(static_cast<uint64_t>(largest * static_cast<double>(n)), n);
  }
}

}  // namespace
}  // namespace atari_fast
