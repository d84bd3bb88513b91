// The portable path, which defines the result of all others. Compilers vectorise its loops.
#include <algorithm>
#include <array>

#include "kernels/coarse_impl.h"

namespace atari_fast::coarse_impl {

void least_scalar(const uint8_t* query, const uint8_t* blocks, size_t block_bytes, size_t count,
                  uint16_t* least) {
  for (size_t block = 0; block < count; ++block, blocks += block_bytes) {
    std::array<uint32_t, kBlockRows> sums{};
    for (size_t pair = 0; pair < block_bytes; pair += kPairBytes) {
      for (size_t row = 0; row < kBlockRows; ++row) {
        const int32_t first = query[pair + 2 * row] - blocks[pair + 2 * row];
        const int32_t second = query[pair + 2 * row + 1] - blocks[pair + 2 * row + 1];
        const auto sum = sums[row] + static_cast<uint32_t>(first * first + second * second);
        sums[row] = std::min(sum, uint32_t{0xFFFF});
      }
    }
    least[block] = static_cast<uint16_t>(*std::min_element(sums.begin(), sums.end()));
  }
}

}  // namespace atari_fast::coarse_impl
