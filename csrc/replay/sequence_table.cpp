#include "replay/sequence_table.h"

#include <algorithm>

#include "replay/flags.h"

namespace atari_fast {

SequenceTable::SequenceTable(const SequenceShape& shape, size_t num_envs, size_t places,
                             const SamplerOptions& draws)
    : shape_(shape),
      places_(places),
      envs_(num_envs),
      sequences_(num_envs * places),
      sampler_(draws, num_envs * places) {}

size_t SequenceTable::slot(int64_t id) const {
  return env(id) * places_ + static_cast<size_t>(number(id)) % places_;
}

int64_t SequenceTable::id_of(size_t env, int64_t number) const {
  return number * static_cast<int64_t>(envs_.size()) + static_cast<int64_t>(env);
}

void SequenceTable::arrive(const Arrival& arrival, std::vector<int64_t>& made) {
  const int64_t row = arrival.row;
  EnvSequences& env = envs_[arrival.env];
  if (env.ended || (arrival.flags & kFirst)) {
    if (!env.ended) {
      finish(arrival, row - 1, made);
    }
    env.begin = row;
    env.next_start = row;
    env.ended = false;
  }
  const auto unroll = static_cast<int64_t>(shape_.unroll);
  const auto bootstrap_steps = static_cast<int64_t>(shape_.bootstrap_steps);
  if (arrival.flags & (kTerminated | kTruncated)) {
    finish(arrival, row, made);
    env.ended = true;
  } else if (row == env.next_start + unroll + bootstrap_steps - 1) {
    make(arrival, env.next_start, unroll, bootstrap_steps, made);
    env.next_start += static_cast<int64_t>(shape_.period);
  }
}

// The environment's episode has `last` as its last row: makes what is left to be made.
void SequenceTable::finish(const Arrival& arrival, int64_t last, std::vector<int64_t>& made) {
  const EnvSequences& env = envs_[arrival.env];
  const auto unroll = static_cast<int64_t>(shape_.unroll);
  const auto bootstrap_steps = static_cast<int64_t>(shape_.bootstrap_steps);
  const auto period = static_cast<int64_t>(shape_.period);
  for (int64_t start = env.next_start; start < last; start += period) {
    if (start + unroll <= last) {
      make(arrival, start, unroll, std::min(bootstrap_steps, last + 1 - start - unroll), made);
    } else if (shape_.tail == SequenceTail::kMask) {
      make(arrival, start, last - start, 1, made);
    } else {
      break;
    }
  }
  const int64_t steps = last - env.begin;
  if (shape_.tail == SequenceTail::kMask || steps == 0) {
    return;
  }
  if (steps < unroll) {
    make(arrival, env.begin, steps, 1, made);
  } else if ((steps - unroll) % period != 0) {
    make(arrival, last - unroll, unroll, 1, made);
  }
}

void SequenceTable::make(const Arrival& arrival, int64_t start, int64_t valid_length,
                         int64_t bootstrap_length, std::vector<int64_t>& made) {
  EnvSequences& env = envs_[arrival.env];
  const Sequence sequence{env.begin, start, valid_length, bootstrap_length};
  if (sequence.oldest_frame(shape_) < arrival.readable) {
    return;
  }
  if (env.next - env.oldest == static_cast<int64_t>(places_)) {
    drop_oldest(arrival.env);
    ++dropped_;
  }
  const int64_t id = id_of(arrival.env, env.next++);
  sequences_[slot(id)] = sequence;
  sampler_.add(slot(id));
  made.push_back(id);
}

void SequenceTable::drop_oldest(size_t env) {
  sampler_.remove(slot(id_of(env, envs_[env].oldest++)));
}

void SequenceTable::expire(size_t env, int64_t readable) {
  const EnvSequences& state = envs_[env];
  while (state.oldest < state.next &&
         at(id_of(env, state.oldest)).oldest_frame(shape_) < readable) {
    drop_oldest(env);
  }
}

int64_t SequenceTable::id_at(size_t slot) const {
  const size_t env = slot / places_;
  const int64_t newest = envs_[env].next - 1;
  return id_of(env, newest - (newest - static_cast<int64_t>(slot % places_)) %
                                 static_cast<int64_t>(places_));
}

}  // namespace atari_fast
