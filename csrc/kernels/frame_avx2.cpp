// The AVX2 path: five pooled rows in a small buffer, then 16-byte shuffles, two chunks a register.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/frame_impl.h"

#define AF_TARGET __attribute__((target("avx2")))

namespace atari_fast::frame_impl {
namespace {

AF_TARGET inline __m256i load(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

/// The 16 bytes at `low` and at `high` as the two lanes of a register.
template <typename Byte>
AF_TARGET inline __m256i load_lanes(const Byte* low, const Byte* high) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(high),
                             reinterpret_cast<const __m128i*>(low));
}

/// 32 gray levels: the maximum of the same place of two gray screens.
struct GrayPair {
  AF_TARGET __m256i operator()(const uint8_t* first) const {
    return _mm256_max_epu8(load(first), load(first + kScreenBytes));
  }
};

/// A table of 128 entries, looked up by shuffles of 16. Part k holds entries 16k.. XOR entries
/// 16(k-1)..; the parts 0..h of an index with the high bits h add up to its entry, since a shuffle
/// gives zero for a negative index and the others see the same low four bits.
struct HalfTable {
  AF_TARGET explicit HalfTable(const std::array<uint8_t, 128>& entries) {
    __m128i before = _mm_setzero_si128();
    for (size_t k = 0; k < kParts; ++k) {
      const __m128i here =
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(entries.data() + 16 * k));
      parts[k] = _mm256_broadcastsi128_si256(_mm_xor_si128(here, before));
      before = here;
    }
  }

  /// The entries of 32 indices; zero for an index above 127.
  AF_TARGET __m256i look_up(__m256i index) const {
    __m256i level = _mm256_shuffle_epi8(parts[0], index);
    for (size_t k = 1; k < kParts; ++k) {
      index = _mm256_subs_epi8(index, _mm256_set1_epi8(16));
      level = _mm256_xor_si256(level, _mm256_shuffle_epi8(parts[k], index));
    }
    return level;
  }

  static constexpr size_t kParts = 8;
  __m256i parts[kParts];
};

std::array<uint8_t, 128> every(const uint8_t* luma, size_t step) {
  std::array<uint8_t, 128> entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i] = luma[i * step];
  }
  return entries;
}

/// 32 gray levels: the maximum of the same place of two palette screens.
///
/// The emulator's indices are even, so a table of 128 does; an odd one takes the longer way.
struct PalettePair {
  AF_TARGET explicit PalettePair(const uint8_t* luma)
      : even(every(luma, 2)), low(every(luma, 1)), high(every(luma + 128, 1)) {}

  AF_TARGET __m256i look_up(__m256i index) const {
    if (_mm256_testz_si256(index, _mm256_set1_epi8(1))) [[likely]] {
      return even.look_up(_mm256_srli_epi16(index, 1));
    }
    const __m256i flipped = _mm256_xor_si256(index, _mm256_set1_epi8(-128));
    return _mm256_xor_si256(low.look_up(index), high.look_up(flipped));
  }

  AF_TARGET __m256i operator()(const uint8_t* first) const {
    const __m256i a = load(first);
    const __m256i b = load(first + kScreenBytes);
    const __m256i difference = _mm256_xor_si256(a, b);
    if (_mm256_testz_si256(difference, difference)) {
      return look_up(a);
    }
    return _mm256_max_epu8(look_up(a), look_up(b));
  }

  HalfTable even, low, high;
};

/// The taps of two chunks.
struct Taps {
  AF_TARGET Taps(const ShufflePlan<kChunkOutputs>& first, const ShufflePlan<kChunkOutputs>& second)
      : pairs(load_lanes(first.pairs.data(), second.pairs.data())),
        pair_weights(load_lanes(first.pair_weights.data(), second.pair_weights.data())),
        thirds(load_lanes(first.thirds.data(), second.thirds.data())),
        third_weights(load_lanes(first.third_weights.data(), second.third_weights.data())) {}

  /// Sums of weight 40 of the columns of two chunks.
  AF_TARGET __m256i sums(__m256i window) const {
    const __m256i two = _mm256_maddubs_epi16(_mm256_shuffle_epi8(window, pairs), pair_weights);
    const __m256i one = _mm256_maddubs_epi16(_mm256_shuffle_epi8(window, thirds), third_weights);
    return _mm256_add_epi16(two, one);
  }

  __m256i pairs, pair_weights, thirds, third_weights;
};

/// `rounded` of 16 totals, in 16 bits each.
AF_TARGET inline __m256i rounded(__m256i total) {
  const __m256i reciprocal = _mm256_set1_epi16(static_cast<int16_t>(kReciprocal));
  const __m256i next = _mm256_add_epi16(total, _mm256_set1_epi16(1));
  const __m256i odd =
      _mm256_and_si256(_mm256_srli_epi16(_mm256_mulhi_epu16(next, reciprocal), kReciprocalShift),
                       _mm256_set1_epi16(1));
  const __m256i shifted = _mm256_add_epi16(_mm256_add_epi16(next, _mm256_set1_epi16(99)), odd);
  return _mm256_srli_epi16(_mm256_mulhi_epu16(shifted, reciprocal), kReciprocalShift);
}

/// Eight bytes to an output row and eight to the next.
AF_TARGET inline void store_halves(uint8_t* out, __m128i both) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), both);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out + kFrameSide), _mm_unpackhi_epi64(both, both));
}

/// Chunks `chunk` and `chunk + 1` of two output rows.
AF_TARGET inline void resize_chunks(const uint8_t* rows, size_t chunk, uint8_t* out) {
  const auto& first = kChunkPlans[chunk];
  const auto& second = kChunkPlans[chunk + 1];
  const Taps taps(first, second);
  __m256i sums[kGroupRows];
  for (size_t row = 0; row < kGroupRows; ++row, rows += kScreenColumns) {
    sums[row] = taps.sums(load_lanes(rows + first.first_column, rows + second.first_column));
  }
  const __m256i upper = _mm256_slli_epi16(_mm256_add_epi16(sums[0], sums[1]), 1);
  const __m256i lower = _mm256_slli_epi16(_mm256_add_epi16(sums[3], sums[4]), 1);
  const __m256i levels = _mm256_packus_epi16(rounded(_mm256_add_epi16(upper, sums[2])),
                                             rounded(_mm256_add_epi16(lower, sums[2])));
  store_halves(out + first.first_output, _mm256_castsi256_si128(levels));
  store_halves(out + second.first_output, _mm256_extracti128_si256(levels, 1));
}

template <typename Source>
AF_TARGET inline void run(const uint8_t* screens, uint8_t* out, size_t count,
                          const Source& source) {
  alignas(32) std::array<uint8_t, kGroupBytes> rows;
  for (size_t n = 0; n < count; ++n, screens += 2 * kScreenBytes, out += kFrameBytes) {
    for (size_t group = 0; group < kGroups; ++group) {
      const uint8_t* first = screens + group * kGroupBytes;
      for (size_t place = 0; place < kGroupBytes; place += 32) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(rows.data() + place), source(first + place));
      }
      for (size_t chunk = 0; chunk < kChunks; chunk += 2) {
        resize_chunks(rows.data(), chunk, out + group * 2 * kFrameSide);
      }
    }
  }
}

}  // namespace

AF_TARGET void palette_avx2(const uint8_t* screens, const uint8_t* luma, uint8_t* out,
                            size_t count) {
  run(screens, out, count, PalettePair(luma));
}

AF_TARGET void gray_avx2(const uint8_t* screens, uint8_t* out, size_t count) {
  run(screens, out, count, GrayPair{});
}

}  // namespace atari_fast::frame_impl

#undef AF_TARGET

#endif
