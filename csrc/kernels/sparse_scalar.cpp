// The portable path of the sparse code.
#include <bit>
#include <cstring>

#include "kernels/sparse.h"
#include "kernels/sparse_impl.h"

namespace atari_fast::sparse_impl {
namespace {

uint64_t load_word(const uint8_t* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

/// Appends the differing bytes of a group and returns their mask.
uint8_t put_group(const uint8_t* frame, const uint8_t* reference, uint8_t*& out) {
  uint8_t mask = 0;
  for (size_t i = 0; i < 8; ++i) {
    const auto difference = static_cast<uint8_t>(frame[i] ^ reference[i]);
    *out = difference;
    out += difference != 0 ? 1 : 0;
    mask = static_cast<uint8_t>(mask | ((difference != 0 ? 1 : 0) << i));
  }
  return mask;
}

}  // namespace

size_t encode_scalar(const uint8_t* frame, const uint8_t* reference, size_t padded, uint8_t* out) {
  const size_t blocks = padded / kSparseBlock;
  uint8_t* const block_bits = out;
  uint8_t* next = out + (blocks + 7) / 8;
  std::memset(block_bits, 0, (blocks + 7) / 8);
  for (size_t block = 0; block < blocks;
       ++block, frame += kSparseBlock, reference += kSparseBlock) {
    uint8_t groups = 0;
    for (size_t group = 0; group < 8; ++group) {
      const bool differs = load_word(frame + 8 * group) != load_word(reference + 8 * group);
      groups = static_cast<uint8_t>(groups | ((differs ? 1 : 0) << group));
    }
    if (groups == 0) {
      continue;
    }
    block_bits[block / 8] = static_cast<uint8_t>(block_bits[block / 8] | (1 << (block % 8)));
    *next++ = groups;
    uint8_t* mask = next;
    next += std::popcount(groups);
    for (uint8_t left = groups; left != 0; left = static_cast<uint8_t>(left & (left - 1))) {
      const size_t at = 8 * static_cast<size_t>(std::countr_zero(left));
      *mask++ = put_group(frame + at, reference + at, next);
    }
  }
  return static_cast<size_t>(next - out);
}

const uint8_t* apply_scalar(const uint8_t* code, uint8_t* frame, size_t padded) {
  const size_t blocks = padded / kSparseBlock;
  const uint8_t* next = code + (blocks + 7) / 8;
  for (size_t block = 0; block < blocks; ++block) {
    if (((code[block / 8] >> (block % 8)) & 1) == 0) {
      continue;
    }
    uint8_t groups = *next++;
    const uint8_t* mask = next;
    next += std::popcount(groups);
    for (; groups != 0; groups = static_cast<uint8_t>(groups & (groups - 1))) {
      uint8_t* const at =
          frame + block * kSparseBlock + 8 * static_cast<size_t>(std::countr_zero(groups));
      for (uint8_t left = *mask++; left != 0; left = static_cast<uint8_t>(left & (left - 1))) {
        at[std::countr_zero(left)] ^= *next++;
      }
    }
  }
  return next;
}

}  // namespace atari_fast::sparse_impl
