#include "kernels/coarse.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/coarse_impl.h"

namespace atari_fast {
namespace {

using coarse_impl::kPairBytes;

constexpr float kMaxCode = 127.0f;  // the square of a difference of two pairs fits 15 bits
constexpr uint16_t kMost = std::numeric_limits<uint16_t>::max();

coarse_impl::LeastKernel kernel() {
#if defined(__x86_64__)
  if (instruction_set() != InstructionSet::kScalar) {
    return coarse_impl::least_avx2;
  }
#endif
  return coarse_impl::least_scalar;
}

}  // namespace

uint16_t CoarseScale::limit(float distance, size_t dim, float error) const {
  // Clamping moves no two points apart, so the codes of two rows are at most as far apart, in
  // steps, as the rows and the two rounding errors together. The distance given is a sum with D + 2
  // roundings, of which terms below 2^-126 may be missing.
  const auto d = static_cast<double>(dim);
  const double exact =
      static_cast<double>(distance) * std::exp((d + 4.0) * 0x1.0p-23) + d * 0x1.0p-125;
  const double steps = std::sqrt(exact) * static_cast<double>(inverse_step) + error;
  return static_cast<uint16_t>(std::min(steps * steps, static_cast<double>(kMost)));
}

CoarseScale coarse_scale(std::span<float> sample, size_t dim) {
  check_argument(!sample.empty(), "sample: expected at least 1 number, got 0");
  // All but a few of the numbers, so that one far away does not make the steps wide.
  const size_t few = sample.size() / 512;
  const auto low = sample.begin() + static_cast<std::ptrdiff_t>(few);
  const auto high = sample.end() - 1 - static_cast<std::ptrdiff_t>(few);
  std::nth_element(sample.begin(), low, sample.end());
  const float least = *low;
  std::nth_element(sample.begin(), high, sample.end());
  const float span = std::max(*high - least, 1e-30f);
  // Sums of many dimensions stay below the largest one that is told apart.
  const float most = std::sqrt(0x1.0p21f / static_cast<float>(dim));
  CoarseScale scale;
  scale.low = least - span / 8.0f;
  scale.max_code = std::clamp(std::floor(most), 1.0f, kMaxCode);
  scale.inverse_step = scale.max_code / (span * 1.25f);
  return scale;
}

size_t coarse_block_bytes(size_t dim) { return (dim + 1) / 2 * kPairBytes; }

float set_coarse_row(const CoarseScale& scale, std::span<const float> numbers, size_t row,
                     uint8_t* block) {
  float error = 0.0f;
  for (size_t d = 0; d < numbers.size(); ++d) {
    const float place =
        std::clamp((numbers[d] - scale.low) * scale.inverse_step, 0.0f, scale.max_code);
    const auto code = static_cast<uint8_t>(place + 0.5f);
    const float moved = std::abs(place - static_cast<float>(code)) + 1e-4f;  // and its own rounding
    error += moved * moved;
    block[d / 2 * kPairBytes + 2 * row + d % 2] = code;
  }
  // With the roundings of this sum.
  return 1.001f * std::sqrt(error);
}

float set_coarse_query(const CoarseScale& scale, std::span<const float> query,
                       std::span<uint8_t> block) {
  const float error = set_coarse_row(scale, query, 0, block.data());
  for (size_t pair = 0; pair < block.size(); pair += kPairBytes) {
    for (size_t row = 1; row < kBlockRows; ++row) {
      std::copy_n(&block[pair], 2, &block[pair + 2 * row]);
    }
  }
  return error;
}

void least_coarse_distances(std::span<const uint8_t> query, std::span<const uint8_t> blocks,
                            std::span<uint16_t> least) {
  check_argument(query.size() % kPairBytes == 0, "query: expected whole pairs of ", kPairBytes,
                 " bytes, got ", query.size(), " bytes");
  check_argument(blocks.size() == query.size() * least.size(), "blocks: expected ",
                 query.size() * least.size(), " bytes, got ", blocks.size());
  kernel()(query.data(), blocks.data(), query.size(), least.size(), least.data());
}

}  // namespace atari_fast
