// Importance weights of prioritized draws.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace atari_fast {

/// (N P(i))^-beta over the largest such weight (Schaul 2016, section 3.4), as ratios that no beta
/// can overflow; in float32, so to within about beta * 1e-7 of the exact ones.
///
/// `densities[i]` is in proportion to P(i), `rarest` the smallest of the batch or of the memory.
inline void importance_weights(std::span<const double> densities, double rarest, double beta,
                               std::span<float> weights) {
  for (size_t i = 0; i < densities.size(); ++i) {
    weights[i] = std::pow(static_cast<float>(rarest / densities[i]), static_cast<float>(beta));
  }
}

}  // namespace atari_fast
