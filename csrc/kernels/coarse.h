// Lower bounds of distances, from rows rounded to codes of 7 bits: a quarter of the memory traffic
// of float32 tells which blocks of rows can hold a near one.
//
// The code of a number x is round((x - low) / step), clamped to [0, max_code]. Codes of D
// dimensions lie in pairs (the last one of an odd D is 0): those of dimensions 2 p and 2 p + 1 of
// row r of a block of 32 rows are at [p * 64 + 2 r] and [p * 64 + 2 r + 1].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/distance.h"

namespace atari_fast {

/// How numbers become codes.
struct CoarseScale {
  float low = 0.0f;           ///< the number of code 0
  float inverse_step = 1.0f;  ///< codes a unit, > 0
  float max_code = 0.0f;      ///< from 1 to 127

  /// Squared distances of codes that a row of D dimensions cannot exceed where its `distance` is at
  /// most the one given, infinity included. `error` is the sum of the rounding errors of the query
  /// and of the row, as `set_coarse_row` returns them, or more.
  uint16_t limit(float distance, size_t dim, float error) const;
};

/// The scale for rows of D dimensions with numbers like those of `sample`, which is reordered. Any
/// scale gives valid bounds; a good one gives tight ones. Needs 1 number and more.
CoarseScale coarse_scale(std::span<float> sample, size_t dim);

/// Bytes of the codes of a block.
size_t coarse_block_bytes(size_t dim);

/// Sets the codes of row `row` of a block; the numbers are finite. Returns how far rounding moved
/// the row, in steps.
float set_coarse_row(const CoarseScale& scale, std::span<const float> numbers, size_t row,
                     uint8_t* block);

/// Sets all rows of `block` to the query. Returns as `set_coarse_row`.
float set_coarse_query(const CoarseScale& scale, std::span<const float> query,
                       std::span<uint8_t> block);

/// For each of `least.size()` blocks: the smallest squared distance of codes from the query to one
/// of its 32 rows, at most 65535. `query` is a block that holds the query in every row. With
/// `instruction_set()`; all give equal results. Throws std::invalid_argument when sizes do not fit.
void least_coarse_distances(std::span<const uint8_t> query, std::span<const uint8_t> blocks,
                            std::span<uint16_t> least);

}  // namespace atari_fast
