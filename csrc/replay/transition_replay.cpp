#include "replay/transition_replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace atari_fast {
namespace {

// Keeps every product of sizes far from wrapping around.
void check_sizes(const TransitionReplayOptions& o) {
  check_argument(o.num_envs >= 1, "num_envs: expected at least 1, got ", o.num_envs);
  constexpr size_t kMaxBytes = size_t{1} << 48;
  check_argument(o.frame_bytes >= 1 && o.frame_bytes <= kMaxBytes,
                 "frame_bytes: expected a number from 1 to ", kMaxBytes, ", got ", o.frame_bytes);
  check_argument(o.capacity >= 1 && o.capacity <= kMaxBytes / o.frame_bytes,
                 "capacity: expected a number from 1 to ", kMaxBytes / o.frame_bytes,
                 " for frames of ", o.frame_bytes, " bytes, got ", o.capacity);
}

// Everything but the frames.
size_t fixed_bytes(const TransitionReplayOptions& o) {
  return RowRing::memory_bytes(o.num_envs, o.rows_per_env()) +
         PrioritizedSampler::memory_bytes(o.draws, o.num_envs * o.rows_per_env());
}

}  // namespace

const TransitionReplayOptions& checked_options(const TransitionReplayOptions& o) {
  check_argument(o.stack >= 1, "stack: expected at least 1, got ", o.stack);
  check_argument(o.n_step >= 1, "n_step: expected at least 1, got ", o.n_step);
  check_sizes(o);
  check_argument(o.capacity / o.num_envs > o.stack && o.capacity / o.num_envs - o.stack > o.n_step,
                 "capacity: expected more than ", o.stack + o.n_step,
                 " rows (stack + n_step) for each of the ", o.num_envs, " environments, got ",
                 o.capacity, " in all");
  check_argument(o.gamma >= 0.0 && o.gamma <= 1.0, "gamma: expected a number in [0, 1], got ",
                 o.gamma);
  check_argument(std::isfinite(o.reward_clip) && o.reward_clip >= 0.0,
                 "reward_clip: expected a finite number >= 0, got ", o.reward_clip);
  checked_options(o.draws);
  check_argument(o.threads >= 1 && o.threads <= 256,
                 "threads: expected a number from 1 to 256, got ", o.threads);
  return o;
}

TransitionReplay::TransitionReplay(const TransitionReplayOptions& options)
    : options_(checked_options(options)),
      frames_(frame_options(options, options.stack + options.n_step)),
      rows_(options.num_envs, options.rows_per_env()),
      starts_(options.draws, options.num_envs * options.rows_per_env()),
      threads_(options.threads) {}

size_t TransitionReplay::memory_bytes(const TransitionReplayOptions& options) {
  const TransitionReplayOptions& o = checked_options(options);
  return fixed_bytes(o) + FrameStore::memory_bytes(frame_options(o, o.stack + o.n_step));
}

size_t TransitionReplay::bytes_used() const {
  const std::lock_guard lock(mutex_);
  return fixed_bytes(options_) + frames_.bytes_used();
}

Outcome TransitionReplay::outcome_at(size_t env, int64_t row) const {
  const uint8_t flags = flags_at(env, row);
  if ((flags & kTerminated) || (options_.zero_discount_on_life_loss && (flags & kLifeLost))) {
    return Outcome::kTerminate;
  }
  return (flags & kTruncated) ? Outcome::kTruncate : Outcome::kContinue;
}

void TransitionReplay::append(std::span<const uint8_t> frames, std::span<const int64_t> actions,
                              std::span<const float> rewards, std::span<const uint8_t> flags,
                              const Envs& envs) {
  const std::lock_guard lock(mutex_);
  const std::span<const int64_t> order = rows_.checked_envs(envs);
  check_argument(frames.size() == order.size() * options_.frame_bytes, "frames: expected ",
                 order.size() * options_.frame_bytes, " bytes, got ", frames.size());
  rows_.check(order.size(), actions, rewards, flags);
  frames_.reserve(order);  // from here on nothing throws: all rows are stored, or none
  for (size_t i = 0; i < order.size(); ++i) {
    const auto env = static_cast<size_t>(order[i]);
    const int64_t first = frames_.first_row(env);
    frames_.append(env, frames.data() + i * options_.frame_bytes);
    expire(env, first, frames_.first_row(env));
    rows_.store(env, actions[i], rewards[i], flags[i]);
    close_windows(env, rows_.head(env));
    rows_.advance(env);
  }
  starts_.apply();
}

// Rows [begin, end) cannot be read any more: the starts whose stacks reach back to them are no
// starts any more.
void TransitionReplay::expire(size_t env, int64_t begin, int64_t end) {
  if (begin == end) {
    return;
  }
  const int64_t reach = static_cast<int64_t>(options_.stack) - 1;
  const int64_t last =
      std::min(end + reach, rows_.head(env));  // no row from here on is a start yet
  for (int64_t start = begin == 0 ? 0 : begin + reach; start < last; ++start) {
    starts_.remove(rows_.place(env, start));
  }
}

// Row `row` has arrived: makes starts of the rows before it whose window it closes.
void TransitionReplay::close_windows(size_t env, int64_t row) {
  const bool stop = outcome_at(env, row) != Outcome::kContinue;
  const int64_t oldest = oldest_start(env);
  for (size_t k = 1; k <= options_.n_step; ++k) {
    const int64_t start = row - static_cast<int64_t>(k);
    if (start < oldest || (flags_at(env, start + 1) & kFirst)) {
      return;  // start + 1 begins an episode: nothing before it reaches `row`
    }
    const uint8_t flags = flags_at(env, start);
    if (flags & (kTerminated | kTruncated)) {
      return;
    }
    if (stop || k == options_.n_step) {
      starts_.add(rows_.place(env, start));
    }
    if (outcome_at(env, start) != Outcome::kContinue) {
      return;  // windows of earlier starts closed at this life loss
    }
  }
}

// The oldest row whose stack can still be read.
int64_t TransitionReplay::oldest_start(size_t env) const {
  const int64_t first = frames_.first_row(env);
  return first == 0 ? 0 : first + static_cast<int64_t>(options_.stack) - 1;
}

void TransitionReplay::check_batch(const TransitionBatch& batch) const {
  const size_t size = batch.actions.size();
  const size_t window = (options_.stack + options_.n_step) * options_.frame_bytes;
  check_argument(size >= 1, "batch: expected at least 1 transition, got 0");
  check_argument(batch.frames.size() == size * window && batch.rewards.size() == size &&
                     batch.discounts.size() == size && batch.steps.size() == size &&
                     batch.weights.size() == size && batch.ids.size() == size,
                 "batch: expected arrays for ", size, " transitions of ", window, " frame bytes");
}

void TransitionReplay::sample(double beta, const TransitionBatch& batch) {
  check_batch(batch);
  check_argument(std::isfinite(beta) && beta >= 0.0, "beta: expected a finite number >= 0, got ",
                 beta);
  const std::lock_guard lock(mutex_);
  check_argument(starts_.count() > 0,
                 "sample: no transition is complete yet; append more rows first");
  std::vector<int64_t> places(batch.ids.size());
  const Rng after = starts_.draw(beta, places, batch.weights);
  write_items(places, batch);
  starts_.use_up(after);
}

void TransitionReplay::write_items(std::span<const int64_t> places, const TransitionBatch& batch) {
  for (const int64_t place : places) {  // what the items need is fetched while others are written
    const auto at = static_cast<size_t>(place);
    rows_.prefetch(at);
    frames_.prefetch_index(rows_.env_at(at), rows_.row_at(at));
  }
  threads_.run(places.size(), [&](size_t /*part*/, size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + 1 < end) {
        const auto next = static_cast<size_t>(places[i + 1]);
        frames_.prefetch_codes(rows_.env_at(next), rows_.row_at(next));
      }
      write_item(static_cast<size_t>(places[i]), i, batch);
    }
  });
}

void TransitionReplay::write_item(size_t place, size_t item, const TransitionBatch& batch) const {
  const size_t env = rows_.env_at(place);
  const int64_t row = rows_.row_at(place);
  const size_t n = options_.n_step;
  const float bound = options_.reward_clip > 0.0 ? static_cast<float>(options_.reward_clip)
                                                 : std::numeric_limits<float>::max();
  NStepReturn result;
  for (int64_t next = row + 1; !result.closed; ++next) {
    const float reward = std::clamp(rows_.reward(rows_.place(env, next)), -bound, bound);
    result.add(reward, outcome_at(env, next), n, options_.gamma);
  }
  batch.actions[item] = rows_.action(place);
  batch.rewards[item] = static_cast<float>(result.reward);
  batch.discounts[item] = static_cast<float>(result.discount);
  batch.steps[item] = static_cast<int64_t>(result.steps);
  batch.ids[item] = row * static_cast<int64_t>(options_.num_envs) + static_cast<int64_t>(env);
  write_frames(env, row, result.steps,
               batch.frames.data() + item * (options_.stack + n) * options_.frame_bytes);
}

void TransitionReplay::write_frames(size_t env, int64_t row, size_t steps, uint8_t* out) const {
  const size_t bytes = options_.frame_bytes;
  // The oldest frame of the stack that belongs to the episode.
  int64_t oldest = row;
  const int64_t limit = std::max<int64_t>(0, row - static_cast<int64_t>(options_.stack) + 1);
  while (oldest > limit && !(flags_at(env, oldest) & kFirst)) {
    --oldest;
  }
  const int64_t begin = row - static_cast<int64_t>(options_.stack) + 1;
  const auto before = static_cast<size_t>(oldest - begin);
  const auto count = static_cast<size_t>(row - oldest) + 1 + steps;
  const size_t after = options_.stack + options_.n_step - before - count;
  std::memset(out, 0, before * bytes);
  frames_.read(env, oldest, count, out + before * bytes, bytes);
  std::memset(out + (before + count) * bytes, 0, after * bytes);
}

size_t TransitionReplay::update_priorities(std::span<const int64_t> ids,
                                           std::span<const float> priorities) {
  const std::lock_guard lock(mutex_);
  starts_.check_priorities("update_priorities", ids.size(), priorities);
  for (size_t i = 0; i < ids.size(); ++i) {
    check_argument(was_given(ids[i]), "ids[", i, "]: expected an id that sample() gave, got ",
                   ids[i]);
  }
  return starts_.set_priorities(ids, priorities, [this](int64_t id) { return start_at(id); });
}

size_t TransitionReplay::num_valid() const {
  const std::lock_guard lock(mutex_);
  return starts_.count();
}

int64_t TransitionReplay::num_rows() const {
  const std::lock_guard lock(mutex_);
  return rows_.num_rows();
}

}  // namespace atari_fast
