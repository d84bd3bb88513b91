// Frames of E lanes, each lane a ring of single frames: no frame is stored twice, stacks are
// rebuilt on reading.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace atari_fast {

/// What a FrameStore is made for; its constructor checks it.
struct FrameStoreOptions {
  size_t lanes = 1;        ///< E
  size_t rows = 1;         ///< frames kept in each lane
  size_t frame_bytes = 1;  ///< bytes of one frame
  size_t row_bytes = 1;    ///< bytes of one row of pixels, the frame's width
};

/// Frames by lane and row number; a lane's rows are numbered from 0 as they are appended. Owns its
/// memory. Not thread-safe, but any number of threads may read while none appends.
class FrameStore {
 public:
  explicit FrameStore(const FrameStoreOptions& options)
      : options_(options),
        next_row_(options.lanes),
        frames_(options.lanes * options.rows * options.frame_bytes) {}

  /// Appends a frame of `frame_bytes` bytes to the lane.
  void append(size_t lane, const uint8_t* frame) {
    std::memcpy(at(lane, next_row_[lane]++), frame, options_.frame_bytes);
  }

  /// Number of rows that were appended to the lane so far.
  int64_t next_row(size_t lane) const { return next_row_[lane]; }

  /// The oldest row of the lane that can still be read.
  int64_t first_row(size_t lane) const {
    return std::max<int64_t>(0, next_row_[lane] - static_cast<int64_t>(options_.rows));
  }

  /// Writes the frames of rows [row, row + count), all of which can be read, to out, out + stride,
  /// out + 2 * stride and so on.
  void read(size_t lane, int64_t row, size_t count, uint8_t* out, size_t stride) const {
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(out + i * stride, at(lane, row + static_cast<int64_t>(i)), options_.frame_bytes);
    }
  }

 private:
  uint8_t* at(size_t lane, int64_t row) {
    return frames_.data() +
           (lane * options_.rows + static_cast<size_t>(row) % options_.rows) * options_.frame_bytes;
  }
  const uint8_t* at(size_t lane, int64_t row) const {
    return const_cast<FrameStore*>(this)->at(lane, row);
  }

  FrameStoreOptions options_;
  std::vector<int64_t> next_row_;
  std::vector<uint8_t> frames_;
};

}  // namespace atari_fast
