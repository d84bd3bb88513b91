// IEEE 754 half precision (float16) in portable integer arithmetic.
#pragma once

#include <bit>
#include <cstdint>

namespace atari_fast {

/// The largest finite float16.
inline constexpr float kMaxHalf = 65504.0f;

/// The bits of the float16 nearest to `value`, ties to even. Needs |value| <= kMaxHalf.
inline uint16_t to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t size = bits & 0x7FFFFFFF;
  if (size < 0x38800000) {  // below 2^-14: a multiple of 2^-24, which this sum rounds to
    const float sum = std::bit_cast<float>(size) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3F000000));
  }
  const uint32_t odd = (size >> 13) & 1;
  return static_cast<uint16_t>(sign | ((size - 0x38000000 + 0xFFF + odd) >> 13));
}

/// The value of a finite float16, exactly.
inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t size = half & 0x7FFF;
  if (size < 0x400) {  // a multiple of 2^-24
    const float value = static_cast<float>(size) * 0x1.0p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  return std::bit_cast<float>(sign | ((size << 13) + 0x38000000));
}

}  // namespace atari_fast
