// Codes of rows: SIMD beside the scalar path, and that no near row is ever ruled out.
#include "kernels/coarse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/rng.h"

namespace atari_fast {
namespace {

class Coarse : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override { set_instruction_set(GetParam()); }
  void TearDown() override { set_instruction_set(best_instruction_set()); }
};

std::vector<uint8_t> random_codes(Rng& rng, size_t count, uint64_t below) {
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) {
    code = static_cast<uint8_t>(rng.below(below));
  }
  return codes;
}

TEST_P(Coarse, LeastDistancesAreThoseOfAPlainLoop) {
  Rng rng(1);
  for (const size_t dim : {1, 2, 3, 8, 31, 32, 100}) {
    for (const uint64_t below : {2, 20, 128}) {  // the sums of many large codes saturate
      const size_t bytes = coarse_block_bytes(dim);
      std::vector<uint8_t> query(bytes);
      const CoarseScale scale{0.0f, 1.0f, 127.0f};
      std::vector<float> numbers(dim);
      for (float& number : numbers) {
        number = static_cast<float>(rng.below(below));
      }
      EXPECT_LT(set_coarse_query(scale, numbers, query), 0.01f);
      const std::vector<uint8_t> blocks = random_codes(rng, 5 * bytes, below);
      std::vector<uint16_t> least(5);
      least_coarse_distances(query, blocks, least);
      for (size_t block = 0; block < 5; ++block) {
        int64_t expected = 65535;
        for (size_t row = 0; row < kBlockRows; ++row) {
          int64_t sum = 0;
          for (size_t i = 0; i < bytes / kBlockRows; ++i) {
            const int64_t code = blocks[block * bytes + i / 2 * 64 + 2 * row + i % 2];
            const int64_t mine = i < dim ? static_cast<int64_t>(numbers[i]) : 0;
            sum += (code - mine) * (code - mine);
          }
          expected = std::min(expected, sum);
        }
        EXPECT_EQ(least[block], expected) << "dim " << dim << ", block " << block;
      }
    }
  }
}

TEST_P(Coarse, WrongSizesAreRefused) {
  const std::vector<uint8_t> bytes(256);
  std::vector<uint16_t> least(2);
  const std::span<const uint8_t> all(bytes);
  EXPECT_THROW(least_coarse_distances(all.first(65), all, least), std::invalid_argument);
  EXPECT_THROW(least_coarse_distances(all.first(64), all, least), std::invalid_argument);
  EXPECT_THROW(coarse_scale({}, 1), std::invalid_argument);
  least_coarse_distances(all.first(128), all, least);
}

INSTANTIATE_TEST_SUITE_P(Sets, Coarse, testing::ValuesIn(instruction_sets()), [](const auto& set) {
  return std::string(instruction_set_name(set.param));
});

/// A row at the given distance has codes within the limit, whatever the scale was made for.
TEST(CoarseScale, RulesOutNoNearRow) {
  Rng rng(2);
  const auto random = [&rng](float middle, float width) {
    return middle + width * static_cast<float>(2.0 * rng.uniform() - 1.0);
  };
  for (const size_t dim : {1, 7, 32, 200}) {
    for (const float middle : {0.0f, 1000.0f, -1e6f}) {
      for (const float width : {1e-40f, 1e-3f, 1.0f, 1e10f, 1e15f}) {
        std::vector<float> sample(600);
        std::generate(sample.begin(), sample.end(), [&] { return random(middle, width); });
        const CoarseScale scale = coarse_scale(sample, dim);
        for (int i = 0; i < 50; ++i) {
          const float factor = std::ldexp(1.0f, static_cast<int>(rng.below(12)) - 8);
          std::vector<float> query(dim);
          std::vector<float> row(dim);
          float distance = 0.0f;
          for (size_t d = 0; d < dim; ++d) {
            query[d] = std::clamp(random(middle, width * factor), -1e15f, 1e15f);
            row[d] = std::clamp(query[d] + random(0.0f, width * factor), -1e15f, 1e15f);
            distance += (query[d] - row[d]) * (query[d] - row[d]);
          }
          std::vector<uint8_t> one(coarse_block_bytes(dim));
          std::vector<uint8_t> other(coarse_block_bytes(dim));
          const float error =
              set_coarse_query(scale, query, one) + set_coarse_query(scale, row, other);
          std::vector<uint16_t> least(1);
          least_coarse_distances(one, other, least);
          EXPECT_LE(least[0], scale.limit(distance, dim, error));
        }
      }
    }
  }
}

TEST(CoarseScale, LimitsAreTightWhereItFits) {
  std::vector<float> sample(4096);
  Rng rng(3);
  std::generate(sample.begin(), sample.end(), [&] { return static_cast<float>(rng.uniform()); });
  const CoarseScale scale = coarse_scale(sample, 32);
  EXPECT_EQ(scale.max_code, 127.0f);
  EXPECT_NEAR(scale.inverse_step, 127.0f / 1.25f, 1.0f);
  EXPECT_EQ(scale.limit(0.0f, 32, 0.0f), 0);
  EXPECT_NEAR(scale.limit(1.0f, 32, 4.0f), std::pow(127.0 / 1.25 + 4.0, 2), 250.0);
  EXPECT_EQ(scale.limit(std::numeric_limits<float>::infinity(), 32, 0.0f), 65535);
}

}  // namespace
}  // namespace atari_fast
