// Frames of E environments in memory, compressed without loss: no frame is stored twice, stacks are
// rebuilt on reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/snapshot.h"

namespace atari_fast {

/// What a FrameStore is made for; its constructor checks it.
struct FrameStoreOptions {
  size_t num_envs = 1;      ///< E
  size_t rows = 1;          ///< frames kept in each environment, at most
  size_t frame_bytes = 1;   ///< bytes of one frame
  size_t row_bytes = 1;     ///< bytes of one row of pixels, the frame's width
  size_t memory_limit = 0;  ///< bytes of codes over all environments; 0: as many as the worst
                            ///< frames take. An environment whose share is full drops its oldest
                            ///< frames early; its share is four chunks at least (450 KB for frames
                            ///< of 84x84)
};

/// Frames by environment and row number; an environment's rows are numbered from 0 as they are
/// appended.
///
/// Most of a frame is what the frame before it was. Rows are coded in runs of 8: a run's first
/// frame (its anchor) by its difference to a key frame, the others by their difference to the frame
/// before. A key frame is coded by the difference of each row of pixels to the row above; there is
/// one every 16 runs, wherever that is shorter, and where the last one is not in the same or the
/// preceding chunk of memory. A frame that no code makes shorter is kept as
/// it is. So reading one costs a key, an anchor and at most 7 differences.
///
/// Codes lie in chunks of memory that an environment takes as it fills and gives back as its rows
/// expire. Owns its memory. Not thread-safe, but any number of threads may read while none appends.
class FrameStore {
 public:
  /// Throws std::invalid_argument for options out of range or for more than 2^48 bytes.
  explicit FrameStore(const FrameStoreOptions& options);

  /// Takes the memory that the next frame of each of these environments, int64[n], may need, so
  /// that appending one to each, on this thread, cannot throw.
  void reserve(std::span<const int64_t> envs);

  /// Appends a frame of `frame_bytes` bytes to the environment. May drop any number of its oldest
  /// rows. Throws std::bad_alloc when memory is short; the store is then as it was.
  void append(size_t env, const uint8_t* frame);

  /// Number of rows that were appended to the environment so far.
  int64_t next_row(size_t env) const { return envs_[env].next_row; }

  /// The same for every environment.
  std::vector<int64_t> next_rows() const;

  /// The oldest row of the environment that can still be read.
  int64_t first_row(size_t env) const { return envs_[env].first_row; }

  /// The same for every environment.
  std::vector<int64_t> first_rows() const;

  /// Fetches what `read` looks up first, for a row that will be read later.
  void prefetch_index(size_t env, int64_t row) const {
    __builtin_prefetch(&envs_[env].runs[run_slot(row / kRun)]);
  }

  /// Fetches the beginnings of the codes that `read` will need soon.
  void prefetch_codes(size_t env, int64_t row) const;

  /// Writes the frames of rows [row, row + count), all of which can be read, to out, out + stride,
  /// out + 2 * stride and so on. O(count * frame_bytes).
  void read(size_t env, int64_t row, size_t count, uint8_t* out, size_t stride) const;

  /// Bytes taken now: codes, indexes, and working memory.
  size_t bytes_used() const;

  /// The most bytes that a store with these options ever takes. Throws as the constructor does.
  static size_t memory_bytes(const FrameStoreOptions& options);

  /// Throws std::invalid_argument unless an environment's share of the memory limit holds `rows`
  /// frames at all times, once they have arrived, where no code makes frames shorter. `rows` is 1
  /// or more.
  static void check_holds(const FrameStoreOptions& options, size_t rows);

  /// Appends the state to a snapshot.
  void save(SnapshotWriter& writer) const;
  /// Takes the state of a store with the same options out of a snapshot. Throws SnapshotError for
  /// anything that no store could have written; the store is then as it was.
  void load(SnapshotReader& reader);

 private:
  static constexpr int64_t kRun = 8;          // rows of a run
  static constexpr int64_t kRunsOfAKey = 16;  // runs that share a key frame, at most

  /// The first byte of every frame's code.
  enum Kind : uint8_t {
    kSame,    // as the frame before
    kDelta,   // the difference to the frame before
    kAnchor,  // the difference to the key frame
    kKey,     // the difference of each row of pixels to the row above
    kRaw,     // the frame itself
  };

  using Chunk = std::unique_ptr<uint8_t[]>;

  struct Run {
    uint64_t address = 0;  // number of its chunk * chunk_bytes_ + place in it
    uint64_t key = 0;      // how many runs back its key frame is
  };

  struct EnvFrames {
    int64_t next_row = 0;
    int64_t first_row = 0;
    std::vector<Run> runs;      // a ring
    std::vector<Chunk> chunks;  // a ring; those in [first_chunk, next_chunk) are there
    uint64_t first_chunk = 0;
    uint64_t next_chunk = 0;
    size_t used = 0;                // bytes of the newest chunk
    int64_t key_run = 0;            // the run whose anchor is the newest key
    AlignedVector<uint8_t> newest;  // the newest frame, padded
    AlignedVector<uint8_t> key;     // the newest key frame, padded
  };

  /// Memory of one thread that reads or appends.
  struct Scratch {
    AlignedVector<uint8_t> frame;
    AlignedVector<uint8_t> key;
    AlignedVector<uint8_t> code;
    AlignedVector<uint8_t> other_code;
    AlignedVector<uint8_t> zeros;
  };

  static const FrameStoreOptions& checked(const FrameStoreOptions& options);
  static size_t bytes_per_env(const FrameStoreOptions& options);
  static Scratch& scratch(size_t padded);
  size_t run_slot(int64_t run) const { return static_cast<size_t>(run) % run_slots_; }
  const Run& run_at(const EnvFrames& env, int64_t run) const { return env.runs[run_slot(run)]; }
  uint8_t* bytes_at(const EnvFrames& env, uint64_t address) const;

  size_t encode(const EnvFrames& env, const AlignedVector<uint8_t>& frame, Scratch& memory) const;
  size_t encode_anchor(EnvFrames& env, const AlignedVector<uint8_t>& frame, Scratch& memory);
  size_t encode_key(const AlignedVector<uint8_t>& frame, Scratch& memory) const;
  uint8_t* room(EnvFrames& env, size_t bytes);
  void add_chunk(EnvFrames& env);
  void drop_oldest_chunk(EnvFrames& env);
  void release_chunks(EnvFrames& env);
  bool changes_frame_before(const uint8_t* raw) const;
  const uint8_t* decode(const uint8_t* code, uint8_t* frame, const uint8_t* key) const;
  const uint8_t* start_run(const EnvFrames& env, int64_t run, int64_t& key_run,
                           Scratch& memory) const;
  void save_chunks(const EnvFrames& env, SnapshotWriter& writer) const;
  void load_env(EnvFrames& env, SnapshotReader& reader);
  uint64_t check_run(const EnvFrames& env, int64_t run, const SnapshotReader& reader) const;
  int64_t oldest_key(const EnvFrames& env) const;

  FrameStoreOptions options_;
  size_t padded_;       // bytes of a frame in buffers
  size_t chunk_bytes_;  // a run always fits into an empty chunk
  size_t run_slots_;
  size_t chunk_slots_;  // chunks of an environment, at most
  std::vector<EnvFrames> envs_;
  std::vector<Chunk> spare_;  // chunks that no environment holds, for the next that needs one
};

}  // namespace atari_fast
