#include "kernels/frame.h"

#include "base/error.h"
#include "kernels/frame_impl.h"

namespace atari_fast {
namespace {

struct Kernels {
  frame_impl::PaletteKernel palette;
  frame_impl::GrayKernel gray;
};

Kernels kernels_of(InstructionSet set) {
  using namespace frame_impl;
  switch (set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return {palette_avx512, gray_avx512};
    case InstructionSet::kAvx2:
      return {palette_avx2, gray_avx2};
#elif defined(__aarch64__)
    case InstructionSet::kNeon:
      return {palette_neon, gray_neon};
#endif
    default:
      return {palette_scalar, gray_scalar};
  }
}

size_t checked_count(std::span<const uint8_t> screens, std::span<const uint8_t> out) {
  check_argument(screens.size() % (2 * kScreenBytes) == 0, "screens: expected uint8[N, 2, ",
                 kScreenRows, ", ", kScreenColumns, "], a multiple of ", 2 * kScreenBytes,
                 " bytes, got ", screens.size());
  const size_t count = screens.size() / (2 * kScreenBytes);
  check_argument(out.size() == count * kFrameBytes, "out: expected uint8[", count, ", ", kFrameSide,
                 ", ", kFrameSide, "], ", count * kFrameBytes, " bytes, got ", out.size());
  return count;
}

}  // namespace

void preprocess_palette(std::span<const uint8_t> screens, std::span<const uint8_t> luma,
                        std::span<uint8_t> out) {
  const size_t count = checked_count(screens, out);
  check_argument(luma.size() == kPaletteEntries, "luma: expected uint8[", kPaletteEntries,
                 "], got ", luma.size(), " bytes");
  kernels_of(instruction_set()).palette(screens.data(), luma.data(), out.data(), count);
}

void preprocess_gray(std::span<const uint8_t> screens, std::span<uint8_t> out) {
  const size_t count = checked_count(screens, out);
  kernels_of(instruction_set()).gray(screens.data(), out.data(), count);
}

}  // namespace atari_fast
