#include "structures/frame_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace atari_fast {
namespace {

std::vector<uint8_t> painted(size_t bytes, size_t lane, size_t row) {
  std::vector<uint8_t> frame(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    frame[i] = static_cast<uint8_t>(31 * lane + 7 * row + i + 1);
  }
  return frame;
}

TEST(FrameStore, StartsBlack) {
  const FrameStore store(2, 3, 5);
  std::vector<uint8_t> out(5, 9);
  for (size_t lane = 0; lane < 2; ++lane) {
    for (size_t row = 0; row < 3; ++row) {
      store.copy(lane, row, out.data());
      EXPECT_EQ(std::count(out.begin(), out.end(), 0), 5);
    }
  }
}

TEST(FrameStore, EveryLaneAndRowIsItsOwn) {
  for (const size_t bytes : {1U, 2U, 63U, 64U, 7056U}) {
    constexpr size_t kLanes = 3;
    constexpr size_t kRows = 4;
    FrameStore store(kLanes, kRows, bytes);
    EXPECT_EQ(store.frame_bytes(), bytes);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      for (size_t row = 0; row < kRows; ++row) {
        store.put(lane, row, painted(bytes, lane, row).data());
      }
    }
    store.put(1, 2, painted(bytes, 9, 9).data());  // overwriting one leaves the others
    for (size_t lane = 0; lane < kLanes; ++lane) {
      for (size_t row = 0; row < kRows; ++row) {
        std::vector<uint8_t> out(bytes + 1, 0xEE);
        store.copy(lane, row, out.data());
        EXPECT_EQ(out.back(), 0xEE);
        out.pop_back();
        const bool changed = lane == 1 && row == 2;
        EXPECT_EQ(out, changed ? painted(bytes, 9, 9) : painted(bytes, lane, row));
      }
    }
  }
}

}  // namespace
}  // namespace atari_fast
