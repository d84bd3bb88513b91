#include "structures/frame_store.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "kernels/sparse.h"

namespace atari_fast {
namespace {

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

size_t run_bytes(const FrameStoreOptions& o) { return 8 * (o.frame_bytes + 1); }

/// Twice a run of frames that no code makes shorter, so that at most half of a chunk stays unused.
size_t chunk_bytes(const FrameStoreOptions& o) {
  return std::max<size_t>(round_up(2 * run_bytes(o), 4096), size_t{1} << 14);
}

/// Chunks that an environment has at most: four at least, so that the chunk that goes is never one
/// that the newest run or its key frame lies in.
size_t chunk_slots(const FrameStoreOptions& o) {
  const size_t chunk = chunk_bytes(o);
  const size_t worst = o.rows * (o.frame_bytes + 1) / (chunk - run_bytes(o)) + 6;
  return o.memory_limit == 0
             ? worst
             : std::min(worst, std::max<size_t>(4, o.memory_limit / o.num_envs / chunk));
}

size_t run_slots(const FrameStoreOptions& o) { return o.rows / 8 + 20; }

/// XORs every row of pixels with the row above it, the last row first.
void to_differences(uint8_t* frame, size_t bytes, size_t row_bytes) {
  for (size_t row = bytes; row > row_bytes; row -= row_bytes) {
    uint8_t* const here = frame + row - row_bytes;
    for (size_t i = 0; i < row_bytes; ++i) {
      here[i] = static_cast<uint8_t>(here[i] ^ (here - row_bytes)[i]);
    }
  }
}

/// The inverse of `to_differences`.
void from_differences(uint8_t* frame, size_t bytes, size_t row_bytes) {
  for (size_t row = row_bytes; row < bytes; row += row_bytes) {
    uint8_t* __restrict const here = frame + row;
    const uint8_t* __restrict const above = frame + row - row_bytes;
    for (size_t i = 0; i < row_bytes; ++i) {
      here[i] = static_cast<uint8_t>(here[i] ^ above[i]);
    }
  }
}

}  // namespace

const FrameStoreOptions& FrameStore::checked(const FrameStoreOptions& o) {
  constexpr size_t kMost = size_t{1} << 48;
  check_argument(o.num_envs >= 1 && o.rows >= 1 && o.frame_bytes >= 1,
                 "frame store: expected at least one environment, row and byte, got ", o.num_envs,
                 ", ", o.rows, " and ", o.frame_bytes);
  // An environment takes less than 2^7 times what its frames do uncompressed, and 2^17: none wraps
  // around.
  const bool fits = o.frame_bytes <= kMost && o.rows <= kMost / o.frame_bytes;
  check_argument(fits && o.num_envs <= kMost / bytes_per_env(o), "frame store: expected at most ",
                 kMost, " bytes, got ", o.num_envs, " environments of ", o.rows, " frames of ",
                 o.frame_bytes, " bytes");
  check_argument(o.row_bytes >= 1 && o.frame_bytes % o.row_bytes == 0,
                 "row_bytes: expected a divisor of ", o.frame_bytes, ", got ", o.row_bytes);
  return o;
}

FrameStore::FrameStore(const FrameStoreOptions& options)
    : options_(checked(options)),
      padded_(sparse_padded(options.frame_bytes)),
      chunk_bytes_(chunk_bytes(options)),
      run_slots_(run_slots(options)),
      chunk_slots_(chunk_slots(options)),
      envs_(options.num_envs) {
  for (EnvFrames& env : envs_) {
    env.runs.resize(run_slots_);
    env.chunks.resize(chunk_slots_);
    env.newest.resize(padded_);
    env.key.resize(padded_);
  }
  // All there can be: giving one back cannot throw.
  spare_.reserve(options.num_envs * chunk_slots_);
}

size_t FrameStore::memory_bytes(const FrameStoreOptions& options) {
  return options.num_envs * bytes_per_env(checked(options));
}

size_t FrameStore::bytes_per_env(const FrameStoreOptions& o) {
  const size_t chunks = chunk_slots(o) * (chunk_bytes(o) + kSparseSlack + 2 * sizeof(Chunk));
  return chunks + run_slots(o) * sizeof(Run) + 2 * sparse_padded(o.frame_bytes);
}

// Just after its oldest chunk went, an environment holds what all but one chunk do, and the newest
// frame.
void FrameStore::check_holds(const FrameStoreOptions& o, size_t rows) {
  const size_t chunk = chunk_bytes(checked(o));
  const size_t rows_of_chunk = chunk / run_bytes(o) * 8;
  const size_t chunks = (rows + rows_of_chunk - 2) / rows_of_chunk + 1;
  check_argument(chunks <= chunk_slots(o), "frame_memory: expected 0 or at least ",
                 o.num_envs * chunks * chunk, " bytes, so that each of the ", o.num_envs,
                 " environments can hold ", rows,
                 " frames, as many as one draw needs, even where nothing compresses them, got ",
                 o.memory_limit);
}

size_t FrameStore::bytes_used() const {
  size_t chunks = spare_.size();
  for (const EnvFrames& env : envs_) {
    chunks += env.next_chunk - env.first_chunk;
  }
  return chunks * (chunk_bytes_ + kSparseSlack) +
         options_.num_envs *
             (run_slots_ * sizeof(Run) + 2 * chunk_slots_ * sizeof(Chunk) + 2 * padded_);
}

FrameStore::Scratch& FrameStore::scratch(size_t padded) {
  thread_local Scratch memory;
  if (memory.frame.size() < padded) {
    memory.key.resize(padded);
    memory.code.resize(sparse_bound(padded) + 1);
    memory.other_code.resize(sparse_bound(padded) + 1);
    memory.zeros.resize(padded);
    memory.frame.resize(padded);  // the last: it says that all have this size
  }
  return memory;
}

uint8_t* FrameStore::bytes_at(const EnvFrames& env, uint64_t address) const {
  return env.chunks[address / chunk_bytes_ % chunk_slots_].get() + address % chunk_bytes_;
}

std::vector<int64_t> FrameStore::next_rows() const {
  std::vector<int64_t> rows(envs_.size());
  std::transform(envs_.begin(), envs_.end(), rows.begin(),
                 [](const EnvFrames& env) { return env.next_row; });
  return rows;
}

std::vector<int64_t> FrameStore::first_rows() const {
  std::vector<int64_t> rows(envs_.size());
  std::transform(envs_.begin(), envs_.end(), rows.begin(),
                 [](const EnvFrames& env) { return env.first_row; });
  return rows;
}

// A chunk for each environment whose newest one the worst frame would not fit into, unless the
// environment then gives one back.
void FrameStore::reserve(std::span<const int64_t> envs) {
  scratch(padded_);
  const auto wanted = std::count_if(envs.begin(), envs.end(), [this](int64_t index) {
    const EnvFrames& env = envs_[static_cast<size_t>(index)];
    const bool fits = env.next_chunk > 0 && env.used + options_.frame_bytes + 1 <= chunk_bytes_;
    return !fits && env.next_chunk - env.first_chunk < chunk_slots_;
  });
  while (spare_.size() < static_cast<size_t>(wanted)) {
    spare_.push_back(std::make_unique<uint8_t[]>(chunk_bytes_ + kSparseSlack));
  }
}

void FrameStore::append(size_t env_index, const uint8_t* frame) {
  EnvFrames& env = envs_[env_index];
  reserve(std::array{static_cast<int64_t>(env_index)});  // from here on nothing throws
  Scratch& memory = scratch(padded_);
  std::memcpy(memory.frame.data(), frame, options_.frame_bytes);
  std::memset(memory.frame.data() + options_.frame_bytes, 0, padded_ - options_.frame_bytes);
  const bool anchor = env.next_row % kRun == 0;
  if (anchor) {
    env.runs[run_slot(env.next_row / kRun)] = {};
  }
  size_t bytes =
      anchor ? encode_anchor(env, memory.frame, memory) : encode(env, memory.frame, memory);
  if (bytes > options_.frame_bytes) {
    memory.code[0] = kRaw;
    std::memcpy(memory.code.data() + 1, frame, options_.frame_bytes);
    bytes = options_.frame_bytes + 1;
  }
  std::memcpy(room(env, bytes), memory.code.data(), bytes);
  if (memory.code[0] == kKey || (anchor && memory.code[0] == kRaw)) {
    env.key_run = env.next_row / kRun;
    env.runs[run_slot(env.key_run)].key = 0;
    std::memcpy(env.key.data(), memory.frame.data(), padded_);
  }
  std::memcpy(env.newest.data(), memory.frame.data(), padded_);
  ++env.next_row;
  env.first_row = std::max(env.first_row, env.next_row - static_cast<int64_t>(options_.rows));
  release_chunks(env);
}

// Writes the code of a frame that begins no run into `memory.code`; returns its length.
size_t FrameStore::encode(const EnvFrames& env, const AlignedVector<uint8_t>& frame,
                          Scratch& memory) const {
  if (std::memcmp(frame.data(), env.newest.data(), padded_) == 0) {
    memory.code[0] = kSame;
    return 1;
  }
  memory.code[0] = kDelta;
  return 1 + sparse_encode(frame.data(), env.newest.data(), padded_, memory.code.data() + 1);
}

// The same for the first frame of a run: by its key frame if there is one near, else as a key
// frame, and as the shorter of both where the difference to the key has grown.
size_t FrameStore::encode_anchor(EnvFrames& env, const AlignedVector<uint8_t>& frame,
                                 Scratch& memory) {
  const int64_t run = env.next_row / kRun;
  const bool has_key = run > 0 && run - env.key_run < kRunsOfAKey &&
                       run_at(env, env.key_run).address / chunk_bytes_ + 1 >= env.next_chunk - 1;
  if (!has_key) {
    return encode_key(frame, memory);
  }
  memory.code[0] = kAnchor;
  const size_t bytes =
      1 + sparse_encode(frame.data(), env.key.data(), padded_, memory.code.data() + 1);
  env.runs[run_slot(run)].key = static_cast<uint64_t>(run - env.key_run);
  if (bytes > options_.frame_bytes / 16) {
    std::swap(memory.code, memory.other_code);
    const size_t key_bytes = encode_key(frame, memory);
    if (key_bytes < bytes) {
      return key_bytes;
    }
    std::swap(memory.code, memory.other_code);
  }
  return bytes;
}

size_t FrameStore::encode_key(const AlignedVector<uint8_t>& frame, Scratch& memory) const {
  std::memcpy(memory.key.data(), frame.data(), padded_);
  to_differences(memory.key.data(), options_.frame_bytes, options_.row_bytes);
  memory.code[0] = kKey;
  return 1 + sparse_encode(memory.key.data(), memory.zeros.data(), padded_, memory.code.data() + 1);
}

// Where the code of the newest row goes. A run never crosses chunks: where it would, what there is
// of it moves to the next chunk.
uint8_t* FrameStore::room(EnvFrames& env, size_t bytes) {
  Run& run = env.runs[run_slot(env.next_row / kRun)];
  const bool begins = env.next_row % kRun == 0;
  if (env.next_chunk == 0 || env.used + bytes > chunk_bytes_) {
    const uint64_t old_address = run.address;
    const size_t moved = begins ? 0 : env.used - old_address % chunk_bytes_;
    add_chunk(env);
    run.address = (env.next_chunk - 1) * chunk_bytes_;
    if (moved > 0) {
      std::memcpy(bytes_at(env, run.address), bytes_at(env, old_address), moved);
    }
    env.used = moved;
  } else if (begins) {
    run.address = (env.next_chunk - 1) * chunk_bytes_ + env.used;
  }
  uint8_t* const place = bytes_at(env, (env.next_chunk - 1) * chunk_bytes_) + env.used;
  env.used += bytes;
  return place;
}

void FrameStore::add_chunk(EnvFrames& env) {
  if (env.next_chunk - env.first_chunk == chunk_slots_) {
    drop_oldest_chunk(env);
  }
  Chunk& chunk = env.chunks[env.next_chunk % chunk_slots_];
  chunk = std::move(spare_.back());
  spare_.pop_back();
  std::memset(chunk.get(), 0, chunk_bytes_);  // so that snapshots depend on what was appended alone
  ++env.next_chunk;
}

// Every run that lies in the oldest chunk, or whose key frame does, can be read no more.
void FrameStore::drop_oldest_chunk(EnvFrames& env) {
  const uint64_t chunk = env.first_chunk;
  const auto gone = [&](int64_t run) {
    const Run& at = run_at(env, run);
    return run_at(env, run - static_cast<int64_t>(at.key)).address / chunk_bytes_ <= chunk;
  };
  int64_t run = env.first_row / kRun;
  while (run < env.next_row / kRun && gone(run)) {
    ++run;
  }
  env.first_row = std::max(env.first_row, run * kRun);
  release_chunks(env);
}

// Gives back the chunks before the one with the key frame of the oldest row that can be read.
void FrameStore::release_chunks(EnvFrames& env) {
  const int64_t run = env.first_row / kRun;
  const int64_t key = run - static_cast<int64_t>(run_at(env, run).key);
  const uint64_t needed = run_at(env, key).address / chunk_bytes_;
  for (; env.first_chunk < needed; ++env.first_chunk) {
    spare_.push_back(std::move(env.chunks[env.first_chunk % chunk_slots_]));
  }
}

// Brings `frame`, which holds the frame before, to the frame of a code; returns the code's end.
const uint8_t* FrameStore::decode(const uint8_t* code, uint8_t* frame, const uint8_t* key) const {
  switch (static_cast<Kind>(*code++)) {
    case kSame:
      return code;
    case kDelta:
      return sparse_apply(code, frame, padded_);
    case kAnchor:
      std::memcpy(frame, key, padded_);
      return sparse_apply(code, frame, padded_);
    case kKey:
      std::memset(frame, 0, padded_);
      code = sparse_apply(code, frame, padded_);
      from_differences(frame, options_.frame_bytes, options_.row_bytes);
      return code;
    case kRaw:
      std::memcpy(frame, code, options_.frame_bytes);
      std::memset(frame + options_.frame_bytes, 0, padded_ - options_.frame_bytes);
      return code + options_.frame_bytes;
  }
  return code;
}

// Decodes the first frame of a run into memory.frame, and its key frame into memory.key unless that
// is there already; returns the code that follows.
const uint8_t* FrameStore::start_run(const EnvFrames& env, int64_t run, int64_t& key_run,
                                     Scratch& memory) const {
  const Run& at = run_at(env, run);
  const int64_t key = run - static_cast<int64_t>(at.key);
  const uint8_t* after = nullptr;
  if (key != key_run) {
    after = decode(bytes_at(env, run_at(env, key).address), memory.key.data(), memory.key.data());
    key_run = key;
  }
  if (key != run) {
    return decode(bytes_at(env, at.address), memory.frame.data(), memory.key.data());
  }
  std::memcpy(memory.frame.data(), memory.key.data(), padded_);
  return after;
}

void FrameStore::prefetch_codes(size_t env_index, int64_t row) const {
  const EnvFrames& env = envs_[env_index];
  const Run& run = run_at(env, row / kRun);
  const Run& key = run_at(env, row / kRun - static_cast<int64_t>(run.key));
  for (const Run* at : {&key, &run}) {
    const uint8_t* const code = bytes_at(env, at->address);
    for (size_t line = 0; line < 8; ++line) {
      __builtin_prefetch(code + line * kCacheLine);
    }
  }
}

// Whether the code behind the raw frame at `raw` changes that frame.
bool FrameStore::changes_frame_before(const uint8_t* raw) const {
  const auto next = static_cast<Kind>(raw[1 + options_.frame_bytes]);
  return next == kSame || next == kDelta;
}

void FrameStore::read(size_t env_index, int64_t row, size_t count, uint8_t* out,
                      size_t stride) const {
  const EnvFrames& env = envs_[env_index];
  Scratch& memory = scratch(padded_);
  int64_t key_run = -1;
  const uint8_t* code = nullptr;
  const int64_t end = row + static_cast<int64_t>(count);
  for (int64_t r = row - row % kRun; r < end; ++r) {
    const uint8_t* frame = memory.frame.data();
    if (r % kRun == 0) {
      code = start_run(env, r / kRun, key_run, memory);
    } else if (*code == kRaw &&
               (r + 1 == end || (r + 1) % kRun == 0 || !changes_frame_before(code))) {
      frame = code + 1;  // no other frame that is read is made from it: it is copied once at most
      code += 1 + options_.frame_bytes;
    } else {
      code = decode(code, memory.frame.data(), memory.key.data());
    }
    if (r >= row) {
      std::memcpy(out, frame, options_.frame_bytes);
      out += stride;
    }
  }
}

}  // namespace atari_fast
