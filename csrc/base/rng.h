// Counter-based random numbers: the n-th draw is a pure function of (seed, n), so the state is two
// integers.
#pragma once

#include <cstdint>

namespace atari_fast {

/// SplitMix64 (Steele, Lea and Flood 2014) read as a counter-based generator. Not thread-safe; O(1)
/// a draw.
class Rng {
 public:
  explicit Rng(uint64_t seed) : key_(mix(seed)) {}

  /// The next 64 random bits.
  uint64_t next() { return mix(key_ + ++counter_ * kGolden); }

  /// A double in [0, 1) with 53 random bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /// An integer in [0, n), n >= 1. The bias is below n / 2^53.
  uint64_t below(uint64_t n) { return static_cast<uint64_t>(uniform() * static_cast<double>(n)); }

  /// The whole state: what the seed became, and the number of draws so far.
  uint64_t key() const { return key_; }
  uint64_t counter() const { return counter_; }
  void set_state(uint64_t key, uint64_t counter) {
    key_ = key;
    counter_ = counter;
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ULL;

  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace atari_fast
