// Frames of E lanes, each lane a ring of single frames: no frame is stored twice, stacks are
// rebuilt on reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace atari_fast {

/// Raw frames in one block of lanes * rows * frame_bytes, reserved and touched at construction, so
/// that too little memory shows then and not hours later. Owns its memory; not thread-safe; indices
/// are the caller's to check.
class FrameStore {
 public:
  FrameStore(size_t lanes, size_t rows, size_t frame_bytes)
      : rows_(rows),
        frame_bytes_(frame_bytes),
        frames_(std::make_unique<uint8_t[]>(lanes * rows * frame_bytes)) {}

  size_t frame_bytes() const { return frame_bytes_; }

  /// Stores a frame of `frame_bytes` bytes over what ring position `row` of the lane held.
  /// O(frame_bytes).
  void put(size_t lane, size_t row, const uint8_t* frame) {
    std::memcpy(at(lane, row), frame, frame_bytes_);
  }

  /// Copies the frame at ring position `row` of the lane into `out`. O(frame_bytes).
  void copy(size_t lane, size_t row, uint8_t* out) const {
    std::memcpy(out, at(lane, row), frame_bytes_);
  }

 private:
  uint8_t* at(size_t lane, size_t row) const {
    return frames_.get() + (lane * rows_ + row) * frame_bytes_;
  }

  size_t rows_;
  size_t frame_bytes_;
  std::unique_ptr<uint8_t[]> frames_;
};

}  // namespace atari_fast
