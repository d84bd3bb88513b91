// Reading transitions in an order that the caller gives, beside the draws.
#include <algorithm>

#include "base/error.h"
#include "replay/transition_replay.h"

namespace atari_fast {

// The slot of a start that can be drawn, or -1. `id` was given to a row.
int64_t TransitionReplay::start_at(int64_t id) const {
  const int64_t num_envs = static_cast<int64_t>(options_.num_envs);
  const size_t at = slot(static_cast<size_t>(id % num_envs), id / num_envs);
  return row_at(at) == id / num_envs && tree_.get(at) > 0.0 ? static_cast<int64_t>(at) : -1;
}

std::vector<int64_t> TransitionReplay::valid_ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> ids;
  ids.reserve(num_starts_);
  const int64_t num_envs = static_cast<int64_t>(options_.num_envs);
  const int64_t oldest = std::max<int64_t>(0, head_ - static_cast<int64_t>(rows_));
  for (int64_t id = oldest * num_envs; id < head_ * num_envs; ++id) {
    if (start_at(id) >= 0) {
      ids.push_back(id);
    }
  }
  return ids;
}

void TransitionReplay::read(const TransitionBatch& batch) {
  check_batch(batch);
  const std::lock_guard lock(mutex_);
  const int64_t rows = head_ * static_cast<int64_t>(options_.num_envs);
  std::vector<int64_t> slots(batch.ids.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t id = batch.ids[i];
    slots[i] = id >= 0 && id < rows ? start_at(id) : -1;
    check_argument(slots[i] >= 0, "ids[", i, "]: expected an id of valid_ids(), got ", id,
                   ", which cannot be drawn or was overwritten");
  }
  std::fill(batch.weights.begin(), batch.weights.end(), 1.0f);
  write_items(slots, batch);
}

}  // namespace atari_fast
