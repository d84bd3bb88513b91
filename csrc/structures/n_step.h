// n-step returns with the discount that belongs to each: terminals, truncations and tails need no
// special case later.
#pragma once

#include <cstddef>
#include <cstdint>

namespace atari_fast {

/// What followed an action, as far as a return is concerned.
enum class Outcome : uint8_t {
  kContinue,   ///< the episode goes on
  kTerminate,  ///< nothing may be bootstrapped from the frame that followed
  kTruncate,   ///< the episode stopped there, and the frame is bootstrapped from
};

/// The n-step return R + discount * V(x_{t+steps}) of a start t, with R = sum_{k<steps} gamma^k
/// r_{t+k+1}.
///
/// The window closes at the first of n steps, a terminal, a truncation. A shortened window has
/// discount gamma^steps and not gamma^n; after a terminal it is 0.
struct NStepReturn {
  size_t steps = 0;       ///< m, rewards added so far
  double reward = 0.0;    ///< R
  double discount = 1.0;  ///< what multiplies the bootstrap value
  bool closed = false;    ///< nothing more belongs to this return

  /// Adds the next step's reward and outcome. Must not be called once closed. O(1).
  void add(double step_reward, Outcome outcome, size_t n, double gamma) {
    reward += discount * step_reward;
    discount = outcome == Outcome::kTerminate ? 0.0 : discount * gamma;
    ++steps;
    closed = outcome != Outcome::kContinue || steps == n;
  }
};

}  // namespace atari_fast
