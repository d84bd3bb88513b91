// The portable path, which defines the result of all others. Compilers vectorise its loops.
#include <array>

#include "kernels/distance_impl.h"
#include "kernels/half.h"

namespace atari_fast::distance_impl {
namespace {

float widened(float value) { return value; }
float widened(uint16_t half) { return from_half(half); }

template <typename Element>
uint32_t run(const float* query, const Element* block, size_t dim, float bound, float* distances) {
  std::array<float, kBlockRows> sums{};
  for (size_t d = 0; d < dim; ++d, block += kBlockRows) {
    for (size_t row = 0; row < kBlockRows; ++row) {
      const float difference = query[d] - widened(block[row]);
      sums[row] += difference * difference;
    }
  }
  uint32_t below = 0;
  for (size_t row = 0; row < kBlockRows; ++row) {
    distances[row] = sums[row];
    below |= (sums[row] < bound ? uint32_t{1} : uint32_t{0}) << row;
  }
  return below;
}

}  // namespace

uint32_t block_scalar(const float* query, const float* block, size_t dim, float bound,
                      float* distances) {
  return run(query, block, dim, bound, distances);
}

uint32_t half_block_scalar(const float* query, const uint16_t* block, size_t dim, float bound,
                           float* distances) {
  return run(query, block, dim, bound, distances);
}

}  // namespace atari_fast::distance_impl
