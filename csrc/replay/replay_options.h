// Settings that both replays have.
#pragma once

#include <cstddef>

#include "structures/frame_store.h"
#include "structures/prioritized_sampler.h"

namespace atari_fast {

/// What a replay is told of its environments, its frames and its draws.
struct ReplayOptions {
  size_t num_envs = 1;      ///< E
  size_t capacity = 1;      ///< rows kept over all environments, capacity / num_envs for each
  size_t frame_bytes = 1;   ///< bytes of one frame
  size_t row_bytes = 1;     ///< bytes of one row of its pixels
  size_t frame_memory = 0;  ///< bytes that frames may take, 0: as many as the worst ones need; an
                            ///< environment whose share is full loses its oldest rows early. So
                            ///< many that the worst frames of one draw fit into each share
  SamplerOptions draws;
  size_t threads = 1;  ///< threads that gather a batch, the calling one included; changes no result

  size_t rows_per_env() const { return capacity / num_envs; }
};

/// The frame store of a replay of which one draw needs `rows` frames. Throws std::invalid_argument
/// when these do not fit into `frame_memory`.
inline FrameStoreOptions frame_options(const ReplayOptions& o, size_t rows) {
  const FrameStoreOptions frames{o.num_envs, o.rows_per_env(), o.frame_bytes, o.row_bytes,
                                 o.frame_memory};
  FrameStore::check_holds(frames, rows);
  return frames;
}

}  // namespace atari_fast
