#include "kernels/sparse.h"

#include <bit>

#include "base/cpu.h"
#include "kernels/sparse_impl.h"

namespace atari_fast {
namespace {

bool uses_avx2() {
#if defined(__x86_64__)
  const InstructionSet set = instruction_set();
  return set == InstructionSet::kAvx2 || set == InstructionSet::kAvx512;
#else
  return false;
#endif
}

}  // namespace

size_t sparse_encode(const uint8_t* frame, const uint8_t* reference, size_t padded, uint8_t* out) {
#if defined(__x86_64__)
  if (uses_avx2()) {
    return sparse_impl::encode_avx2(frame, reference, padded, out);
  }
#endif
  return sparse_impl::encode_scalar(frame, reference, padded, out);
}

const uint8_t* sparse_apply(const uint8_t* code, uint8_t* frame, size_t padded) {
#if defined(__x86_64__)
  if (uses_avx2()) {
    return sparse_impl::apply_avx2(code, frame, padded);
  }
#endif
  return sparse_impl::apply_scalar(code, frame, padded);
}

size_t sparse_length(const uint8_t* code, size_t available, size_t padded) {
  const size_t blocks = padded / kSparseBlock;
  size_t at = (blocks + 7) / 8;
  if (available < at) {
    return 0;
  }
  for (size_t block = 0; block < (blocks + 7) / 8 * 8; ++block) {
    if (((code[block / 8] >> (block % 8)) & 1) == 0) {
      continue;
    }
    if (block >= blocks || at >= available || code[at] == 0) {
      return 0;
    }
    const auto groups = static_cast<size_t>(std::popcount(code[at++]));
    if (available - at < groups) {
      return 0;
    }
    size_t bytes = 0;
    for (size_t group = 0; group < groups; ++group) {
      bytes += static_cast<size_t>(std::popcount(code[at + group]));
      if (code[at + group] == 0) {
        return 0;
      }
    }
    at += groups;
    if (available - at < bytes) {
      return 0;
    }
    at += bytes;
  }
  return at;
}

}  // namespace atari_fast
