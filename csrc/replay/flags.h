// What arrives together with a frame.
#pragma once

#include <cstdint>

namespace atari_fast {

/// Bits of a row's flags: what arrived together with its frame.
inline constexpr uint8_t kFirst =
    1;  ///< first frame of an episode; the action sent before it was ignored
inline constexpr uint8_t kTerminated = 2;  ///< the episode ended at this frame
inline constexpr uint8_t kTruncated =
    4;  ///< the episode was cut at this frame, which is bootstrapped from
inline constexpr uint8_t kLifeLost = 8;  ///< a life was lost and the game went on

}  // namespace atari_fast
