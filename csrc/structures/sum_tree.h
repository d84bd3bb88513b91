// A binary tree of sums over non-negative weights: draws an index with probability weight / total
// in O(log n).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace atari_fast {

/// Sum tree in float64 over a power-of-two number of leaves (Schaul 2016, appendix B.2.1).
///
/// Parents are recomputed as left + right and never changed by differences, so the root does not
/// drift. Owns its memory; not thread-safe.
class SumTree {
 public:
  /// A tree of `size` leaves, all of weight 0. O(size). Throws std::invalid_argument when size is 0
  /// or above 2^48.
  explicit SumTree(size_t size);

  size_t size() const { return size_; }

  /// Sum of all weights. O(1).
  double total() const { return nodes_[1]; }

  /// Weight of leaf `index`. O(1). Throws std::invalid_argument when it is out of range.
  double get(size_t index) const;

  /// Sets one weight. O(log size). Throws std::invalid_argument for an index out of range or a
  /// weight that is negative, not finite or so large that the total could overflow; the tree is
  /// then unchanged.
  void set(size_t index, double weight);

  /// Sets many weights; of equal indices the last one wins. O(indices * log size). Throws as `set`
  /// does, naming the position; the tree is then unchanged.
  void set(std::span<const int64_t> indices, std::span<const double> weights);

  /// The leaf i with sum(weights[0..i)) <= u < sum(weights[0..i]). O(log size). `u` is clamped to
  /// [0, total), and a leaf of weight 0 is never returned. Throws std::invalid_argument when the
  /// total is 0 or `u` is NaN.
  size_t find(double u) const;

 private:
  void check_index(int64_t index, size_t position) const;
  void check_weight(double weight, size_t position) const;

  size_t size_;
  size_t leaves_;              // power of two, >= size_
  std::vector<double> nodes_;  // nodes_[1] is the root, nodes_[leaves_ + i] leaf i
};

}  // namespace atari_fast
