// A ring of embeddings, laid out for exact search of the nearest ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "kernels/distance.h"

namespace atari_fast {

/// Settings of an EmbeddingRing.
struct EmbeddingRingOptions {
  size_t capacity = 1;   ///< rows kept
  size_t dim = 1;        ///< D, numbers of a row
  bool float16 = false;  ///< rows are kept in float16, not float32
};

/// The last `capacity` embeddings, in blocks of 32 as kernels/distance.h reads them. Address space
/// is reserved at once, but the system gives memory only to the blocks that rows have reached, so a
/// ring grows as it is used and nothing is ever moved. Not thread-safe.
class EmbeddingRing {
 public:
  /// Throws std::invalid_argument when a setting is 0 or the sizes are above 2^48 bytes,
  /// std::bad_alloc when memory is short.
  explicit EmbeddingRing(const EmbeddingRingOptions& options);

  /// Appends a row, in place of the oldest one when full. Needs D finite numbers, of a size that
  /// float16 can hold where it is in use. O(D).
  void append(std::span<const float> row);

  /// Makes `nearest` hold the rows nearest to `query`, float32[D]; of equally near ones the older.
  /// O(size() D).
  void find(std::span<const float> query, Nearest& nearest) const;

  /// Copies the i-th oldest row into float32[D].
  void read(size_t i, std::span<float> row) const;

  /// Forgets all rows; the memory stays.
  void clear();

  size_t size() const { return size_; }
  /// Bytes of the blocks that rows have reached so far.
  size_t bytes_used() const { return blocks_used_ * block_bytes_; }
  /// The most that `bytes_used` can become. Throws std::invalid_argument as the constructor does.
  static size_t memory_bytes(const EmbeddingRingOptions& options);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  template <typename Element>
  std::span<Element> elements() const {
    return {static_cast<Element*>(memory_.get()), blocks_used_ * block_bytes_ / sizeof(Element)};
  }
  size_t offset(size_t position) const {
    return position / kBlockRows * kBlockRows * options_.dim + position % kBlockRows;
  }
  void offer(std::span<const float> query, size_t begin, size_t end, Nearest& nearest) const;

  EmbeddingRingOptions options_;
  size_t block_bytes_;
  std::unique_ptr<void, Free> memory_;
  size_t blocks_used_ = 0;  // the first ones; all their values are initialised
  size_t size_ = 0;
  size_t next_ = 0;  // position that the next row is written to
};

}  // namespace atari_fast
