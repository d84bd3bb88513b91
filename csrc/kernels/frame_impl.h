// What the paths of the frame kernel share: the weights, the rounding and the entry points.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/frame.h"

namespace atari_fast::frame_impl {

inline constexpr size_t kOutputUnits =
    40;  ///< width of an output column, in 1/21 of an input column
inline constexpr size_t kInputUnits = 21;
inline constexpr uint32_t kTotalWeight = 200;  ///< 5 half rows times 40 units

/// Five input rows make two output rows, with the weights (2, 2, 1, 0, 0) and (0, 0, 1, 2, 2).
inline constexpr size_t kGroupRows = 5;
inline constexpr size_t kGroupBytes = kGroupRows * kScreenColumns;
inline constexpr size_t kGroups = kScreenRows / kGroupRows;

/// The at most three neighbouring input columns under an output column; the weights' sum is 40.
struct ColumnTaps {
  size_t first;
  std::array<uint8_t, 3> weights;
};

constexpr ColumnTaps column_taps(size_t output) {
  const size_t begin = output * kOutputUnits;
  const size_t first = begin / kInputUnits;
  const size_t left = kInputUnits - begin % kInputUnits;
  const size_t middle = kOutputUnits - left < kInputUnits ? kOutputUnits - left : kInputUnits;
  return {first,
          {static_cast<uint8_t>(left), static_cast<uint8_t>(middle),
           static_cast<uint8_t>(kOutputUnits - left - middle)}};
}

/// n / 200 == (n + 1) * kReciprocal >> 23 for every n that occurs: a 16-bit multiply-high and a
/// shift.
inline constexpr uint32_t kReciprocal = 41943;
inline constexpr int kReciprocalShift = 7;  ///< after the 16 bits of the multiply-high

constexpr uint32_t divide_by_total(uint32_t n) {
  return (n + 1) * kReciprocal >> (16 + kReciprocalShift);
}

/// round(total / 200), ties to even.
constexpr uint8_t rounded(uint32_t total) {
  const uint32_t odd = divide_by_total(total) & 1;
  return static_cast<uint8_t>(divide_by_total(total + 99 + odd));
}

/// How a byte shuffle lays out `Outputs` output columns: slot s of `pairs` holds the first two taps
/// of column first_output + s, slot s of `thirds` the third one and a byte of weight zero. The byte
/// indices count from `first_column`.
template <size_t Outputs>
struct ShufflePlan {
  size_t first_output = 0;
  size_t first_column = 0;
  alignas(64) std::array<uint8_t, 2 * Outputs> pairs{};
  alignas(64) std::array<int8_t, 2 * Outputs> pair_weights{};
  alignas(64) std::array<uint8_t, 2 * Outputs> thirds{};
  alignas(64) std::array<int8_t, 2 * Outputs> third_weights{};
};

template <size_t Outputs>
constexpr ShufflePlan<Outputs> shuffle_plan(size_t first_output, size_t first_column) {
  ShufflePlan<Outputs> plan;
  plan.first_output = first_output;
  plan.first_column = first_column;
  for (size_t slot = 0; slot < Outputs; ++slot) {
    const ColumnTaps taps = column_taps(first_output + slot);
    const auto index = static_cast<uint8_t>(taps.first - first_column);
    plan.pairs[2 * slot] = index;
    plan.pairs[2 * slot + 1] = static_cast<uint8_t>(index + 1);
    plan.pair_weights[2 * slot] = static_cast<int8_t>(taps.weights[0]);
    plan.pair_weights[2 * slot + 1] = static_cast<int8_t>(taps.weights[1]);
    plan.third_weights[2 * slot] = static_cast<int8_t>(taps.weights[2]);
    plan.thirds[2 * slot] = taps.weights[2] == 0 ? uint8_t{0} : static_cast<uint8_t>(index + 2);
  }
  return plan;
}

/// Whether every tap of `plan` lies in a window of 2 * Outputs bytes that lies in the row.
template <size_t Outputs>
constexpr bool fits(const ShufflePlan<Outputs>& plan) {
  bool good = plan.first_column + 2 * Outputs <= kScreenColumns &&
              plan.first_output + Outputs <= kFrameSide;
  for (size_t i = 0; i < 2 * Outputs; ++i) {
    good = good && plan.pairs[i] < 2 * Outputs && plan.thirds[i] < 2 * Outputs;
  }
  return good;
}

/// Twelve chunks of eight columns for 16-byte shuffles. Neighbours overlap, with equal values.
inline constexpr size_t kChunks = 12;
inline constexpr size_t kChunkOutputs = 8;

constexpr std::array<ShufflePlan<kChunkOutputs>, kChunks> chunk_plans() {
  std::array<ShufflePlan<kChunkOutputs>, kChunks> plans{};
  for (size_t chunk = 0; chunk < kChunks; ++chunk) {
    const size_t output = chunk + 1 < kChunks ? 7 * chunk : kFrameSide - kChunkOutputs;
    plans[chunk] = shuffle_plan<kChunkOutputs>(output, column_taps(output).first);
  }
  return plans;
}

inline constexpr std::array<ShufflePlan<kChunkOutputs>, kChunks> kChunkPlans = chunk_plans();

constexpr bool every_chunk_fits() {
  bool good = true;
  for (const auto& plan : kChunkPlans) {
    good = good && fits(plan);
  }
  return good;
}
static_assert(every_chunk_fits());

/// `count` pairs of screens to `count` frames, with one instruction set.
using PaletteKernel = void (*)(const uint8_t* screens, const uint8_t* luma, uint8_t* out,
                               size_t count);
using GrayKernel = void (*)(const uint8_t* screens, uint8_t* out, size_t count);

void palette_scalar(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count);
void gray_scalar(const uint8_t* screens, uint8_t* out, size_t count);
#if defined(__x86_64__)
void palette_avx2(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count);
void gray_avx2(const uint8_t* screens, uint8_t* out, size_t count);
void palette_avx512(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count);
void gray_avx512(const uint8_t* screens, uint8_t* out, size_t count);
#elif defined(__aarch64__)
void palette_neon(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count);
void gray_neon(const uint8_t* screens, uint8_t* out, size_t count);
#endif

}  // namespace atari_fast::frame_impl
