// Squared Euclidean distances from one query to many rows, and the k smallest of them.
//
// Rows lie in blocks of 32, dimension by dimension: element d of row r of a block is at
// [d * 32 + r]. So one vector operation serves eight rows, and the distance of a row is one plain
// sum, (q_0 - x_0)^2 + (q_1 - x_1)^2 + ..., added from the left with every operation rounded to
// float32, whichever instruction set is in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace atari_fast {

/// Rows of a block.
inline constexpr size_t kBlockRows = 32;

/// A row, by its position in the blocks, and its squared distance.
struct Neighbour {
  float distance = std::numeric_limits<float>::infinity();
  size_t row = 0;
};

/// The k nearest of the rows offered so far; of equally near ones, those offered first. Not
/// thread-safe.
class Nearest {
 public:
  /// Needs k >= 1.
  explicit Nearest(size_t k) : items_(k) {}

  /// Forgets all rows; from now on only rows nearer than `bound` are kept.
  void clear(float bound = std::numeric_limits<float>::infinity());

  /// What a distance must be below to be kept: the largest of k kept ones, else the bound given.
  float bound() const { return items_.back().distance; }

  /// Keeps a row if it is near enough. O(k).
  void offer(float distance, size_t row);

  /// k.
  size_t count() const { return items_.size(); }

  /// Whether k rows are kept.
  bool is_full() const { return size_ == items_.size(); }

  /// The rows kept, nearest first.
  std::span<const Neighbour> found() const { return {items_.data(), size_}; }

 private:
  std::vector<Neighbour> items_;  // sorted; those from size_ on stand for the bound
  size_t size_ = 0;
};

/// Offers the rows [begin, end) to `nearest` in this order, with `instruction_set()`.
///
/// `query` is float32[D], `blocks` float32[N, D, 32] with 32 N >= end, every value finite and so
/// small that no distance overflows. Values outside of [begin, end) do not matter, but they must be
/// initialised. Blocks that cannot hold a near enough row are left after a part of their
/// dimensions; since sums of squares never fall, that changes no result. Throws
/// std::invalid_argument when the sizes do not fit. Thread-safe for distinct `nearest`.
void offer_rows(std::span<const float> query, std::span<const float> blocks, size_t begin,
                size_t end, Nearest& nearest);

/// The same for rows in float16: `blocks` are the bits, uint16[N, D, 32].
void offer_rows(std::span<const float> query, std::span<const uint16_t> blocks, size_t begin,
                size_t end, Nearest& nearest);

}  // namespace atari_fast
