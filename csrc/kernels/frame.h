// Frame preprocessing: two 210x160 screens -> luma -> elementwise max -> 84x84 area resize, fused.
//
// The resize is OpenCV's INTER_AREA in exact integers. An output pixel covers 5/2 input rows and
// 40/21 input columns, so in units of half a row and 1/21 of a column its weights are whole numbers
// with the sum 5 * 40 = 200: out = round(total / 200), ties to even. OpenCV adds the same terms in
// float32 and can therefore round a tie the other way; the difference is at most one level.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu.h"

namespace atari_fast {

inline constexpr size_t kScreenRows = 210;
inline constexpr size_t kScreenColumns = 160;
inline constexpr size_t kScreenBytes = kScreenRows * kScreenColumns;
inline constexpr size_t kPaletteEntries = 256;
inline constexpr size_t kFrameSide = 84;
inline constexpr size_t kFrameBytes = kFrameSide * kFrameSide;

/// Turns N pairs of palette screens into N frames; allocates nothing, with `instruction_set()`.
///
/// `screens` is uint8[N, 2, 210, 160] of palette indices, `luma` uint8[256] the gray level of each
/// index, `out` uint8[N, 84, 84], which overlaps neither. Throws std::invalid_argument when the
/// sizes do not fit. Thread-safe for distinct `out`.
void preprocess_palette(std::span<const uint8_t> screens, std::span<const uint8_t> luma,
                        std::span<uint8_t> out);

/// As `preprocess_palette`, from screens that are gray levels already.
void preprocess_gray(std::span<const uint8_t> screens, std::span<uint8_t> out);

}  // namespace atari_fast
