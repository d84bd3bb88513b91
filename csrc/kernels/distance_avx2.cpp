// The AVX2 path: the 32 sums of a block in four registers.
#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#include "kernels/distance_impl.h"

#define AF_TARGET __attribute__((target("avx2,f16c")))

namespace atari_fast::distance_impl {
namespace {

constexpr size_t kWidth = 8;
constexpr size_t kVectors = kBlockRows / kWidth;
static_assert(kVectors == 4);
constexpr size_t kLineBytes = 64;
/// How far ahead memory is asked for, in bytes; as measured where 32 memories do not fit into a
/// cache.
template <typename Element>
constexpr size_t kAhead = sizeof(Element) == sizeof(float) ? 512 : 4096;

AF_TARGET inline __m256 load(const float* values) { return _mm256_loadu_ps(values); }

AF_TARGET inline __m256 load(const uint16_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

/// Which of the 32 sums are below the bound, one bit each.
AF_TARGET inline uint32_t below(const __m256* sums, __m256 bound) {
  uint32_t bits = 0;
  for (size_t v = 0; v < kVectors; ++v) {
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(sums[v], bound, _CMP_LT_OQ));
    bits |= static_cast<uint32_t>(mask) << (kWidth * v);
  }
  return bits;
}

/// Adds one dimension to the sums.
template <typename Element>
AF_TARGET inline void add(float query, const Element* values, __m256* sums) {
  constexpr size_t kBytes = kBlockRows * sizeof(Element);
  const uintptr_t ahead = reinterpret_cast<uintptr_t>(values) + kAhead<Element>;
  for (size_t line = 0; line < kBytes; line += kLineBytes) {
    // An address, since it may lie beyond the rows, where pointers must not point.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    _mm_prefetch(reinterpret_cast<const char*>(ahead + line), _MM_HINT_T0);
  }
  const __m256 value = _mm256_set1_ps(query);
  for (size_t v = 0; v < kVectors; ++v) {
    const __m256 difference = _mm256_sub_ps(value, load(values + kWidth * v));
    sums[v] = _mm256_add_ps(sums[v], _mm256_mul_ps(difference, difference));
  }
}

template <typename Element>
AF_TARGET inline uint32_t run(const float* query, const Element* block, size_t dim, float bound,
                              float* distances) {
  const __m256 limit = _mm256_set1_ps(bound);
  const __m256 zero = _mm256_setzero_ps();
  __m256 sums[kVectors] = {zero, zero, zero, zero};
  size_t d = 0;
  for (; d + kCheckEvery <= dim; d += kCheckEvery) {
    for (size_t i = 0; i < kCheckEvery; ++i) {
      add(query[d + i], block + (d + i) * kBlockRows, sums);
    }
    const __m256 least =
        _mm256_min_ps(_mm256_min_ps(sums[0], sums[1]), _mm256_min_ps(sums[2], sums[3]));
    if (_mm256_movemask_ps(_mm256_cmp_ps(least, limit, _CMP_LT_OQ)) == 0) {
      return 0;
    }
  }
  for (; d < dim; ++d) {
    add(query[d], block + d * kBlockRows, sums);
  }
  for (size_t v = 0; v < kVectors; ++v) {
    _mm256_storeu_ps(distances + kWidth * v, sums[v]);
  }
  return below(sums, limit);
}

}  // namespace

bool has_f16c() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

AF_TARGET uint32_t block_avx2(const float* query, const float* block, size_t dim, float bound,
                              float* distances) {
  return run(query, block, dim, bound, distances);
}

AF_TARGET uint32_t half_block_avx2(const float* query, const uint16_t* block, size_t dim,
                                   float bound, float* distances) {
  return run(query, block, dim, bound, distances);
}

}  // namespace atari_fast::distance_impl

#endif
