#include "structures/sum_tree.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace atari_fast {
namespace {

constexpr size_t kFan = 8;
// Far above any memory, far below the sizes at which arithmetic on them wraps around.
constexpr size_t kMaxSize = size_t{1} << 48;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t checked_size(size_t size) {
  check_argument(size >= 1 && size <= kMaxSize, "sum tree: expected a size from 1 to ", kMaxSize,
                 ", got ", size);
  return size;
}

size_t round_up(size_t nodes) { return (nodes + kFan - 1) / kFan * kFan; }

/// Where each level begins, and at the end how many nodes there are in all.
std::vector<size_t> level_offsets(size_t size) {
  std::vector<size_t> offsets{0};
  for (size_t nodes = round_up(size);; nodes = round_up(nodes / kFan)) {
    offsets.push_back(offsets.back() + nodes);
    if (nodes == kFan) {
      return offsets;
    }
  }
}

/// Left to right: what the partial sums of `descend` end with.
double sum_of(const double* c) {
  double sum = c[0];
  for (size_t k = 1; k < kFan; ++k) {
    sum += c[k];
  }
  return sum;
}

double min_of(const double* c) {
  return std::min(std::min(std::min(c[0], c[1]), std::min(c[2], c[3])),
                  std::min(std::min(c[4], c[5]), std::min(c[6], c[7])));
}

/// The largest number below `sum`, which is above 0.
double below(double sum) { return std::bit_cast<double>(std::bit_cast<uint64_t>(sum) - 1); }

/// The child of the block of eight in which `u` falls, with `u` reduced by what lies left of it.
/// A child ends where the next begins, so one of weight 0 is passed. Rounding may leave `u` at or
/// above the child's weight, which is its own children's sum: it is then the largest number below,
/// and so below their last partial sum too. No branches: they would be mispredicted half the time.
#if defined(__SSE2__)
size_t descend(double& u, const double* c) {
  const double p0 = c[0];
  const double p1 = p0 + c[1];
  const double p2 = p1 + c[2];
  const double p3 = p2 + c[3];
  const double p4 = p3 + c[4];
  const double p5 = p4 + c[5];
  const double p6 = p5 + c[6];
  const __m128d left[4] = {_mm_set_pd(p0, 0.0), _mm_set_pd(p2, p1), _mm_set_pd(p4, p3),
                           _mm_set_pd(p6, p5)};  // what lies left of each child
  const __m128d all = _mm_set1_pd(u);
  // u has reached what lies left of its child and of all before: -1 for each, in two halves.
  const auto reached = [&](size_t k) { return _mm_castpd_si128(_mm_cmpge_pd(all, left[k])); };
  const __m128i counts =
      _mm_add_epi64(_mm_add_epi64(reached(0), reached(1)), _mm_add_epi64(reached(2), reached(3)));
  const __m128i count = _mm_add_epi64(counts, _mm_unpackhi_epi64(counts, counts));
  const auto child = static_cast<size_t>(-_mm_cvtsi128_si64(count) - 1);
  u = std::min(u - reinterpret_cast<const double*>(left)[child], below(c[child]));
  return child;
}
#else
size_t descend(double& u, const double* c) {
  double left[kFan] = {0.0};
  for (size_t k = 1; k < kFan; ++k) {
    left[k] = left[k - 1] + c[k - 1];
  }
  size_t child = 0;
  for (size_t k = 1; k < kFan; ++k) {
    child += u >= left[k] ? 1 : 0;
  }
  u = std::min(u - left[child], below(c[child]));
  return child;
}
#endif

}  // namespace

SumTree::SumTree(size_t size, bool track_min)
    : size_(checked_size(size)),
      levels_(level_offsets(size)),
      sums_(levels_.back(), 0.0),
      mins_(track_min ? levels_.back() : 0, kInfinity),
      min_(kInfinity) {}

size_t SumTree::memory_bytes(size_t size, bool track_min) {
  return level_offsets(checked_size(size)).back() * sizeof(double) * (track_min ? 2 : 1);
}

void SumTree::check_index(int64_t index, size_t position) const {
  check_argument(index >= 0 && static_cast<uint64_t>(index) < size_, "indices[", position,
                 "]: expected 0 <= index < ", size_, ", got ", index);
}

void SumTree::check_weight(double weight, size_t position) const {
  const double largest =
      std::numeric_limits<double>::max() / static_cast<double>(std::bit_ceil(size_));
  check_argument(weight >= 0.0 && weight <= largest, "weights[", position,
                 "]: expected a weight from 0 to ", largest, ", got ", weight);
}

void SumTree::set(std::span<const int64_t> indices, std::span<const double> weights) {
  check_argument(indices.size() == weights.size(), "weights: expected one for each of the ",
                 indices.size(), " indices, got ", weights.size());
  for (size_t i = 0; i < indices.size(); ++i) {
    check_index(indices[i], i);
    check_weight(weights[i], i);
    __builtin_prefetch(&sums_[static_cast<size_t>(indices[i])], 1);
  }
  for (size_t i = 0; i < indices.size(); ++i) {
    put(static_cast<size_t>(indices[i]), weights[i]);
  }
  refresh(indices);
}

// Level by level, so that every parent is computed from children that are final.
void SumTree::refresh(std::span<const int64_t> indices) {
  size_t scale = kFan;
  for (size_t level = 0; level + 2 < levels_.size(); ++level, scale *= kFan) {
    for (const int64_t index : indices) {
      const size_t parent = static_cast<size_t>(index) / scale;
      sums_[levels_[level + 1] + parent] = sum_of(&sums_[levels_[level] + parent * kFan]);
    }
    for (const int64_t index : mins_.empty() ? std::span<const int64_t>() : indices) {
      const size_t parent = static_cast<size_t>(index) / scale;
      mins_[levels_[level + 1] + parent] = min_of(&mins_[levels_[level] + parent * kFan]);
    }
  }
  total_ = sum_of(&sums_[levels_.back() - kFan]);
  min_ = mins_.empty() ? kInfinity : min_of(&mins_[levels_.back() - kFan]);
}

void SumTree::find(std::span<const double> us, std::span<int64_t> leaves) const {
  check_argument(us.size() == leaves.size(), "leaves: expected one for each of the ", us.size(),
                 " values of u, got ", leaves.size());
  check_argument(total() > 0.0, "sum tree: expected a positive total to draw from, got ", total());
  for (const double u : us) {
    check_argument(!std::isnan(u), "u: expected a number in [0, total), got NaN");
  }
  constexpr size_t kBlock = 64;  // more than the fetches that a core has under way
  for (size_t i = 0; i < us.size(); i += kBlock) {
    find_block(us.data() + i, leaves.data() + i, std::min(kBlock, us.size() - i));
  }
}

size_t SumTree::nth_positive(size_t k) const {
  size_t leaf = 0;
  for (;;) {
    if (sums_[leaf] > 0.0) {
      if (k-- == 0) {
        return leaf;
      }
      ++leaf;
      continue;
    }
    // The largest node that begins here and has nothing below it is passed at once.
    size_t width = 1;
    for (size_t level = 1; level + 1 < levels_.size() && leaf % (width * kFan) == 0; ++level) {
      if (sums_[levels_[level] + leaf / (width * kFan)] > 0.0) {
        break;
      }
      width *= kFan;
    }
    leaf += width;
  }
}

void SumTree::find_block(const double* us, int64_t* leaves, size_t count) const {
  double rest[64];
  const double largest = below(total_);
  std::transform(us, us + count, rest,
                 [&](double u) { return std::min(std::max(u, 0.0), largest); });
  std::fill_n(leaves, count, 0);
  for (size_t level = levels_.size() - 1; level-- > 0;) {
    const double* const nodes = &sums_[levels_[level]];
    const double* const below = level > 0 ? &sums_[levels_[level - 1]] : nodes;
    for (size_t i = 0; i < count; ++i) {
      const size_t block = static_cast<size_t>(leaves[i]) * kFan;
      const size_t child = block + descend(rest[i], nodes + block);
      leaves[i] = static_cast<int64_t>(child);
      __builtin_prefetch(below + child * (level > 0 ? kFan : 1));
    }
  }
}

}  // namespace atari_fast
