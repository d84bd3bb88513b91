// Sparse code of the difference between two frames: what changed, and masks that say where.
#pragma once

#include <cstddef>
#include <cstdint>

namespace atari_fast {

/// Frames are coded in blocks of this many bytes; their buffers are padded to a multiple of it.
inline constexpr size_t kSparseBlock = 64;

/// Bytes behind a code that are read, though not used.
inline constexpr size_t kSparseSlack = 8;

/// The smallest multiple of kSparseBlock that holds `bytes`.
constexpr size_t sparse_padded(size_t bytes) {
  return (bytes + kSparseBlock - 1) / kSparseBlock * kSparseBlock;
}

/// An upper bound of the bytes of a code of `padded` bytes, with what an encoder writes behind it.
constexpr size_t sparse_bound(size_t padded) {
  const size_t blocks = padded / kSparseBlock;
  return (blocks + 7) / 8 + blocks * (1 + 8) + padded + kSparseSlack;
}

/// Writes the code of frame XOR reference, both of `padded` bytes, a multiple of kSparseBlock, to
/// `out`, which has room for sparse_bound(padded) bytes, and returns how long the code is.
///
/// A bit for each block of 64 bytes says whether it differs; each that does has a byte whose bits
/// say which groups of 8 bytes differ, a byte for each of these groups whose bits say which bytes
/// do, and then the differing bytes themselves. Every instruction set writes the same code.
size_t sparse_encode(const uint8_t* frame, const uint8_t* reference, size_t padded, uint8_t* out);

/// XORs what `code` says into `frame` of `padded` bytes and returns the end of the code. Reads up
/// to kSparseSlack bytes behind it. The code must be one that sparse_encode wrote for as many
/// bytes.
const uint8_t* sparse_apply(const uint8_t* code, uint8_t* frame, size_t padded);

/// The length of the code at `code`, which may be anything, if it is one for `padded` bytes that
/// ends within `available` bytes; otherwise 0.
size_t sparse_length(const uint8_t* code, size_t available, size_t padded);

}  // namespace atari_fast
