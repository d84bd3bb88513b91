// SequenceReplay: drawing and gathering batches.
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "replay/sequence_replay.h"

namespace atari_fast {

void SequenceReplay::check_batch(const SequenceBatch& batch) const {
  const size_t size = batch.ids.size();
  const size_t rows = options_.shape.rows() * size;
  const size_t frames = options_.shape.frames() * size * options_.frame_bytes;
  check_argument(size >= 1, "batch: expected at least 1 sequence, got 0");
  check_argument(batch.frames.size() == frames && batch.actions.size() == rows &&
                     batch.prev_actions.size() == rows && batch.rewards.size() == rows &&
                     batch.flags.size() == rows && batch.burn_in.size() == size &&
                     batch.valid_length.size() == size && batch.bootstrap_length.size() == size &&
                     batch.weights.size() == size,
                 "batch: expected arrays for ", size, " sequences of ", options_.shape.rows(),
                 " rows and ", options_.shape.frames(), " frames of ", options_.frame_bytes,
                 " bytes");
  const auto check = [](const char* what, const auto& values, const auto& specs, size_t places) {
    bool ok = values.size() == specs.size();
    for (size_t i = 0; ok && i < specs.size(); ++i) {
      ok = values[i].size() == places * specs[i].bytes();
    }
    check_argument(ok, "batch: expected ", specs.size(), " ", what, " of ", places,
                   " places, in the order of their specs");
  };
  check("columns", batch.columns, options_.columns, rows);
  check("states", batch.states, options_.sequence_states(), size);
}

void SequenceReplay::sample(double beta, const SequenceBatch& batch) {
  check_batch(batch);
  check_argument(std::isfinite(beta) && beta >= 0.0, "beta: expected a finite number >= 0, got ",
                 beta);
  const std::lock_guard lock(mutex_);
  check_argument(table_.sampler().count() > 0,
                 "sample: no sequence is complete yet; append more rows first");
  const Rng after = table_.sampler().draw(beta, batch.ids, batch.weights);
  for (int64_t& id : batch.ids) {
    id = table_.id_at(static_cast<size_t>(id));  // that was its slot
  }
  pool_.run(batch.ids.size(), [&](size_t, size_t begin, size_t end) {
    for (size_t item = begin; item < end; ++item) {
      write_head(batch.ids[item], item, batch);
      write_frames(batch.ids[item], item, batch);
      write_rows(batch.ids[item], item, batch);
    }
  });
  table_.sampler().use_up(after);
}

void SequenceReplay::write_head(int64_t id, size_t item, const SequenceBatch& batch) const {
  const Sequence& sequence = table_.at(id);
  batch.burn_in[item] = sequence.start - sequence.first_row(options_.shape);
  batch.valid_length[item] = sequence.valid_length;
  batch.bootstrap_length[item] = sequence.bootstrap_length;
  for (size_t i = 0; i < states_.size(); ++i) {
    const size_t bytes = states_[i].bytes;
    std::memcpy(batch.states[i].data() + item * bytes, states_[i].at(table_.slot(id)), bytes);
  }
}

void SequenceReplay::write_frames(int64_t id, size_t item, const SequenceBatch& batch) const {
  const Sequence& sequence = table_.at(id);
  const SequenceShape& shape = options_.shape;
  const size_t bytes = options_.frame_bytes;
  const size_t stride = batch.ids.size() * bytes;
  uint8_t* const out = batch.frames.data() + item * bytes;
  const int64_t oldest = sequence.oldest_frame(shape);
  const int64_t origin =
      sequence.start - static_cast<int64_t>(shape.burn_in) - static_cast<int64_t>(shape.stack - 1);
  const auto before = static_cast<size_t>(oldest - origin);
  const auto count = static_cast<size_t>(sequence.end_row() - oldest);
  for (size_t t = 0; t < before; ++t) {
    std::memset(out + t * stride, 0, bytes);
  }
  frames_.read(table_.env(id), oldest, count, out + before * stride, stride);
  for (size_t t = before + count; t < shape.frames(); ++t) {
    std::memset(out + t * stride, 0, bytes);
  }
}

void SequenceReplay::write_rows(int64_t id, size_t item, const SequenceBatch& batch) const {
  const Sequence& sequence = table_.at(id);
  const SequenceShape& shape = options_.shape;
  const size_t env = table_.env(id);
  const int64_t origin = sequence.start - static_cast<int64_t>(shape.burn_in);
  const int64_t first = sequence.first_row(shape);
  const int64_t end = sequence.end_row();
  for (size_t t = 0; t < shape.rows(); ++t) {
    const int64_t row = origin + static_cast<int64_t>(t);
    const size_t to = t * batch.ids.size() + item;
    const bool exists = row >= first && row < end;
    const size_t at = exists ? rows_.place(env, row) : 0;
    batch.actions[to] = exists ? rows_.action(at) : 0;
    batch.prev_actions[to] =
        exists && row > sequence.begin ? int64_t{rows_.action(rows_.place(env, row - 1))} : -1;
    batch.rewards[to] = exists ? rows_.reward(at) : 0.0f;
    batch.flags[to] = exists ? rows_.flags(at) : uint8_t{0};
    for (size_t i = 0; i < columns_.size(); ++i) {
      const size_t bytes = columns_[i].bytes;
      std::byte* const out = batch.columns[i].data() + to * bytes;
      if (exists) {
        std::memcpy(out, columns_[i].at(at), bytes);
      } else {
        std::memset(out, 0, bytes);
      }
    }
  }
}

}  // namespace atari_fast
