// Saving and loading of the frame store: codes travel as they lie in memory.
#include <algorithm>

#include "base/error.h"
#include "kernels/sparse.h"
#include "structures/frame_store.h"

namespace atari_fast {
namespace {

constexpr uint64_t kPartBytes = uint64_t{1} << 21;  // about as many in a part of a snapshot

}  // namespace

// The run of the oldest key frame that is still needed.
int64_t FrameStore::oldest_key(const EnvFrames& env) const {
  const int64_t run = env.first_row / kRun;
  return run - static_cast<int64_t>(run_at(env, run).key);
}

void FrameStore::save(SnapshotWriter& writer) const {
  for (const size_t number :
       {options_.num_envs, options_.rows, options_.frame_bytes, options_.row_bytes, chunk_slots_}) {
    writer.value(static_cast<uint64_t>(number));
  }
  for (const EnvFrames& env : envs_) {
    writer.value(env.next_row);
    writer.value(env.first_row);
    if (env.next_row == 0) {
      continue;
    }
    writer.value(env.first_chunk);
    writer.value(env.next_chunk);
    writer.value(static_cast<uint64_t>(env.used));
    writer.value(env.key_run);
    writer.value(oldest_key(env));
    for (int64_t run = oldest_key(env); run <= (env.next_row - 1) / kRun; ++run) {
      writer.value(run_at(env, run));
    }
    save_chunks(env, writer);
  }
}

// Only the newest chunk still changes. Of the others as many as make a part, counted from the first
// one ever, go together, so that the next snapshot has the same parts.
void FrameStore::save_chunks(const EnvFrames& env, SnapshotWriter& writer) const {
  const uint64_t of_a_part = std::max<uint64_t>(1, kPartBytes / chunk_bytes_);
  const uint64_t newest = env.next_chunk - 1;
  const auto full = [&](uint64_t chunk) {
    return std::span<const uint8_t>(env.chunks[chunk % chunk_slots_].get(), chunk_bytes_);
  };
  uint64_t chunk = env.first_chunk;
  while (chunk < newest) {
    std::vector<std::span<const uint8_t>> pieces;
    const uint64_t part = chunk / of_a_part;
    const bool whole =
        chunk % of_a_part == 0 && (part + 1) * of_a_part <= newest && chunk_bytes_ <= kPartBytes;
    for (; chunk < newest && chunk / of_a_part == part; ++chunk) {
      pieces.push_back(full(chunk));
    }
    if (whole) {
      // The format calls an environment a lane.
      writer.part(str_cat("lane", &env - envs_.data(), "-", part), pieces);
    } else {
      for (const std::span<const uint8_t> piece : pieces) {
        writer.write(piece);
      }
    }
  }
  writer.write(full(newest).first(env.used));
}

void FrameStore::load(SnapshotReader& reader) {
  for (const size_t number :
       {options_.num_envs, options_.rows, options_.frame_bytes, options_.row_bytes, chunk_slots_}) {
    reader.check(reader.value<uint64_t>() == number,
                 "its frames have another shape, number or memory limit than this replay's");
  }
  FrameStore loaded(options_);
  for (EnvFrames& env : loaded.envs_) {
    loaded.load_env(env, reader);
  }
  *this = std::move(loaded);
}

void FrameStore::load_env(EnvFrames& env, SnapshotReader& reader) {
  const auto check = [&](bool ok) {
    reader.check(ok, "the frames of an environment do not fit together");
  };
  env.next_row = reader.value<int64_t>();
  env.first_row = reader.value<int64_t>();
  check(env.next_row >= 0 &&
        env.next_row < (int64_t{1} << 56) / static_cast<int64_t>(options_.num_envs));
  if (env.next_row == 0) {
    check(env.first_row == 0);
    return;
  }
  check(env.first_row >= 0 && env.first_row < env.next_row &&
        env.next_row - env.first_row <= static_cast<int64_t>(options_.rows));
  env.first_chunk = reader.value<uint64_t>();
  env.next_chunk = reader.value<uint64_t>();
  env.used = reader.value<uint64_t>();
  check(env.first_chunk < env.next_chunk && env.next_chunk < (uint64_t{1} << 60) / chunk_bytes_ &&
        env.next_chunk - env.first_chunk <= chunk_slots_ && env.used <= chunk_bytes_);
  env.key_run = reader.value<int64_t>();
  const auto first_run = reader.value<int64_t>();
  const int64_t last_run = (env.next_row - 1) / kRun;
  check(first_run >= 0 && first_run <= env.first_row / kRun &&
        env.first_row / kRun - first_run < kRunsOfAKey && env.key_run >= first_run &&
        env.key_run <= last_run);
  for (int64_t run = first_run; run <= last_run; ++run) {
    Run& at = env.runs[run_slot(run)];
    at = reader.value<Run>();
    check(at.key < static_cast<uint64_t>(kRunsOfAKey) &&
          static_cast<int64_t>(at.key) <= run - first_run &&
          at.address / chunk_bytes_ >= env.first_chunk &&
          at.address / chunk_bytes_ < env.next_chunk);
  }
  check(oldest_key(env) == first_run && run_at(env, env.key_run).key == 0);
  for (uint64_t chunk = env.first_chunk; chunk < env.next_chunk; ++chunk) {
    Chunk& bytes = env.chunks[chunk % chunk_slots_];
    bytes = std::make_unique<uint8_t[]>(chunk_bytes_ + kSparseSlack);
    reader.read({bytes.get(), chunk + 1 == env.next_chunk ? env.used : chunk_bytes_});
  }
  // Runs lie one behind the other, keys never go back and are near, and the newest run is the end.
  uint64_t end = 0;
  int64_t newest_key = first_run;
  for (int64_t run = first_run; run <= last_run; ++run) {
    const Run& at = run_at(env, run);
    const int64_t key = run - static_cast<int64_t>(at.key);
    check(at.address >= end && (key == run || key == newest_key) &&
          run_at(env, key).address / chunk_bytes_ + 2 >= at.address / chunk_bytes_);
    newest_key = key;
    end = check_run(env, run, reader);
  }
  check(newest_key == env.key_run &&
        run_at(env, last_run).address / chunk_bytes_ + 1 == env.next_chunk &&
        end == (env.next_chunk - 1) * chunk_bytes_ + env.used);
  Scratch& memory = scratch(padded_);
  int64_t key_run = -1;
  start_run(env, env.key_run, key_run, memory);
  env.key.assign(memory.key.begin(), memory.key.begin() + static_cast<ptrdiff_t>(padded_));
  env.newest.assign(padded_, 0);
  const auto index = static_cast<size_t>(&env - envs_.data());
  read(index, env.next_row - 1, 1, env.newest.data(), padded_);
}

// Goes through the codes of a run, each of which must be of a kind that may stand there and end in
// its chunk; returns the address of the end.
uint64_t FrameStore::check_run(const EnvFrames& env, int64_t run,
                               const SnapshotReader& reader) const {
  const Run& at = run_at(env, run);
  const bool last_chunk = at.address / chunk_bytes_ + 1 == env.next_chunk;
  const size_t place = at.address % chunk_bytes_;
  const size_t end = last_chunk ? env.used : chunk_bytes_;
  size_t left = end - std::min(end, place);
  const uint8_t* code = bytes_at(env, at.address);
  const int64_t rows = std::min(kRun, env.next_row - run * kRun);
  for (int64_t row = 0; row < rows; ++row) {
    reader.check(left > 0, "a frame is cut short");
    const uint8_t kind = code[0];
    const bool key = kind == kKey || kind == kRaw;
    const bool fits =
        row > 0      ? kind == kSame || kind == kDelta || kind == kRaw
        : at.key > 0 ? kind == kAnchor && run_at(env, run - static_cast<int64_t>(at.key)).key == 0
                     : key;
    reader.check(fits, "a frame is of a kind that cannot stand there");
    size_t bytes = 0;
    if (kind == kRaw) {
      bytes = options_.frame_bytes;
    } else if (kind != kSame) {
      bytes = sparse_length(code + 1, left - 1, padded_);
      reader.check(bytes > 0, "a frame is damaged");
    }
    reader.check(bytes < left, "a frame is cut short");
    code += 1 + bytes;
    left -= 1 + bytes;
  }
  return at.address + (end - place - left);
}

}  // namespace atari_fast
