#include "kernels/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace atari_fast {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kPairBytes = 2 * kScreenBytes;

Bytes random_bytes(size_t size, uint64_t seed) {
  Rng rng(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(rng.below(256));
  }
  return bytes;
}

Bytes identity() {
  Bytes luma(kPaletteEntries);
  std::iota(luma.begin(), luma.end(), uint8_t{0});
  return luma;
}

/// One gray image in both screens of a pair.
template <typename Value>
Bytes pair_of(const Value& value) {
  Bytes screens(kPairBytes);
  for (size_t i = 0; i < kPairBytes; ++i) {
    const size_t pixel = i % kScreenBytes;
    screens[i] = static_cast<uint8_t>(value(pixel / kScreenColumns, pixel % kScreenColumns));
  }
  return screens;
}

/// Runs a test with each instruction set of this CPU.
class FrameTest : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override { set_instruction_set(GetParam()); }
  void TearDown() override { set_instruction_set(best_instruction_set()); }

  static Bytes gray(const Bytes& screens) {
    Bytes out(screens.size() / kPairBytes * kFrameBytes);
    preprocess_gray(screens, out);
    return out;
  }

  static Bytes palette(const Bytes& screens, const Bytes& luma) {
    Bytes out(screens.size() / kPairBytes * kFrameBytes);
    preprocess_palette(screens, luma, out);
    return out;
  }

  static Bytes scalar_palette(const Bytes& screens, const Bytes& luma) {
    set_instruction_set(InstructionSet::kScalar);
    Bytes out = palette(screens, luma);
    set_instruction_set(GetParam());
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Sets, FrameTest, testing::ValuesIn(instruction_sets()),
                         [](const auto& set) {
                           return std::string(instruction_set_name(set.param));
                         });

TEST_P(FrameTest, ConstantStaysConstant) {
  for (int level = 0; level < 256; ++level) {
    const Bytes out = gray(pair_of([&](size_t, size_t) { return level; }));
    ASSERT_EQ(out, Bytes(kFrameBytes, static_cast<uint8_t>(level)));
  }
}

TEST_P(FrameTest, RowIndexImage) {
  const Bytes out = gray(pair_of([](size_t y, size_t) { return y; }));
  EXPECT_EQ(out[0], 1);                  // 0.8
  EXPECT_EQ(out[kFrameSide], 3);         // 3.2
  EXPECT_EQ(out[82 * kFrameSide], 206);  // 205.8
  EXPECT_EQ(out[83 * kFrameSide], 208);  // 208.2
}

TEST_P(FrameTest, WeightsOfRows) {
  // Output rows 0 and 1 of an image that is 250 in one input row: 2, 2, 1, 0, 0 and 0, 0, 1, 2, 2
  // fifths.
  const std::vector<std::pair<int, int>> expected{{100, 0}, {100, 0}, {50, 50}, {0, 100}, {0, 100}};
  for (size_t period = 0; period < 42; ++period) {
    for (size_t row = 0; row < 5; ++row) {
      const size_t lit = 5 * period + row;
      const Bytes out = gray(pair_of([&](size_t y, size_t) { return y == lit ? 250 : 0; }));
      for (size_t y = 0; y < kFrameSide; ++y) {
        const int want = y == 2 * period       ? expected[row].first
                         : y == 2 * period + 1 ? expected[row].second
                                               : 0;
        ASSERT_EQ(out[y * kFrameSide + 40], want) << "input row " << lit << ", output row " << y;
      }
    }
  }
}

TEST_P(FrameTest, WeightsOfColumns) {
  for (size_t lit = 0; lit < kScreenColumns; ++lit) {
    const Bytes out = gray(pair_of([&](size_t, size_t x) { return x == lit ? 200 : 0; }));
    for (size_t x = 0; x < kFrameSide; ++x) {
      // Overlap of [40x, 40x + 40) and [21 lit, 21 lit + 21), out of 40.
      const auto begin = static_cast<int>(std::max(40 * x, 21 * lit));
      const auto end = static_cast<int>(std::min(40 * x + 40, 21 * lit + 21));
      ASSERT_EQ(out[x], 5 * std::max(0, end - begin)) << "input " << lit << ", output " << x;
    }
  }
}

TEST_P(FrameTest, EdgeColumnsHaveTheWeightsOfTheSpecification) {
  const auto column = [](size_t lit) {
    return gray(pair_of([&](size_t, size_t x) { return x == lit ? 200 : 0; }));
  };
  EXPECT_EQ(column(0)[0], 105);     // 0.525
  EXPECT_EQ(column(1)[0], 95);      // 0.475
  EXPECT_EQ(column(158)[83], 95);   // 0.475
  EXPECT_EQ(column(159)[83], 105);  // 0.525
}

TEST_P(FrameTest, TiesGoToTheEvenLevel) {
  // Output column 10 covers 20 of the 21 units of input columns 19 and 20: it is their mean.
  const auto level = [](int left, int right) {
    return gray(pair_of([&](size_t, size_t x) {
      return x == 19 ? left : x == 20 ? right : 0;
    }))[10];
  };
  EXPECT_EQ(level(1, 0), 0);        // 0.5
  EXPECT_EQ(level(1, 2), 2);        // 1.5
  EXPECT_EQ(level(2, 3), 2);        // 2.5
  EXPECT_EQ(level(0, 7), 4);        // 3.5
  EXPECT_EQ(level(254, 255), 254);  // 254.5
}

TEST_P(FrameTest, MaximumComesBeforeTheResize) {
  // Two checkerboards of opposite phase: the maximum is white everywhere, a maximum after the
  // resize is gray.
  Bytes screens(kPairBytes);
  for (size_t i = 0; i < kPairBytes; ++i) {
    const size_t pixel = i % kScreenBytes;
    const size_t phase = pixel / kScreenColumns + pixel % kScreenColumns + i / kScreenBytes;
    screens[i] = phase % 2 == 0 ? 255 : 0;
  }
  EXPECT_EQ(gray(screens), Bytes(kFrameBytes, 255));
}

TEST_P(FrameTest, PaletteIsLookedUpBeforeTheMaximum) {
  Bytes luma = identity();
  std::reverse(luma.begin(), luma.end());
  Bytes screens(kPairBytes, 10);
  std::fill(screens.begin() + kScreenBytes, screens.end(), uint8_t{200});
  EXPECT_EQ(palette(screens, luma), Bytes(kFrameBytes, 245));
}

TEST_P(FrameTest, EveryPaletteEntry) {
  const Bytes luma = random_bytes(kPaletteEntries, 5);
  for (size_t index = 0; index < kPaletteEntries; ++index) {
    const Bytes screens(kPairBytes, static_cast<uint8_t>(index));
    ASSERT_EQ(palette(screens, luma), Bytes(kFrameBytes, luma[index])) << "index " << index;
  }
}

TEST_P(FrameTest, EqualsScalarOnRandomScreens) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Bytes luma = random_bytes(kPaletteEntries, 100 + seed);
    Bytes screens = random_bytes(kPairBytes, seed);
    if (seed % 4 == 1) {  // the emulator's indices are even
      std::for_each(screens.begin(), screens.end(), [](uint8_t& byte) { byte &= 0xFE; });
    } else if (seed % 4 == 2) {  // mostly equal screens, mostly even indices
      for (size_t i = 0; i < kScreenBytes; ++i) {
        screens[i] = static_cast<uint8_t>(screens[i] & (i % 997 == 0 ? 0xFF : 0xFE));
        screens[kScreenBytes + i] = i % 1009 == 0 ? screens[kScreenBytes + i] : screens[i];
      }
    } else if (seed % 4 == 3) {  // many ties
      std::for_each(screens.begin(), screens.end(), [](uint8_t& byte) { byte &= 0x03; });
    }
    ASSERT_EQ(palette(screens, luma), scalar_palette(screens, luma)) << "seed " << seed;
    ASSERT_EQ(gray(screens), scalar_palette(screens, identity())) << "seed " << seed;
  }
}

TEST_P(FrameTest, UnalignedSpansAndUntouchedGuards) {
  constexpr uint8_t kGuard = 0xA5;
  const Bytes luma = random_bytes(kPaletteEntries, 7);
  const Bytes screens = random_bytes(3 * kPairBytes, 8);
  const Bytes expected = scalar_palette(screens, luma);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{3}}) {
    for (const size_t shift : {size_t{1}, size_t{3}, size_t{17}, size_t{63}}) {
      const size_t in_size = count * kPairBytes;
      const size_t out_size = count * kFrameBytes;
      Bytes in(shift + in_size);
      std::copy_n(screens.begin(), in_size, in.begin() + static_cast<std::ptrdiff_t>(shift));
      Bytes table(shift);
      table.insert(table.end(), luma.begin(), luma.end());
      Bytes out(shift + out_size + 64, kGuard);
      preprocess_palette(std::span(in).subspan(shift), std::span(table).subspan(shift),
                         std::span(out).subspan(shift, out_size));
      const auto begin = out.begin() + static_cast<std::ptrdiff_t>(shift);
      const auto end = begin + static_cast<std::ptrdiff_t>(out_size);
      EXPECT_TRUE(std::equal(begin, end, expected.begin()));
      const auto is_guard = [](uint8_t byte) { return byte == kGuard; };
      EXPECT_TRUE(std::all_of(out.begin(), begin, is_guard));
      EXPECT_TRUE(std::all_of(end, out.end(), is_guard));
    }
  }
}

TEST_P(FrameTest, BatchEqualsSinglePairs) {
  const Bytes screens = random_bytes(3 * kPairBytes, 9);
  const Bytes batch = gray(screens);
  for (size_t n = 0; n < 3; ++n) {
    const auto first = screens.begin() + static_cast<std::ptrdiff_t>(n * kPairBytes);
    const Bytes alone = gray(Bytes(first, first + kPairBytes));
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           batch.begin() + static_cast<std::ptrdiff_t>(n * kFrameBytes)));
  }
}

TEST(FrameSizesTest, WrongSizesThrow) {
  const Bytes screens(kPairBytes);
  const Bytes luma(kPaletteEntries);
  Bytes out(kFrameBytes);
  const std::span<const uint8_t> in(screens);
  const std::span<uint8_t> target(out);
  EXPECT_THROW(preprocess_gray(in.first(kPairBytes - 1), target), std::invalid_argument);
  EXPECT_THROW(preprocess_gray(in.first(kScreenBytes), target), std::invalid_argument);
  EXPECT_THROW(preprocess_gray(in, target.first(kFrameBytes - 1)), std::invalid_argument);
  EXPECT_THROW(preprocess_gray({}, target), std::invalid_argument);
  EXPECT_THROW(preprocess_gray(in, {}), std::invalid_argument);
  EXPECT_THROW(preprocess_palette(in, std::span(luma).first(255), target), std::invalid_argument);
  EXPECT_THROW(preprocess_palette(in, {}, target), std::invalid_argument);
  EXPECT_THROW(preprocess_palette(in.first(1), luma, target), std::invalid_argument);
  EXPECT_NO_THROW(preprocess_palette({}, luma, {}));
}

TEST(InstructionSetTest, NamesAndChoice) {
  const auto& sets = instruction_sets();
  ASSERT_FALSE(sets.empty());
  EXPECT_EQ(sets.front(), InstructionSet::kScalar);
  EXPECT_EQ(best_instruction_set(), sets.back());
  for (const InstructionSet set : {InstructionSet::kScalar, InstructionSet::kAvx2,
                                   InstructionSet::kAvx512, InstructionSet::kNeon}) {
    EXPECT_EQ(parse_instruction_set(instruction_set_name(set)), set);
    if (std::find(sets.begin(), sets.end(), set) == sets.end()) {
      EXPECT_THROW(set_instruction_set(set), std::invalid_argument);
    } else {
      set_instruction_set(set);
      EXPECT_EQ(instruction_set(), set);
    }
  }
  EXPECT_THROW(parse_instruction_set("sse9"), std::invalid_argument);
  set_instruction_set(best_instruction_set());
}

}  // namespace
}  // namespace atari_fast
