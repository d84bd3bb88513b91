#include "replay/sequence_replay.h"

#include <cstring>

#include "base/error.h"

namespace atari_fast {

SequenceReplay::SequenceReplay(const SequenceReplayOptions& options)
    : options_(checked_options(options)),
      waiting_(options.shape.rows()),
      frames_(frame_options(options, options.shape.frames())),
      rows_(options.num_envs, options.rows_per_env() + 1),
      table_(options.shape, options.num_envs, options.sequences_per_env(), options.draws),
      pool_(options.threads) {
  const auto make = [](const std::vector<VectorSpec>& specs, size_t places) {
    std::vector<Values> values;
    values.reserve(specs.size());
    for (const VectorSpec& spec : specs) {
      values.push_back({spec.bytes(), std::vector<std::byte>(places * spec.bytes())});
    }
    return values;
  };
  columns_ = make(options.columns, options.num_envs * (options.rows_per_env() + 1));
  waiting_states_ = make(options.states, options.num_envs * waiting_);
  states_ = make(options.sequence_states(), options.num_envs * options.sequences_per_env());
}

size_t SequenceReplay::memory_bytes(const SequenceReplayOptions& options) {
  const SequenceReplayOptions& o = checked_options(options);
  return fixed_bytes(o) + FrameStore::memory_bytes(frame_options(o, o.shape.frames()));
}

size_t SequenceReplay::bytes_used() const {
  const std::lock_guard lock(mutex_);
  return fixed_bytes(options_) + frames_.bytes_used();
}

// Everything but the frames.
size_t SequenceReplay::fixed_bytes(const SequenceReplayOptions& o) {
  size_t row = 0;
  for (const VectorSpec& spec : o.columns) {
    row += spec.bytes();
  }
  size_t state = 0;
  for (const VectorSpec& spec : o.states) {
    state += spec.bytes();
  }
  const size_t sequences = o.num_envs * o.sequences_per_env();
  const size_t kept = sequences * (o.unroll_states ? 2 : 1);
  return RowRing::memory_bytes(o.num_envs, o.rows_per_env() + 1) +
         o.num_envs * (o.rows_per_env() + 1) * row + (kept + o.num_envs * o.shape.rows()) * state +
         sequences * sizeof(Sequence) + PrioritizedSampler::memory_bytes(o.draws, sequences);
}

size_t SequenceReplay::waiting_slot(size_t env, int64_t row) const {
  return env * waiting_ + static_cast<size_t>(row) % waiting_;
}

void SequenceReplay::check_rows(const SequenceRows& rows, size_t n) const {
  check_argument(rows.frames.size() == n * options_.frame_bytes, "frames: expected ",
                 n * options_.frame_bytes, " bytes, got ", rows.frames.size());
  rows_.check(n, rows.actions, rows.rewards, rows.flags);
  const auto check = [&](const char* what, const auto& values, const auto& specs) {
    check_argument(values.size() == specs.size(), what, ": expected ", specs.size(), ", got ",
                   values.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      check_argument(values[i].size() == n * specs[i].bytes(), what, "[", i, "] (", specs[i].name,
                     "): expected ", n * specs[i].bytes(), " bytes, got ", values[i].size());
    }
  };
  check("columns", rows.columns, options_.columns);
  check("states", rows.states, options_.states);
}

std::vector<NewSequence> SequenceReplay::append(const SequenceRows& rows) {
  const std::lock_guard lock(mutex_);
  const std::span<const int64_t> envs = rows_.checked_envs(rows.envs);
  check_rows(rows, envs.size());
  std::vector<int64_t> ids;
  std::vector<NewSequence> made;
  frames_.reserve(envs);
  ids.reserve(table_.most_made());
  made.reserve(envs.size() * table_.most_made());  // from here on nothing throws
  for (size_t i = 0; i < envs.size(); ++i) {
    const auto env = static_cast<size_t>(envs[i]);
    store_row(rows, i, env);
    const int64_t readable = frames_.first_row(env);
    table_.expire(env, readable);
    ids.clear();
    table_.arrive({env, rows_.head(env), rows.flags[i], readable}, ids);
    for (const int64_t id : ids) {
      if (table_.alive(id)) {  // not one whose place a later one of this row took
        made.push_back(keep_states(id));
      }
    }
    store_waiting_states(rows, i, env);
    rows_.advance(env);
  }
  table_.sampler().apply();
  return made;
}

// Row `i` of the arrays is the environment's next one.
void SequenceReplay::store_row(const SequenceRows& rows, size_t i, size_t env) {
  const size_t at = rows_.place(env, rows_.head(env));
  frames_.append(env, rows.frames.data() + i * options_.frame_bytes);
  rows_.store(env, rows.actions[i], rows.rewards[i], rows.flags[i]);
  for (size_t c = 0; c < columns_.size(); ++c) {
    const size_t bytes = columns_[c].bytes;
    std::memcpy(columns_[c].at(at), rows.columns[c].data() + i * bytes, bytes);
  }
}

void SequenceReplay::store_waiting_states(const SequenceRows& rows, size_t i, size_t env) {
  const size_t at = waiting_slot(env, rows_.head(env));
  const bool begins = table_.episode_begin(env) == rows_.head(env);
  for (size_t s = 0; s < waiting_states_.size(); ++s) {
    const size_t bytes = waiting_states_[s].bytes;
    if (begins) {
      std::memset(waiting_states_[s].at(at), 0, bytes);
    } else {
      std::memcpy(waiting_states_[s].at(at), rows.states[s].data() + i * bytes, bytes);
    }
  }
}

// The new sequence's states stop to wait.
NewSequence SequenceReplay::keep_states(int64_t id) {
  const size_t env = table_.env(id);
  const Sequence& sequence = table_.at(id);
  const size_t specs = waiting_states_.size();
  for (size_t i = 0; i < states_.size(); ++i) {
    const int64_t row = i < specs ? sequence.first_row(options_.shape) : sequence.start;
    std::memcpy(states_[i].at(table_.slot(id)),
                waiting_states_[i % specs].at(waiting_slot(env, row)), states_[i].bytes);
  }
  return {id, static_cast<int64_t>(env), sequence.start, sequence.valid_length,
          sequence.bootstrap_length};
}

size_t SequenceReplay::set_priorities(std::span<const int64_t> ids,
                                      std::span<const float> priorities) {
  const std::lock_guard lock(mutex_);
  table_.sampler().check_priorities("set_priorities", ids.size(), priorities);
  for (size_t i = 0; i < ids.size(); ++i) {
    check_argument(table_.was_made(ids[i]), "ids[", i,
                   "]: expected an id that append() or sample() gave, got ", ids[i]);
  }
  return table_.sampler().set_priorities(ids, priorities, [this](int64_t id) {
    return table_.alive(id) ? static_cast<int64_t>(table_.slot(id)) : -1;
  });
}

size_t SequenceReplay::num_sequences() const {
  const std::lock_guard lock(mutex_);
  return table_.sampler().count();
}

int64_t SequenceReplay::num_rows() const {
  const std::lock_guard lock(mutex_);
  return rows_.num_rows();
}

int64_t SequenceReplay::num_dropped() const {
  const std::lock_guard lock(mutex_);
  return table_.dropped();
}

}  // namespace atari_fast
