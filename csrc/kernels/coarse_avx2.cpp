// The AVX2 path: 32 sums of a block in two registers of 16 bits, which saturate.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/coarse_impl.h"

#define AF_TARGET __attribute__((target("avx2")))

namespace atari_fast::coarse_impl {
namespace {

constexpr size_t kAhead = 2048;  // how far ahead memory is asked for, in bytes

AF_TARGET inline __m256i load(const uint8_t* codes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
}

/// Adds the squares of the differences of 16 pairs.
AF_TARGET inline __m256i add(__m256i sums, __m256i query, __m256i codes) {
  const __m256i size = _mm256_abs_epi8(_mm256_sub_epi8(query, codes));
  return _mm256_adds_epu16(sums, _mm256_maddubs_epi16(size, size));
}

}  // namespace

AF_TARGET void least_avx2(const uint8_t* query, const uint8_t* blocks, size_t block_bytes,
                          size_t count, uint16_t* least) {
  for (size_t block = 0; block < count; ++block, blocks += block_bytes) {
    __m256i low = _mm256_setzero_si256();
    __m256i high = _mm256_setzero_si256();
    for (size_t pair = 0; pair < block_bytes; pair += kPairBytes) {
      const uint8_t* codes = blocks + pair;
      // An address, since it may lie beyond the rows, where pointers must not point.
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(codes) + kAhead),
                   _MM_HINT_T0);
      low = add(low, load(query + pair), load(codes));
      high = add(high, load(query + pair + 32), load(codes + 32));
    }
    const __m256i both = _mm256_min_epu16(low, high);
    const __m128i eight =
        _mm_min_epu16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    least[block] = static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(eight)));
  }
}

}  // namespace atari_fast::coarse_impl

#endif
