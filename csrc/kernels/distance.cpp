#include "kernels/distance.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/distance_impl.h"

namespace atari_fast {
namespace {

bool use_avx2() {
#if defined(__x86_64__)
  static const bool possible = distance_impl::has_f16c();
  return possible && instruction_set() != InstructionSet::kScalar;
#else
  return false;
#endif
}

distance_impl::BlockKernel<float> kernel_of(const float* /*rows*/) {
#if defined(__x86_64__)
  if (use_avx2()) {
    return distance_impl::block_avx2;
  }
#endif
  return distance_impl::block_scalar;
}

distance_impl::BlockKernel<uint16_t> kernel_of(const uint16_t* /*rows*/) {
#if defined(__x86_64__)
  if (use_avx2()) {
    return distance_impl::half_block_avx2;
  }
#endif
  return distance_impl::half_block_scalar;
}

/// One bit a row of the block that starts at row `first`: those in [begin, end).
uint32_t rows_in(size_t first, size_t begin, size_t end) {
  uint32_t bits = ~uint32_t{0};
  if (begin > first) {
    bits &= ~uint32_t{0} << (begin - first);
  }
  if (end < first + kBlockRows) {
    bits &= ~(~uint32_t{0} << (end - first));
  }
  return bits;
}

template <typename Element>
void run(std::span<const float> query, std::span<const Element> blocks, size_t begin, size_t end,
         Nearest& nearest) {
  const size_t dim = query.size();
  check_argument(dim >= 1, "query: expected at least 1 dimension, got 0");
  check_argument(begin <= end && end <= blocks.size() / dim / kBlockRows * kBlockRows,
                 "rows: expected begin <= end <= ", blocks.size() / dim / kBlockRows * kBlockRows,
                 ", got ", begin, " and ", end);
  const auto kernel = kernel_of(blocks.data());
  std::array<float, kBlockRows> distances;
  for (size_t first = begin / kBlockRows * kBlockRows; first < end; first += kBlockRows) {
    uint32_t below =
        kernel(query.data(), blocks.data() + first * dim, dim, nearest.bound(), distances.data());
    if (below == 0) [[likely]] {
      continue;
    }
    for (below &= rows_in(first, begin, end); below != 0; below &= below - 1) {
      const auto row = static_cast<size_t>(std::countr_zero(below));
      nearest.offer(distances[row], first + row);
    }
  }
}

}  // namespace

void Nearest::clear(float bound) {
  size_ = 0;
  std::fill(items_.begin(), items_.end(), Neighbour{bound, 0});
}

void Nearest::offer(float distance, size_t row) {
  if (!(distance < bound())) {
    return;
  }
  size_t place = items_.size() - 1;
  for (; place > 0 && distance < items_[place - 1].distance; --place) {
    items_[place] = items_[place - 1];
  }
  items_[place] = {distance, row};
  size_ = std::min(size_ + 1, items_.size());
}

void offer_rows(std::span<const float> query, std::span<const float> blocks, size_t begin,
                size_t end, Nearest& nearest) {
  run(query, blocks, begin, end, nearest);
}

void offer_rows(std::span<const float> query, std::span<const uint16_t> blocks, size_t begin,
                size_t end, Nearest& nearest) {
  run(query, blocks, begin, end, nearest);
}

}  // namespace atari_fast
