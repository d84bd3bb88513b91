// Reading transitions in an order that the caller gives, beside the draws.
#include <algorithm>

#include "base/error.h"
#include "replay/transition_replay.h"

namespace atari_fast {

// Whether a row has the id, be it overwritten or not.
bool TransitionReplay::was_given(int64_t id) const {
  const auto num_envs = static_cast<int64_t>(options_.num_envs);
  return id >= 0 && id / num_envs < rows_.head(static_cast<size_t>(id % num_envs));
}

// The place of a start that can be drawn, or -1. `id` was given to a row.
int64_t TransitionReplay::start_at(int64_t id) const {
  const int64_t num_envs = static_cast<int64_t>(options_.num_envs);
  const size_t place = rows_.place(static_cast<size_t>(id % num_envs), id / num_envs);
  return rows_.row_at(place) == id / num_envs && starts_.holds(place) ? static_cast<int64_t>(place)
                                                                      : -1;
}

std::vector<int64_t> TransitionReplay::valid_ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> ids;
  ids.reserve(starts_.count());
  const auto num_envs = static_cast<int64_t>(options_.num_envs);
  for (size_t k = 0; k < options_.rows_per_env(); ++k) {
    for (int64_t env = 0; env < num_envs; ++env) {
      const int64_t first = frames_.first_row(static_cast<size_t>(env));
      const int64_t id = (first + static_cast<int64_t>(k)) * num_envs + env;
      if (was_given(id) && start_at(id) >= 0) {
        ids.push_back(id);
      }
    }
  }
  if (!std::is_sorted(ids.begin(), ids.end())) {
    std::sort(ids.begin(), ids.end());
  }
  return ids;
}

void TransitionReplay::read(const TransitionBatch& batch) {
  check_batch(batch);
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> places(batch.ids.size());
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t id = batch.ids[i];
    places[i] = was_given(id) ? start_at(id) : -1;
    check_argument(places[i] >= 0, "ids[", i, "]: expected an id of valid_ids(), got ", id,
                   ", which cannot be drawn or was overwritten");
  }
  std::fill(batch.weights.begin(), batch.weights.end(), 1.0f);
  write_items(places, batch);
}

}  // namespace atari_fast
