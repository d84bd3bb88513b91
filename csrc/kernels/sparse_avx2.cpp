// The AVX2 path of the sparse code: masks by comparison, groups of 8 bytes by one shuffle each.
#if defined(__x86_64__)

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "kernels/sparse.h"
#include "kernels/sparse_impl.h"

#define AF_TARGET __attribute__((target("avx2,popcnt,bmi")))

namespace atari_fast::sparse_impl {
namespace {

constexpr Shuffles kShuffles = make_shuffles();

AF_TARGET inline __m128i load_group(const void* bytes) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(bytes));
}

AF_TARGET inline __m256i difference(const uint8_t* a, const uint8_t* b) {
  return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
}

/// A bit for each byte that is not 0.
AF_TARGET inline uint64_t mask_of(__m256i bytes) {
  const __m256i zero = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
  return static_cast<uint32_t>(~_mm256_movemask_epi8(zero));
}

/// Appends a block's code to `next`; `mask` has a bit for each byte that differs.
AF_TARGET inline uint8_t* put_block(uint64_t mask, const uint8_t* block, uint8_t* next) {
  uint8_t* const groups = next++;
  uint8_t* payload = next;
  uint32_t bits = 0;
  for (size_t group = 0; group < 8; ++group) {
    const auto bytes = static_cast<uint8_t>(mask >> (8 * group));
    *payload = bytes;
    payload += bytes != 0 ? 1 : 0;
    bits |= (bytes != 0 ? 1U : 0U) << group;
  }
  *groups = static_cast<uint8_t>(bits);
  for (; bits != 0; bits &= bits - 1) {
    const auto group = static_cast<size_t>(std::countr_zero(bits));
    const auto bytes = static_cast<uint8_t>(mask >> (8 * group));
    const __m128i packed =
        _mm_shuffle_epi8(load_group(block + 8 * group), load_group(kShuffles.gather[bytes].data()));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(payload), packed);
    payload += std::popcount(bytes);
  }
  return payload;
}

}  // namespace

AF_TARGET size_t encode_avx2(const uint8_t* frame, const uint8_t* reference, size_t padded,
                             uint8_t* out) {
  const size_t blocks = padded / kSparseBlock;
  uint8_t* next = out + (blocks + 7) / 8;
  std::memset(out, 0, (blocks + 7) / 8);
  alignas(32) uint8_t changed[kSparseBlock];
  for (size_t block = 0; block < blocks; ++block) {
    const size_t at = block * kSparseBlock;
    const __m256i low = difference(frame + at, reference + at);
    const __m256i high = difference(frame + at + 32, reference + at + 32);
    const __m256i any = _mm256_or_si256(low, high);
    if (_mm256_testz_si256(any, any) != 0) {
      continue;
    }
    out[block / 8] = static_cast<uint8_t>(out[block / 8] | (1 << (block % 8)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(changed), low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(changed + 32), high);
    next = put_block(mask_of(low) | (mask_of(high) << 32), changed, next);
  }
  return static_cast<size_t>(next - out);
}

AF_TARGET const uint8_t* apply_avx2(const uint8_t* code, uint8_t* frame, size_t padded) {
  const size_t blocks = padded / kSparseBlock;
  const uint8_t* next = code + (blocks + 7) / 8;
  for (size_t first = 0; first < blocks; first += 8) {
    for (uint32_t left = code[first / 8]; left != 0; left &= left - 1) {
      uint8_t* const block =
          frame + (first + static_cast<size_t>(std::countr_zero(left))) * kSparseBlock;
      uint32_t groups = *next;
      const uint8_t* mask = next + 1;
      next = mask + std::popcount(groups);
      for (; groups != 0; groups &= groups - 1) {
        auto* const at =
            reinterpret_cast<__m128i*>(block + 8 * static_cast<size_t>(std::countr_zero(groups)));
        const uint8_t bytes = *mask++;
        const __m128i spread =
            _mm_shuffle_epi8(load_group(next), load_group(kShuffles.scatter[bytes].data()));
        _mm_storel_epi64(at, _mm_xor_si128(_mm_loadl_epi64(at), spread));
        next += std::popcount(bytes);
      }
    }
  }
  return next;
}

}  // namespace atari_fast::sparse_impl

#endif
