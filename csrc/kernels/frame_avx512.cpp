// The AVX-512 path: three 64-byte windows a row stay in registers from the screens to the output.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/frame_impl.h"

#define AF_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

namespace atari_fast::frame_impl {
namespace {

constexpr size_t kWindowOutputs = 32;
constexpr std::array<ShufflePlan<kWindowOutputs>, 3> kWindows{shuffle_plan<kWindowOutputs>(0, 0),
                                                              shuffle_plan<kWindowOutputs>(26, 48),
                                                              shuffle_plan<kWindowOutputs>(52, 96)};
static_assert(fits(kWindows[0]) && fits(kWindows[1]) && fits(kWindows[2]));

// The forms with a full mask cost nothing; GCC 12 warns of an uninitialised value in those without.

AF_TARGET inline __m512i shuffled(__m512i window, __m512i indices) {
  return _mm512_maskz_permutexvar_epi8(~__mmask64{0}, indices, window);
}

AF_TARGET inline __m256i narrowed(__m512i words) {
  return _mm512_maskz_cvtepi16_epi8(~__mmask32{0}, words);
}

/// 64 gray levels: the maximum of the same window of two gray screens.
struct GrayPair {
  AF_TARGET __m512i operator()(const uint8_t* first) const {
    return _mm512_max_epu8(_mm512_loadu_si512(first), _mm512_loadu_si512(first + kScreenBytes));
  }
};

/// The same for palette screens; a table of 256 bytes is two pairs of registers.
struct PalettePair {
  AF_TARGET explicit PalettePair(const uint8_t* luma)
      : t0(_mm512_loadu_si512(luma)),
        t1(_mm512_loadu_si512(luma + 64)),
        t2(_mm512_loadu_si512(luma + 128)),
        t3(_mm512_loadu_si512(luma + 192)) {}

  AF_TARGET __m512i look_up(const uint8_t* indices) const {
    const __m512i index = _mm512_loadu_si512(indices);
    const __m512i low = _mm512_permutex2var_epi8(t0, index, t1);
    const __m512i high = _mm512_permutex2var_epi8(t2, index, t3);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
  }

  AF_TARGET __m512i operator()(const uint8_t* first) const {
    return _mm512_max_epu8(look_up(first), look_up(first + kScreenBytes));
  }

  __m512i t0, t1, t2, t3;
};

/// The taps of a window.
struct Taps {
  AF_TARGET explicit Taps(const ShufflePlan<kWindowOutputs>& plan)
      : pairs(_mm512_load_si512(plan.pairs.data())),
        pair_weights(_mm512_load_si512(plan.pair_weights.data())),
        thirds(_mm512_load_si512(plan.thirds.data())),
        third_weights(_mm512_load_si512(plan.third_weights.data())) {}

  /// 32 sums of weight 40 of the columns of a window.
  AF_TARGET __m512i sums(__m512i window) const {
    const __m512i two = _mm512_maddubs_epi16(shuffled(window, pairs), pair_weights);
    const __m512i one = _mm512_maddubs_epi16(shuffled(window, thirds), third_weights);
    return _mm512_add_epi16(two, one);
  }

  __m512i pairs, pair_weights, thirds, third_weights;
};

/// `rounded` of 32 totals, stored as 32 bytes.
AF_TARGET inline void store_rounded(__m512i total, uint8_t* out) {
  const __m512i reciprocal = _mm512_set1_epi16(static_cast<int16_t>(kReciprocal));
  const __m512i next = _mm512_add_epi16(total, _mm512_set1_epi16(1));
  const __m512i odd =
      _mm512_and_si512(_mm512_srli_epi16(_mm512_mulhi_epu16(next, reciprocal), kReciprocalShift),
                       _mm512_set1_epi16(1));
  const __m512i shifted = _mm512_add_epi16(_mm512_add_epi16(next, _mm512_set1_epi16(99)), odd);
  const __m512i level =
      _mm512_srli_epi16(_mm512_mulhi_epu16(shifted, reciprocal), kReciprocalShift);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), narrowed(level));
}

/// Column after column of windows, so that a window's taps stay in registers.
template <typename Source>
AF_TARGET inline void run(const uint8_t* screens, uint8_t* out, size_t count,
                          const Source& source) {
  for (size_t n = 0; n < count; ++n, screens += 2 * kScreenBytes, out += kFrameBytes) {
    for (const auto& window : kWindows) {
      const Taps taps(window);
      const uint8_t* rows = screens + window.first_column;
      uint8_t* target = out + window.first_output;
      for (size_t group = 0; group < kGroups; ++group) {
        const __m512i a = taps.sums(source(rows));
        const __m512i b = taps.sums(source(rows + kScreenColumns));
        const __m512i c = taps.sums(source(rows + 2 * kScreenColumns));
        const __m512i d = taps.sums(source(rows + 3 * kScreenColumns));
        const __m512i e = taps.sums(source(rows + 4 * kScreenColumns));
        const __m512i upper = _mm512_slli_epi16(_mm512_add_epi16(a, b), 1);
        const __m512i lower = _mm512_slli_epi16(_mm512_add_epi16(d, e), 1);
        store_rounded(_mm512_add_epi16(upper, c), target);
        store_rounded(_mm512_add_epi16(lower, c), target + kFrameSide);
        rows += kGroupBytes;
        target += 2 * kFrameSide;
      }
    }
  }
}

}  // namespace

AF_TARGET void palette_avx512(const uint8_t* screens, const uint8_t* luma, uint8_t* out,
                              size_t count) {
  run(screens, out, count, PalettePair(luma));
}

AF_TARGET void gray_avx512(const uint8_t* screens, uint8_t* out, size_t count) {
  run(screens, out, count, GrayPair{});
}

}  // namespace atari_fast::frame_impl

#undef AF_TARGET

#endif
