#include "replay/sequence_replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace atari_fast {

namespace {

FrameStoreOptions frame_options(const SequenceReplayOptions& o) {
  const FrameStoreOptions frames{o.num_envs, o.rows_per_env(), o.frame_bytes, o.row_bytes,
                                 o.frame_memory};
  FrameStore::check_holds(frames, o.shape.frames());
  return frames;
}

}  // namespace

SequenceReplay::SequenceReplay(const SequenceReplayOptions& options)
    : options_(checked_options(options)),
      ring_(options.rows_per_env() + 1),
      waiting_(options.shape.rows()),
      frames_(frame_options(options)),
      actions_(options.num_envs * ring_),
      rewards_(options.num_envs * ring_),
      flags_(options.num_envs * ring_),
      table_(options.shape, options.num_envs, options.sequences_per_env()),
      max_weight_(weight_of(1.0)),
      rng_(options.seed),
      pool_(options.threads) {
  const auto make = [](const std::vector<VectorSpec>& specs, size_t places) {
    std::vector<Values> values;
    values.reserve(specs.size());
    for (const VectorSpec& spec : specs) {
      values.push_back({spec.bytes(), std::vector<std::byte>(places * spec.bytes())});
    }
    return values;
  };
  columns_ = make(options.columns, options.num_envs * ring_);
  waiting_states_ = make(options.states, options.num_envs * waiting_);
  states_ = make(options.states, options.num_envs * options.sequences_per_env());
}

size_t SequenceReplay::memory_bytes(const SequenceReplayOptions& options) {
  return fixed_bytes(checked_options(options)) + FrameStore::memory_bytes(frame_options(options));
}

size_t SequenceReplay::bytes_used() const {
  const std::lock_guard lock(mutex_);
  return fixed_bytes(options_) + frames_.bytes_used();
}

// Everything but the frames.
size_t SequenceReplay::fixed_bytes(const SequenceReplayOptions& o) {
  size_t row = sizeof(uint8_t) + sizeof(float) + sizeof(uint8_t);
  for (const VectorSpec& spec : o.columns) {
    row += spec.bytes();
  }
  size_t state = 0;
  for (const VectorSpec& spec : o.states) {
    state += spec.bytes();
  }
  const size_t sequences = o.num_envs * o.sequences_per_env();
  return o.num_envs * (o.rows_per_env() + 1) * row +
         (sequences + o.num_envs * o.shape.rows()) * state + sequences * sizeof(Sequence) +
         SumTree::memory_bytes(sequences, false);
}

size_t SequenceReplay::slot(size_t env, int64_t row) const {
  return env * ring_ + static_cast<size_t>(row) % ring_;
}

size_t SequenceReplay::waiting_slot(size_t env, int64_t row) const {
  return env * waiting_ + static_cast<size_t>(row) % waiting_;
}

double SequenceReplay::weight_of(double priority) const {
  // Positive even where the power underflows: a sequence never loses its place in the draw.
  return std::max(std::pow(priority + options_.priority_epsilon, options_.alpha),
                  std::numeric_limits<double>::min());
}

void SequenceReplay::check_rows(const SequenceRows& rows) const {
  const size_t num_envs = options_.num_envs;
  check_argument(rows.frames.size() == num_envs * options_.frame_bytes, "frames: expected ",
                 num_envs * options_.frame_bytes, " bytes, got ", rows.frames.size());
  check_argument(rows.actions.size() == num_envs && rows.rewards.size() == num_envs &&
                     rows.flags.size() == num_envs,
                 "actions, rewards and flags: expected ", num_envs, " of each, got ",
                 rows.actions.size(), ", ", rows.rewards.size(), " and ", rows.flags.size());
  const auto check = [&](const char* what, const auto& values, const auto& specs) {
    check_argument(values.size() == specs.size(), what, ": expected ", specs.size(), ", got ",
                   values.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      check_argument(values[i].size() == num_envs * specs[i].bytes(), what, "[", i, "] (",
                     specs[i].name, "): expected ", num_envs * specs[i].bytes(), " bytes, got ",
                     values[i].size());
    }
  };
  check("columns", rows.columns, options_.columns);
  check("states", rows.states, options_.states);
  for (size_t env = 0; env < num_envs; ++env) {
    check_argument(rows.actions[env] >= 0 && rows.actions[env] <= 255, "actions[", env,
                   "]: expected 0 <= action <= 255, got ", rows.actions[env]);
    check_argument(std::isfinite(rows.rewards[env]), "rewards[", env,
                   "]: expected a finite reward, got ", rows.rewards[env]);
  }
}

std::vector<NewSequence> SequenceReplay::append(const SequenceRows& rows) {
  check_rows(rows);
  const std::lock_guard lock(mutex_);
  const double weight = options_.prioritized ? max_weight_ : 1.0;
  std::vector<int64_t> ids;
  std::vector<NewSequence> made;
  frames_.reserve();
  ids.reserve(table_.most_made());
  made.reserve(options_.num_envs * table_.most_made());  // from here on nothing throws
  for (size_t env = 0; env < options_.num_envs; ++env) {
    store_row(rows, env);
    const int64_t readable = frames_.first_row(env);
    table_.expire(env, readable);
    ids.clear();
    table_.arrive({env, head_, rows.flags[env], readable, weight}, ids);
    for (const int64_t id : ids) {
      if (table_.alive(id)) {  // not one whose place a later one of this row took
        made.push_back(keep_states(id));
      }
    }
    store_waiting_states(rows, env);
  }
  ++head_;
  return made;
}

void SequenceReplay::store_row(const SequenceRows& rows, size_t env) {
  const size_t at = slot(env, head_);
  frames_.append(env, rows.frames.data() + env * options_.frame_bytes);
  actions_[at] = static_cast<uint8_t>(rows.actions[env]);
  rewards_[at] = rows.rewards[env];
  flags_[at] = rows.flags[env];
  for (size_t i = 0; i < columns_.size(); ++i) {
    const size_t bytes = columns_[i].bytes;
    std::memcpy(columns_[i].at(at), rows.columns[i].data() + env * bytes, bytes);
  }
}

void SequenceReplay::store_waiting_states(const SequenceRows& rows, size_t env) {
  const size_t at = waiting_slot(env, head_);
  const bool begins = table_.episode_begin(env) == head_;
  for (size_t i = 0; i < states_.size(); ++i) {
    const size_t bytes = states_[i].bytes;
    if (begins) {
      std::memset(waiting_states_[i].at(at), 0, bytes);
    } else {
      std::memcpy(waiting_states_[i].at(at), rows.states[i].data() + env * bytes, bytes);
    }
  }
}

// The new sequence's state stops to wait.
NewSequence SequenceReplay::keep_states(int64_t id) {
  const size_t env = table_.env(id);
  const Sequence& sequence = table_.at(id);
  const size_t from = waiting_slot(env, sequence.first_row(options_.shape));
  for (size_t i = 0; i < states_.size(); ++i) {
    std::memcpy(states_[i].at(table_.slot(id)), waiting_states_[i].at(from), states_[i].bytes);
  }
  return {id, static_cast<int64_t>(env), sequence.start, sequence.valid_length};
}

void SequenceReplay::check_ids(std::span<const int64_t> ids) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    check_argument(table_.was_made(ids[i]), "ids[", i,
                   "]: expected an id that append() or sample() gave, got ", ids[i]);
  }
}

size_t SequenceReplay::update_priorities(std::span<const int64_t> ids,
                                         std::span<const float> td_abs,
                                         std::span<const int64_t> valid_length) {
  check_argument(options_.prioritized,
                 "update_priorities: this replay is uniform; build it with prioritized=True");
  const size_t size = ids.size();
  const size_t unroll = options_.shape.unroll;
  check_argument(valid_length.size() == size, "valid_length: expected one for each of the ", size,
                 " ids, got ", valid_length.size());
  check_argument(td_abs.size() == unroll * size, "td_abs: expected ", unroll, " for each of the ",
                 size, " ids, got ", td_abs.size());
  std::vector<double> weights(size);
  for (size_t b = 0; b < size; ++b) {
    check_argument(valid_length[b] >= 1 && valid_length[b] <= static_cast<int64_t>(unroll),
                   "valid_length[", b, "]: expected 1 <= rows <= ", unroll, ", got ",
                   valid_length[b]);
    double largest = 0.0;
    double sum = 0.0;
    for (size_t t = 0; t < static_cast<size_t>(valid_length[b]); ++t) {
      const float td = td_abs[t * size + b];
      check_argument(std::isfinite(td) && td >= 0.0f, "td_abs[", t, ", ", b,
                     "]: expected a finite |delta| >= 0, got ", td);
      largest = std::max(largest, static_cast<double>(td));
      sum += static_cast<double>(td);
    }
    const double mean = sum / static_cast<double>(valid_length[b]);
    weights[b] = weight_of(options_.eta * largest + (1.0 - options_.eta) * mean);
  }
  return set_weights(ids, weights);
}

size_t SequenceReplay::set_priorities(std::span<const int64_t> ids,
                                      std::span<const float> priorities) {
  check_argument(options_.prioritized,
                 "set_priorities: this replay is uniform; build it with prioritized=True");
  check_argument(ids.size() == priorities.size(), "priorities: expected one for each of the ",
                 ids.size(), " ids, got ", priorities.size());
  std::vector<double> weights(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    check_argument(std::isfinite(priorities[i]) && priorities[i] >= 0.0f, "priorities[", i,
                   "]: expected a finite priority >= 0, got ", priorities[i]);
    weights[i] = weight_of(static_cast<double>(priorities[i]));
  }
  return set_weights(ids, weights);
}

size_t SequenceReplay::set_weights(std::span<const int64_t> ids, std::span<const double> weights) {
  const std::lock_guard lock(mutex_);
  check_ids(ids);
  size_t dropped = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!table_.alive(ids[i])) {
      ++dropped;
      continue;
    }
    table_.set_weight(ids[i], weights[i]);
    max_weight_ = std::max(max_weight_, weights[i]);
  }
  return dropped;
}

size_t SequenceReplay::num_sequences() const {
  const std::lock_guard lock(mutex_);
  return table_.size();
}

int64_t SequenceReplay::num_rows() const {
  const std::lock_guard lock(mutex_);
  return head_ * static_cast<int64_t>(options_.num_envs);
}

int64_t SequenceReplay::num_dropped() const {
  const std::lock_guard lock(mutex_);
  return table_.dropped();
}

}  // namespace atari_fast
