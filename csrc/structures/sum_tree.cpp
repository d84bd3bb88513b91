#include "structures/sum_tree.h"

#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace atari_fast {
namespace {

// Far above any memory, far below the sizes at which 2 * leaves wraps around.
constexpr size_t kMaxSize = size_t{1} << 48;

size_t checked_size(size_t size) {
  check_argument(size >= 1 && size <= kMaxSize, "sum tree: expected a size from 1 to ", kMaxSize,
                 ", got ", size);
  return size;
}

}  // namespace

SumTree::SumTree(size_t size)
    : size_(checked_size(size)), leaves_(std::bit_ceil(size_)), nodes_(2 * leaves_, 0.0) {}

void SumTree::check_index(int64_t index, size_t position) const {
  check_argument(index >= 0 && static_cast<uint64_t>(index) < size_, "indices[", position,
                 "]: expected 0 <= index < ", size_, ", got ", index);
}

void SumTree::check_weight(double weight, size_t position) const {
  const double largest = std::numeric_limits<double>::max() / static_cast<double>(leaves_);
  check_argument(weight >= 0.0 && weight <= largest, "weights[", position,
                 "]: expected a weight from 0 to ", largest, ", got ", weight);
}

double SumTree::get(size_t index) const {
  check_index(static_cast<int64_t>(index), 0);
  return nodes_[leaves_ + index];
}

void SumTree::set(size_t index, double weight) {
  check_index(static_cast<int64_t>(index), 0);
  check_weight(weight, 0);
  size_t node = leaves_ + index;
  nodes_[node] = weight;
  for (node /= 2; node >= 1; node /= 2) {
    nodes_[node] = nodes_[2 * node] + nodes_[2 * node + 1];
  }
}

void SumTree::set(std::span<const int64_t> indices, std::span<const double> weights) {
  check_argument(indices.size() == weights.size(), "weights: expected one for each of the ",
                 indices.size(), " indices, got ", weights.size());
  for (size_t i = 0; i < indices.size(); ++i) {
    check_index(indices[i], i);
    check_weight(weights[i], i);
  }
  for (size_t i = 0; i < indices.size(); ++i) {
    nodes_[leaves_ + static_cast<size_t>(indices[i])] = weights[i];
  }
  // Level by level, so that every parent is computed from children that are final.
  for (size_t level = leaves_ / 2, shift = 1; level >= 1; level /= 2, ++shift) {
    for (const int64_t index : indices) {
      const size_t node = (leaves_ + static_cast<size_t>(index)) >> shift;
      nodes_[node] = nodes_[2 * node] + nodes_[2 * node + 1];
    }
  }
}

size_t SumTree::find(double u) const {
  check_argument(total() > 0.0, "sum tree: expected a positive total to draw from, got ", total());
  check_argument(!std::isnan(u), "u: expected a number in [0, total), got NaN");
  size_t node = 1;
  while (node < leaves_) {
    const double left = nodes_[2 * node];
    const double right = nodes_[2 * node + 1];
    // Rounding may leave u >= left with nothing on the right: an empty side is never entered.
    if ((u < left || right == 0.0) && left > 0.0) {
      node = 2 * node;
    } else {
      u -= left;
      node = 2 * node + 1;
    }
  }
  return node - leaves_;
}

}  // namespace atari_fast
