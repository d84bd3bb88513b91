// A tree of sums over non-negative weights: draws an index with probability weight / total in
// O(log n).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/aligned.h"

namespace atari_fast {

/// Sum tree in float64 (Schaul 2016, appendix B.2.1), and on demand a tree of minima beside it.
///
/// Every node has eight children, which fill a cache line, and is the sum of them, recomputed and
/// never changed by differences, so that the root does not drift. Batches go down level by level,
/// so that the lines of all their items are fetched at once. Owns its memory; not thread-safe.
class SumTree {
 public:
  /// A tree of `size` leaves, all of weight 0. O(size). `track_min`: keep `min_positive` too.
  /// Throws std::invalid_argument when size is 0 or above 2^48.
  explicit SumTree(size_t size, bool track_min = false);

  size_t size() const { return size_; }

  /// Sum of all weights. O(1).
  double total() const { return total_; }

  /// The smallest weight above 0; infinity when there is none. O(1). Only with `track_min`.
  double min_positive() const { return min_; }

  /// Weight of leaf `index`. O(1). Throws std::invalid_argument when it is out of range.
  double get(size_t index) const {
    check_index(static_cast<int64_t>(index), 0);
    return sums_[index];
  }

  /// All weights.
  std::span<const double> leaves() const { return {sums_.data(), size_}; }

  /// Sets many weights; of equal indices the last one wins. O(indices * log size). Throws
  /// std::invalid_argument for an index out of range or a weight that is negative, not finite or so
  /// large that the total could overflow, naming the position; the tree is then unchanged.
  void set(std::span<const int64_t> indices, std::span<const double> weights);

  /// Sets the weight of one leaf alone: sums are wrong until a `refresh` with it. O(1). Throws as
  /// `set`.
  void set_leaf(size_t index, double weight) {
    check_index(static_cast<int64_t>(index), 0);
    check_weight(weight, 0);
    put(index, weight);
  }

  /// Makes all sums right after changes of these leaves. O(indices * log size).
  void refresh(std::span<const int64_t> indices);

  /// For each u the leaf i with sum(weights[0..i)) <= u < sum(weights[0..i]). O(us * log size). `u`
  /// is clamped to [0, total), and a leaf of weight 0 is never returned. Throws
  /// std::invalid_argument when the total is 0 or a `u` is NaN, or when the sizes differ.
  void find(std::span<const double> us, std::span<int64_t> leaves) const;

  size_t find(double u) const {
    int64_t leaf = 0;
    find({&u, 1}, {&leaf, 1});
    return static_cast<size_t>(leaf);
  }

  /// The k-th leaf of weight above 0, counted from 0, of which there must be more than k. Leaves of
  /// weight 0 beside each other cost little: O((k + log size) log size) where the others follow
  /// each other.
  size_t nth_positive(size_t k) const;

  /// Bytes that a tree of `size` leaves takes.
  static size_t memory_bytes(size_t size, bool track_min);

 private:
  void check_index(int64_t index, size_t position) const;
  void check_weight(double weight, size_t position) const;
  void put(size_t index, double weight) {
    sums_[index] = weight;
    if (!mins_.empty()) {
      mins_[index] = weight > 0.0 ? weight : std::numeric_limits<double>::infinity();
    }
  }
  void find_block(const double* us, int64_t* leaves, size_t count) const;

  size_t size_;
  std::vector<size_t> levels_;  // where each level begins in sums_ and mins_, leaves first
  AlignedVector<double> sums_;  // a level's nodes; eight in a row share a parent in the next level
  AlignedVector<double> mins_;  // the same of minima above 0; empty without track_min
  double total_ = 0.0;
  double min_;
};

}  // namespace atari_fast
