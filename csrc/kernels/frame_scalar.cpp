// The portable path, which defines the result of all others.
#include <algorithm>

#include "kernels/frame_impl.h"

namespace atari_fast::frame_impl {
namespace {

constexpr std::array<ColumnTaps, kFrameSide> all_taps() {
  std::array<ColumnTaps, kFrameSide> taps{};
  for (size_t column = 0; column < kFrameSide; ++column) {
    taps[column] = column_taps(column);
  }
  return taps;
}

constexpr std::array<ColumnTaps, kFrameSide> kTaps = all_taps();

constexpr bool rounding_is_exact() {
  for (uint32_t total = 0; total <= 255 * kTotalWeight; ++total) {
    const uint32_t half_up = (total + kTotalWeight / 2) / kTotalWeight;
    const bool tie = total % kTotalWeight == kTotalWeight / 2;
    if (rounded(total) != (tie ? half_up & ~1U : half_up)) {
      return false;
    }
  }
  return true;
}
static_assert(rounding_is_exact());

/// One output row from its 160 column sums of weight 5.
void resize_row(const uint16_t* sums, uint8_t* out) {
  for (size_t column = 0; column < kFrameSide; ++column) {
    const ColumnTaps& taps = kTaps[column];
    const uint16_t* source = sums + taps.first;
    uint32_t total = uint32_t{source[0]} * taps.weights[0] + uint32_t{source[1]} * taps.weights[1];
    if (taps.weights[2] != 0) {
      total += uint32_t{source[2]} * taps.weights[2];
    }
    out[column] = rounded(total);
  }
}

/// Two output rows from a group of five input rows.
void resize_group(const uint8_t* rows, uint8_t* out) {
  std::array<uint16_t, kScreenColumns> upper;
  std::array<uint16_t, kScreenColumns> lower;
  for (size_t x = 0; x < kScreenColumns; ++x) {
    const auto at = [&](size_t row) { return int{rows[row * kScreenColumns + x]}; };
    upper[x] = static_cast<uint16_t>(2 * (at(0) + at(1)) + at(2));
    lower[x] = static_cast<uint16_t>(at(2) + 2 * (at(3) + at(4)));
  }
  resize_row(upper.data(), out);
  resize_row(lower.data(), out + kFrameSide);
}

/// `pooled(a, b)` is the gray level of the brighter one of two pixels.
template <typename Pooled>
void run(const uint8_t* screens, uint8_t* out, size_t count, const Pooled& pooled) {
  std::array<uint8_t, kGroupBytes> rows;
  for (size_t n = 0; n < count; ++n, screens += 2 * kScreenBytes, out += kFrameBytes) {
    for (size_t group = 0; group < kGroups; ++group) {
      const uint8_t* first = screens + group * kGroupBytes;
      std::transform(first, first + kGroupBytes, first + kScreenBytes, rows.begin(), pooled);
      resize_group(rows.data(), out + group * 2 * kFrameSide);
    }
  }
}

}  // namespace

void palette_scalar(const uint8_t* screens, const uint8_t* luma, uint8_t* out, size_t count) {
  run(screens, out, count, [luma](uint8_t a, uint8_t b) { return std::max(luma[a], luma[b]); });
}

void gray_scalar(const uint8_t* screens, uint8_t* out, size_t count) {
  run(screens, out, count, [](uint8_t a, uint8_t b) { return std::max(a, b); });
}

}  // namespace atari_fast::frame_impl
