// What the paths of the sparse code share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace atari_fast::sparse_impl {

size_t encode_scalar(const uint8_t* frame, const uint8_t* reference, size_t padded, uint8_t* out);
const uint8_t* apply_scalar(const uint8_t* code, uint8_t* frame, size_t padded);
#if defined(__x86_64__)
size_t encode_avx2(const uint8_t* frame, const uint8_t* reference, size_t padded, uint8_t* out);
const uint8_t* apply_avx2(const uint8_t* code, uint8_t* frame, size_t padded);
#endif

/// Bytes of shuffles that gather (or scatter) the bytes of a group whose bits are set in a mask.
struct Shuffles {
  alignas(64) std::array<std::array<uint8_t, 8>, 256> gather{};
  alignas(64) std::array<std::array<uint8_t, 8>, 256> scatter{};
};

constexpr Shuffles make_shuffles() {
  constexpr uint8_t kZero = 0x80;  // a shuffle writes 0 there
  Shuffles tables;
  for (size_t mask = 0; mask < 256; ++mask) {
    size_t rank = 0;
    tables.gather[mask].fill(kZero);
    for (size_t bit = 0; bit < 8; ++bit) {
      const bool set = ((mask >> bit) & 1) != 0;
      tables.scatter[mask][bit] = set ? static_cast<uint8_t>(rank) : kZero;
      if (set) {
        tables.gather[mask][rank++] = static_cast<uint8_t>(bit);
      }
    }
  }
  return tables;
}

}  // namespace atari_fast::sparse_impl
