// A ring of embeddings, laid out for exact search of the nearest ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "kernels/coarse.h"
#include "kernels/distance.h"

namespace atari_fast {

/// Settings of an EmbeddingRing.
struct EmbeddingRingOptions {
  size_t capacity = 1;   ///< rows kept
  size_t dim = 1;        ///< D, numbers of a row
  bool float16 = false;  ///< rows are kept in float16, not float32
};

/// What a search finds, and its working memory, which searches of any rings may share in turn.
struct Search {
  /// Looks for the k >= 1 nearest rows.
  explicit Search(size_t k) : nearest(k), blocks(k) {}

  Nearest nearest;              ///< the rows found
  Nearest blocks;               ///< the blocks whose codes are nearest
  std::vector<uint8_t> query;   ///< a block of codes
  std::vector<uint16_t> least;  ///< of each block, its smallest distance by codes
};

/// The last `capacity` embeddings, in blocks of 32 as kernels/distance.h reads them, and their
/// codes as kernels/coarse.h does. Address space is reserved at once, but the system gives memory
/// only to the blocks that rows have reached, in pages of up to 2 MiB, so a ring grows as it is
/// used and nothing is ever moved. Not thread-safe.
class EmbeddingRing {
 public:
  /// Throws std::invalid_argument when a setting is 0 or the sizes are above 2^48 bytes,
  /// std::bad_alloc when memory is short.
  explicit EmbeddingRing(const EmbeddingRingOptions& options);

  /// Appends a row, in place of the oldest one when full. Needs D finite numbers, of a size that
  /// float16 can hold where it is in use. O(D) on the mean: once in so many rows as there are, all
  /// codes are made anew for the numbers that there are now.
  void append(std::span<const float> row);

  /// Makes `search.nearest` hold the rows nearest to `query`, float32[D]; of equally near ones the
  /// older. O(size() D).
  void find(std::span<const float> query, Search& search) const;

  /// Copies the i-th oldest row into float32[D].
  void read(size_t i, std::span<float> row) const;

  /// Forgets all rows; the memory stays.
  void clear();

  size_t size() const { return size_; }
  /// Bytes of the blocks that rows have reached so far.
  size_t bytes_used() const { return blocks_used_ * (block_bytes_ + code_bytes_); }
  /// The most that `bytes_used` can become. Throws std::invalid_argument as the constructor does.
  static size_t memory_bytes(const EmbeddingRingOptions& options);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  template <typename Element>
  std::span<Element> elements() const {
    return {reinterpret_cast<Element*>(codes() + codes_bytes_),
            blocks_used_ * block_bytes_ / sizeof(Element)};
  }
  uint8_t* codes() const { return static_cast<uint8_t*>(memory_.get()); }
  size_t offset(size_t position) const {
    return position / kBlockRows * kBlockRows * options_.dim + position % kBlockRows;
  }
  void read_position(size_t position, std::span<float> row) const;
  void encode(size_t position);
  void fit();
  void offer(std::span<const float> query, size_t begin, size_t end, Nearest& nearest) const;
  uint16_t offer_near_blocks(std::span<const float> query, Search& search) const;
  void visit(std::span<const float> query, size_t begin, size_t end, uint16_t limit,
             Search& search) const;

  EmbeddingRingOptions options_;
  size_t block_bytes_;
  size_t code_bytes_;   // of the codes of a block
  size_t codes_bytes_;  // of all codes, which the rows follow
  std::unique_ptr<void, Free> memory_;
  CoarseScale scale_;
  float error_ = 0.0f;          // the largest rounding error of a row's codes
  size_t fitted_ = 0;           // rows that there were when the scale was chosen
  size_t since_ = 0;            // rows appended since
  std::vector<float> numbers_;  // working memory of `encode` and `fit`
  size_t blocks_used_ = 0;      // the first ones; all their values are initialised
  size_t size_ = 0;
  size_t next_ = 0;  // position that the next row is written to
};

}  // namespace atari_fast
