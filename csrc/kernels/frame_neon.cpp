// The NEON path: five pooled rows in a small buffer, then 16-byte shuffles, one chunk a register.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels/frame_impl.h"

namespace atari_fast::frame_impl {
namespace {

/// 16 gray levels: the maximum of the same place of two gray screens.
struct GrayPair {
  uint8x16_t operator()(const uint8_t* first) const {
    return vmaxq_u8(vld1q_u8(first), vld1q_u8(first + kScreenBytes));
  }
};

/// The same for palette screens, by four tables of 64; a shuffle gives zero for an index beyond its
/// table.
struct PalettePair {
  explicit PalettePair(const uint8_t* luma)
      : tables{vld1q_u8_x4(luma), vld1q_u8_x4(luma + 64), vld1q_u8_x4(luma + 128),
               vld1q_u8_x4(luma + 192)} {}

  uint8x16_t look_up(uint8x16_t index) const {
    uint8x16_t level = vqtbl4q_u8(tables[0], index);
    for (size_t k = 1; k < 4; ++k) {
      index = vsubq_u8(index, vdupq_n_u8(64));
      level = vorrq_u8(level, vqtbl4q_u8(tables[k], index));
    }
    return level;
  }

  uint8x16_t operator()(const uint8_t* first) const {
    return vmaxq_u8(look_up(vld1q_u8(first)), look_up(vld1q_u8(first + kScreenBytes)));
  }

  uint8x16x4_t tables[4];
};

/// Products of 16 bytes and weights, added in pairs.
inline uint16x8_t weighted(uint8x16_t bytes, const std::array<int8_t, 16>& weights) {
  const uint8x16_t factors = vreinterpretq_u8_s8(vld1q_s8(weights.data()));
  return vpaddq_u16(vmull_u8(vget_low_u8(bytes), vget_low_u8(factors)),
                    vmull_high_u8(bytes, factors));
}

/// Sums of weight 40 of the columns of a chunk.
inline uint16x8_t column_sums(const uint8_t* row, const ShufflePlan<kChunkOutputs>& plan) {
  const uint8x16_t window = vld1q_u8(row + plan.first_column);
  const uint8x16_t two = vqtbl1q_u8(window, vld1q_u8(plan.pairs.data()));
  const uint8x16_t one = vqtbl1q_u8(window, vld1q_u8(plan.thirds.data()));
  return vaddq_u16(weighted(two, plan.pair_weights), weighted(one, plan.third_weights));
}

/// `divide_by_total` of eight numbers less one.
inline uint16x8_t divided(uint16x8_t next) {
  constexpr auto kFactor = static_cast<uint16_t>(kReciprocal);
  constexpr int kShift = 16 + kReciprocalShift;
  const uint32x4_t low = vmull_n_u16(vget_low_u16(next), kFactor);
  const uint32x4_t high = vmull_high_n_u16(next, kFactor);
  return vcombine_u16(vmovn_u32(vshrq_n_u32(low, kShift)), vmovn_u32(vshrq_n_u32(high, kShift)));
}

/// `rounded` of eight totals.
inline uint8x8_t rounded(uint16x8_t total) {
  const uint16x8_t next = vaddq_u16(total, vdupq_n_u16(1));
  const uint16x8_t odd = vandq_u16(divided(next), vdupq_n_u16(1));
  return vmovn_u16(divided(vaddq_u16(vaddq_u16(next, vdupq_n_u16(99)), odd)));
}

/// A chunk of two output rows.
inline void resize_chunk(const uint8_t* rows, const ShufflePlan<kChunkOutputs>& plan,
                         uint8_t* out) {
  uint16x8_t sums[kGroupRows];
  for (size_t row = 0; row < kGroupRows; ++row) {
    sums[row] = column_sums(rows + row * kScreenColumns, plan);
  }
  const uint16x8_t upper = vshlq_n_u16(vaddq_u16(sums[0], sums[1]), 1);
  const uint16x8_t lower = vshlq_n_u16(vaddq_u16(sums[3], sums[4]), 1);
  vst1_u8(out + plan.first_output, rounded(vaddq_u16(upper, sums[2])));
  vst1_u8(out + plan.first_output + kFrameSide, rounded(vaddq_u16(lower, sums[2])));
}

template <typename Source>
void run(const uint8_t* screens, uint8_t* out, size_t count, const Source& source) {
  std::array<uint8_t, kGroupBytes> rows;
  for (size_t n = 0; n < count; ++n, screens += 2 * kScreenBytes, out += kFrameBytes) {
    for (size_t group = 0; group < kGroups; ++group) {
      const uint8_t* first = screens + group * kGroupBytes;
      for (size_t place = 0; place < kGroupBytes; place += 16) {
        vst1q_u8(rows.data() + place, source(first + place));
      }
      for (const auto& plan : kChunkPlans) {
        resize_chunk(rows.data(), plan, out + group * 2 * kFrameSide);
      }
    }
  }
}

}  // namespace

void palette_neon(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count) {
  run(screens, out, count, PalettePair(luma));
}

void gray_neon(const uint8_t* screens, uint8_t* out, size_t count) {
  run(screens, out, count, GrayPair{});
}

}  // namespace atari_fast::frame_impl

#endif
