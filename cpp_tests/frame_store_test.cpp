#include "structures/frame_store.h"

#include <gtest/gtest.h>

#include <vector>

namespace atari_fast {
namespace {

std::vector<uint8_t> frame_of(int64_t row, size_t lane, size_t bytes) {
  std::vector<uint8_t> frame(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    frame[i] = static_cast<uint8_t>(static_cast<size_t>(row) * 31 + lane * 7 + i);
  }
  return frame;
}

TEST(FrameStoreTest, EveryKeptRowReadsAsItWasWritten) {
  constexpr size_t kLanes = 2, kRows = 5, kBytes = 12;
  FrameStore store({kLanes, kRows, kBytes, 4});
  for (int64_t row = 0; row < 40; ++row) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      store.append(lane, frame_of(row, lane, kBytes).data());
      EXPECT_EQ(store.next_row(lane), row + 1);
      const int64_t first = store.first_row(lane);
      EXPECT_EQ(first, std::max<int64_t>(0, row + 1 - int64_t{kRows}));
      const auto count = static_cast<size_t>(row + 1 - first);
      std::vector<uint8_t> out(count * 20, 0xEE);
      store.read(lane, first, count, out.data(), 20);
      for (size_t i = 0; i < count; ++i) {
        const std::vector<uint8_t> want = frame_of(first + static_cast<int64_t>(i), lane, kBytes);
        EXPECT_TRUE(
            std::equal(want.begin(), want.end(), out.begin() + static_cast<ptrdiff_t>(20 * i)));
        EXPECT_EQ(out[20 * i + kBytes], 0xEE);  // nothing is written between two frames
      }
    }
  }
}

}  // namespace
}  // namespace atari_fast
