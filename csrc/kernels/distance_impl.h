// What the paths of the distance kernel share: the entry points.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/distance.h"

namespace atari_fast::distance_impl {

/// After so many dimensions each, a block is left when no row of it can be near enough.
inline constexpr size_t kCheckEvery = 8;

/// Which rows of a block are nearer than `bound`, one bit a row. Where any is, `distances` gets all
/// 32 distances.
template <typename Element>
using BlockKernel = uint32_t (*)(const float* query, const Element* block, size_t dim, float bound,
                                 float* distances);

uint32_t block_scalar(const float* query, const float* block, size_t dim, float bound,
                      float* distances);
uint32_t half_block_scalar(const float* query, const uint16_t* block, size_t dim, float bound,
                           float* distances);
#if defined(__x86_64__)
/// The AVX2 path needs F16C as well, which every known CPU with AVX2 has.
bool has_f16c();
uint32_t block_avx2(const float* query, const float* block, size_t dim, float bound,
                    float* distances);
uint32_t half_block_avx2(const float* query, const uint16_t* block, size_t dim, float bound,
                         float* distances);
#endif

}  // namespace atari_fast::distance_impl
