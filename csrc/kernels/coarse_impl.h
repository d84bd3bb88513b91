// What the paths of the coarse kernel share: the entry points.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/distance.h"

namespace atari_fast::coarse_impl {

/// Bytes of a pair of dimensions of a block.
inline constexpr size_t kPairBytes = 2 * kBlockRows;

using LeastKernel = void (*)(const uint8_t* query, const uint8_t* blocks, size_t block_bytes,
                             size_t count, uint16_t* least);

void least_scalar(const uint8_t* query, const uint8_t* blocks, size_t block_bytes, size_t count,
                  uint16_t* least);
#if defined(__x86_64__)
void least_avx2(const uint8_t* query, const uint8_t* blocks, size_t block_bytes, size_t count,
                uint16_t* least);
#endif

}  // namespace atari_fast::coarse_impl
