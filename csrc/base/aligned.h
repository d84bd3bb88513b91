// Vectors whose memory begins at a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace atari_fast {

inline constexpr size_t kCacheLine = 64;

/// Allocates at multiples of a cache line.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;

  CacheLineAllocator() = default;
  template <typename U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>& /*other*/) {}

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{kCacheLine}));
  }
  void deallocate(T* memory, size_t /*count*/) {
    ::operator delete (memory, std::align_val_t{kCacheLine});
  }
  friend bool operator==(const CacheLineAllocator& /*a*/, const CacheLineAllocator& /*b*/) {
    return true;
  }
};

template <typename T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace atari_fast
