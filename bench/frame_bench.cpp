// The frame kernel with each instruction set, on random screens (the worst case of the AVX2 path)
// and on screens like the emulator's (even indices, equal but for a few pixels).
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/frame.h"

namespace atari_fast {
namespace {

enum class Content { kEmulator, kRandom };

std::vector<uint8_t> make_screens(Content content) {
  Rng rng(1);
  std::vector<uint8_t> screens(2 * kScreenBytes);
  for (uint8_t& byte : screens) {
    byte = static_cast<uint8_t>(rng.below(256));
  }
  if (content == Content::kEmulator) {
    for (size_t i = 0; i < kScreenBytes; ++i) {
      const auto even = static_cast<uint8_t>(screens[i] & 0xFE);
      screens[i] = even;
      screens[kScreenBytes + i] = i % 300 == 0 ? static_cast<uint8_t>(even ^ 2) : even;
    }
  }
  return screens;
}

void palette(benchmark::State& state, InstructionSet set, Content content) {
  set_instruction_set(set);
  const std::vector<uint8_t> screens = make_screens(content);
  const std::vector<uint8_t> luma(screens.begin(), screens.begin() + kPaletteEntries);
  std::vector<uint8_t> out(kFrameBytes);
  for (auto _ : state) {
    preprocess_palette(screens, luma, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  set_instruction_set(best_instruction_set());
}

void gray(benchmark::State& state, InstructionSet set) {
  set_instruction_set(set);
  const std::vector<uint8_t> screens = make_screens(Content::kRandom);
  std::vector<uint8_t> out(kFrameBytes);
  for (auto _ : state) {
    preprocess_gray(screens, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  set_instruction_set(best_instruction_set());
}

const bool kRegistered = [] {
  for (const InstructionSet set : instruction_sets()) {
    const std::string name(instruction_set_name(set));
    benchmark::RegisterBenchmark(("frame/palette/emulator/" + name).c_str(), palette, set,
                                 Content::kEmulator);
    benchmark::RegisterBenchmark(("frame/palette/random/" + name).c_str(), palette, set,
                                 Content::kRandom);
    benchmark::RegisterBenchmark(("frame/gray/" + name).c_str(), gray, set);
  }
  return true;
}();

}  // namespace
}  // namespace atari_fast
