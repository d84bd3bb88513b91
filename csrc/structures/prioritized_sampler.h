// Draws of places in proportion to their priorities, and the importance weights of the draws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.h"
#include "base/snapshot.h"
#include "structures/sum_tree.h"

namespace atari_fast {

/// How a replay draws; the constructor of PrioritizedSampler checks it.
struct SamplerOptions {
  bool prioritized = true;          ///< proportional priorities; otherwise all have equal weight
  double alpha = 0.6;               ///< exponent of priorities, in [0, 1]
  double priority_epsilon = 1e-6;   ///< added to a priority before the exponent
  double uniform_mix = 0.0;         ///< share of draws that are uniform, in [0, 1]
  bool buffer_max_weights = false;  ///< importance weights over the largest of all places, not of
                                    ///< the batch
  bool stratified = true;           ///< prioritized: one draw from each of B equal segments of the
                                    ///< total weight; uniform draws are always independent
  uint64_t seed = 0;                ///< seed of the draws
};

/// Throws std::invalid_argument, naming the setting, unless all are in range; returns them.
const SamplerOptions& checked_options(const SamplerOptions& options);

/// Proportional prioritized draws from a fixed number of places, some of which can be drawn
/// (Schaul 2016, sections 3.3 and 3.4).
///
/// The weight of a place is (priority + epsilon)^alpha, never 0; that of one that cannot be drawn
/// is 0. Changes of weights take effect with `apply`, which must come before a draw. Owns its
/// memory; not thread-safe.
class PrioritizedSampler {
 public:
  /// `places` of which none can be drawn. Throws std::invalid_argument for options out of range.
  PrioritizedSampler(const SamplerOptions& options, size_t places);

  /// Number of places that can be drawn. O(1).
  size_t count() const { return count_; }
  /// Whether the place can be drawn. O(1).
  bool holds(size_t place) const { return tree_.get(place) > 0.0; }

  /// Lets a place be drawn, with the largest priority seen so far, or 1 at first. O(1) on the
  /// mean, as all changes; `apply` has their costs. Needs no memory and does not throw.
  void add(size_t place) { set(place, options_.prioritized ? max_weight_ : 1.0); }
  /// Lets a place not be drawn any more.
  void remove(size_t place) { set(place, 0.0); }
  /// Makes the changes since the last call effective. O(changes * log places).
  void apply();

  /// Throws std::invalid_argument, in the name of the function `caller`, unless draws are
  /// prioritized and there is one finite priority >= 0 for each of `ids` ids.
  void check_priorities(const char* caller, size_t ids, std::span<const float> priorities) const;
  /// Sets checked priorities, of equal ids the last. `place_of` gives the place of an id, or a
  /// negative number for one that cannot be drawn any more; returns how many those were.
  template <typename PlaceOf>
  size_t set_priorities(std::span<const int64_t> ids, std::span<const float> priorities,
                        const PlaceOf& place_of) {
    size_t dropped = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t place = place_of(ids[i]);
      if (place < 0) {
        ++dropped;
      } else {
        set_priority(static_cast<size_t>(place), priorities[i]);
      }
    }
    apply();
    return dropped;
  }

  /// Draws places with importance exponent `beta`. The weight of place i is (N P(i))^-beta over the
  /// largest of the batch (or of all places), N their number and P(i) the probability that i is
  /// drawn with. Returns the random numbers after the draw, for `use_up`. O(B log places); a
  /// uniform draw (`uniform_mix`) tries places / N places on average, 64 at most, and then counts
  /// them out. At least one place must be one that can be drawn.
  Rng draw(double beta, std::span<int64_t> places, std::span<float> weights) const;
  /// Ends a draw: the next one has other random numbers.
  void use_up(const Rng& rng) { rng_ = rng; }

  /// Appends the largest weight and the state of the random numbers to a snapshot.
  void save_state(SnapshotWriter& writer) const;
  /// Appends the weights of all places.
  void save_weights(SnapshotWriter& writer) const { writer.array<double>(tree_.leaves()); }
  /// The same back, into a new sampler. Throw SnapshotError for values that none could have.
  void load_state(SnapshotReader& reader);
  void load_weights(SnapshotReader& reader);

  /// Bytes that a sampler of so many places takes.
  static size_t memory_bytes(const SamplerOptions& options, size_t places) {
    return SumTree::memory_bytes(places, options.buffer_max_weights);
  }

 private:
  double weight_of(double priority) const;
  double largest_weight() const;
  double density(double weight) const;
  void set(size_t place, double weight);
  void set_priority(size_t place, float priority);
  size_t draw_uniform(Rng& rng) const;
  void draw_places(Rng& rng, std::span<int64_t> places) const;

  SamplerOptions options_;
  SumTree tree_;  // of the weights
  size_t count_ = 0;
  double max_weight_;  // largest weight seen, that of priority 1 at first
  Rng rng_;
  std::vector<int64_t> changed_;  // since the last `apply`; its memory is taken once
};

}  // namespace atari_fast
