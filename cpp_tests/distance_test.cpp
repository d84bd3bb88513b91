// Squared distances and the k nearest rows: scalar and SIMD paths beside a plain loop, float16,
// ties.
#include "kernels/distance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/half.h"

namespace atari_fast {
namespace {

/// Rows in blocks, as float32 and as float16, and one after the other.
struct Blocks {
  Blocks(size_t rows, size_t dim, uint64_t seed, bool tiny = false)
      : count(rows), width(dim), plain(rows * dim) {
    Rng rng(seed);
    const size_t padded = (rows + kBlockRows - 1) / kBlockRows * kBlockRows;
    floats.assign(padded * dim, 0.0f);
    halves.assign(padded * dim, 0);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t d = 0; d < dim; ++d) {
        // Few different values, so that ties occur; exact in float16, its subnormals included.
        const double value = std::floor(rng.uniform() * 5.0) - 2.0;
        set(row, d, static_cast<float>(tiny ? value * 0x1.0p-24 : value));
      }
    }
  }

  void set(size_t row, size_t d, float value) {
    const size_t at = (row / kBlockRows * width + d) * kBlockRows + row % kBlockRows;
    plain[row * width + d] = value;
    floats[at] = value;
    halves[at] = to_half(value);
  }

  float distance(size_t row, const std::vector<float>& query) const {
    float sum = 0.0f;
    for (size_t d = 0; d < width; ++d) {
      const float difference = query[d] - plain[row * width + d];
      sum += difference * difference;
    }
    return sum;
  }

  size_t count;
  size_t width;
  std::vector<float> plain;
  std::vector<float> floats;
  std::vector<uint16_t> halves;
};

std::vector<float> random_query(size_t dim, uint64_t seed, float scale = 1.0f) {
  Rng rng(seed);
  std::vector<float> query(dim);
  for (float& value : query) {
    value = scale * static_cast<float>(rng.uniform() * 4.0 - 2.0);
  }
  return query;
}

/// The k nearest of the rows [begin, end) by a stable sort: of equally near ones the first.
std::vector<Neighbour> sorted(const Blocks& blocks, const std::vector<float>& query, size_t begin,
                              size_t end, size_t k) {
  std::vector<Neighbour> all;
  for (size_t row = begin; row < end; ++row) {
    all.push_back({blocks.distance(row, query), row});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Neighbour& a, const Neighbour& b) { return a.distance < b.distance; });
  all.resize(std::min(k, all.size()));
  return all;
}

void expect_equal(std::span<const Neighbour> got, std::span<const Neighbour> expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].distance, expected[i].distance) << "place " << i;
    EXPECT_EQ(got[i].row, expected[i].row) << "place " << i;
  }
}

void expect_nearest(const Blocks& blocks, const std::vector<float>& query, size_t begin, size_t end,
                    size_t k) {
  const std::vector<Neighbour> expected = sorted(blocks, query, begin, end, k);
  Nearest nearest(k);
  offer_rows(query, blocks.floats, begin, end, nearest);
  expect_equal(nearest.found(), expected);
  nearest.clear();
  offer_rows(query, blocks.halves, begin, end, nearest);
  expect_equal(nearest.found(), expected);
}

class Distance : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override { set_instruction_set(GetParam()); }
  void TearDown() override { set_instruction_set(best_instruction_set()); }
};

TEST_P(Distance, IsThatOfAPlainLoopBitForBit) {
  for (const size_t dim : {1, 2, 7, 8, 9, 16, 31, 32, 33, 64, 100}) {
    for (const size_t rows : {1, 31, 32, 33, 64, 200}) {
      const Blocks blocks(rows, dim, 1000 * dim + rows);
      for (const size_t k : {1, 10, 300}) {
        expect_nearest(blocks, random_query(dim, k), 0, rows, k);
      }
    }
  }
}

TEST_P(Distance, EveryRangeOfRowsIsOfferedInOrder) {
  const Blocks blocks(70, 3, 5);  // 3 dimensions of 5 values: many ties
  const std::vector<float> query{0.0f, 1.0f, -1.0f};
  for (size_t begin = 0; begin <= 70; ++begin) {
    for (size_t end = begin; end <= 70; ++end) {
      expect_nearest(blocks, query, begin, end, 10);
    }
  }
}

TEST_P(Distance, SubnormalNumbersCount) {
  const Blocks blocks(40, 4, 7, true);
  expect_nearest(blocks, random_query(4, 8, 0x1.0p-23f), 0, 40, 10);
}

TEST_P(Distance, OfARowToItselfIsExactlyZero) {
  Blocks blocks(50, 32, 9);
  const std::vector<float> query = random_query(32, 10);
  for (const size_t row : {3, 44}) {
    for (size_t d = 0; d < 32; ++d) {
      blocks.set(row, d, query[d]);
    }
  }
  Nearest nearest(3);
  offer_rows(query, blocks.floats, 0, 50, nearest);
  EXPECT_EQ(nearest.found()[0].distance, 0.0f);
  EXPECT_EQ(nearest.found()[0].row, 3U);
  EXPECT_EQ(nearest.found()[1].row, 44U);
  EXPECT_GT(nearest.found()[2].distance, 0.0f);
}

TEST_P(Distance, RowsAreKeptOnlyBelowTheBound) {
  const Blocks blocks(100, 5, 11);
  const std::vector<float> query = random_query(5, 12);
  const std::vector<Neighbour> all = sorted(blocks, query, 0, 100, 100);
  for (const size_t count : {0, 1, 5, 50}) {
    Nearest nearest(60);
    nearest.clear(all[count].distance);
    offer_rows(query, blocks.floats, 0, 100, nearest);
    std::vector<Neighbour> expected(all);
    std::erase_if(expected,
                  [&](const Neighbour& n) { return !(n.distance < all[count].distance); });
    expect_equal(nearest.found(), expected);
    EXPECT_EQ(nearest.bound(), all[count].distance);
    EXPECT_FALSE(nearest.is_full());
  }
}

TEST_P(Distance, WrongSizesAreRefused) {
  const Blocks blocks(64, 4, 13);
  Nearest nearest(2);
  const std::vector<float> query(4);
  const std::vector<float> none;
  EXPECT_THROW(offer_rows(none, blocks.floats, 0, 1, nearest), std::invalid_argument);
  EXPECT_THROW(offer_rows(query, blocks.floats, 0, 65, nearest), std::invalid_argument);
  EXPECT_THROW(offer_rows(query, blocks.halves, 0, 65, nearest), std::invalid_argument);
  EXPECT_THROW(offer_rows(query, blocks.floats, 2, 1, nearest), std::invalid_argument);
  EXPECT_THROW(offer_rows(std::vector<float>(5), blocks.floats, 0, 64, nearest),
               std::invalid_argument);
  offer_rows(query, blocks.floats, 64, 64, nearest);
  EXPECT_TRUE(nearest.found().empty());
}

INSTANTIATE_TEST_SUITE_P(Sets, Distance, testing::ValuesIn(instruction_sets()),
                         [](const auto& set) {
                           return std::string(instruction_set_name(set.param));
                         });

TEST(Half, EveryFiniteOneReturnsAsItself) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7C00) != 0x7C00) {
      EXPECT_EQ(to_half(from_half(static_cast<uint16_t>(bits))), bits);
    }
  }
  EXPECT_EQ(from_half(0x3C00), 1.0f);
  EXPECT_EQ(from_half(0x7BFF), kMaxHalf);
  EXPECT_EQ(from_half(0x0001), 0x1.0p-24f);
  EXPECT_EQ(from_half(0xC000), -2.0f);
}

TEST(Half, RoundsToTheNearestWithTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const auto low = static_cast<uint16_t>(bits);
    const auto high = static_cast<uint16_t>(bits + 1);
    const float middle = (from_half(low) + from_half(high)) / 2.0f;  // exact in float32
    EXPECT_EQ(to_half(middle), bits % 2 == 0 ? low : high) << bits;
    EXPECT_EQ(to_half(std::nextafter(middle, 0.0f)), low) << bits;
    EXPECT_EQ(to_half(std::nextafter(middle, kMaxHalf)), high) << bits;
    EXPECT_EQ(to_half(-std::nextafter(middle, kMaxHalf)), high | 0x8000) << bits;
  }
  EXPECT_EQ(to_half(0x1.0p-149f), 0);
}

}  // namespace
}  // namespace atari_fast
