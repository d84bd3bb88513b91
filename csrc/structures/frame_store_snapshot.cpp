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
int64_t FrameStore::oldest_key(const Lane& lane) const {
  const int64_t run = lane.first_row / kRun;
  return run - static_cast<int64_t>(run_at(lane, run).key);
}

void FrameStore::save(SnapshotWriter& writer) const {
  for (const size_t number :
       {options_.lanes, options_.rows, options_.frame_bytes, options_.row_bytes, chunk_slots_}) {
    writer.value(static_cast<uint64_t>(number));
  }
  for (const Lane& lane : lanes_) {
    writer.value(lane.next_row);
    writer.value(lane.first_row);
    if (lane.next_row == 0) {
      continue;
    }
    writer.value(lane.first_chunk);
    writer.value(lane.next_chunk);
    writer.value(static_cast<uint64_t>(lane.used));
    writer.value(lane.key_run);
    writer.value(oldest_key(lane));
    for (int64_t run = oldest_key(lane); run <= (lane.next_row - 1) / kRun; ++run) {
      writer.value(run_at(lane, run));
    }
    save_chunks(lane, writer);
  }
}

// Only the newest chunk still changes. Of the others as many as make a part, counted from the first
// one ever, go together, so that the next snapshot has the same parts.
void FrameStore::save_chunks(const Lane& lane, SnapshotWriter& writer) const {
  const uint64_t of_a_part = std::max<uint64_t>(1, kPartBytes / chunk_bytes_);
  const uint64_t newest = lane.next_chunk - 1;
  const auto full = [&](uint64_t chunk) {
    return std::span<const uint8_t>(lane.chunks[chunk % chunk_slots_].get(), chunk_bytes_);
  };
  uint64_t chunk = lane.first_chunk;
  while (chunk < newest) {
    std::vector<std::span<const uint8_t>> pieces;
    const uint64_t part = chunk / of_a_part;
    const bool whole =
        chunk % of_a_part == 0 && (part + 1) * of_a_part <= newest && chunk_bytes_ <= kPartBytes;
    for (; chunk < newest && chunk / of_a_part == part; ++chunk) {
      pieces.push_back(full(chunk));
    }
    if (whole) {
      writer.part(str_cat("lane", &lane - lanes_.data(), "-", part), pieces);
    } else {
      for (const std::span<const uint8_t> piece : pieces) {
        writer.write(piece);
      }
    }
  }
  writer.write(full(newest).first(lane.used));
}

void FrameStore::load(SnapshotReader& reader) {
  for (const size_t number :
       {options_.lanes, options_.rows, options_.frame_bytes, options_.row_bytes, chunk_slots_}) {
    reader.check(reader.value<uint64_t>() == number,
                 "its frames have another shape, number or memory limit than this replay's");
  }
  FrameStore loaded(options_);
  for (Lane& lane : loaded.lanes_) {
    loaded.load_lane(lane, reader);
  }
  *this = std::move(loaded);
}

void FrameStore::load_lane(Lane& lane, SnapshotReader& reader) {
  const auto check = [&](bool ok) { reader.check(ok, "the frames of a lane do not fit together"); };
  lane.next_row = reader.value<int64_t>();
  lane.first_row = reader.value<int64_t>();
  check(lane.next_row >= 0 &&
        lane.next_row < (int64_t{1} << 56) / static_cast<int64_t>(options_.lanes));
  if (lane.next_row == 0) {
    check(lane.first_row == 0);
    return;
  }
  check(lane.first_row >= 0 && lane.first_row < lane.next_row &&
        lane.next_row - lane.first_row <= static_cast<int64_t>(options_.rows));
  lane.first_chunk = reader.value<uint64_t>();
  lane.next_chunk = reader.value<uint64_t>();
  lane.used = reader.value<uint64_t>();
  check(lane.first_chunk < lane.next_chunk &&
        lane.next_chunk < (uint64_t{1} << 60) / chunk_bytes_ &&
        lane.next_chunk - lane.first_chunk <= chunk_slots_ && lane.used <= chunk_bytes_);
  lane.key_run = reader.value<int64_t>();
  const auto first_run = reader.value<int64_t>();
  const int64_t last_run = (lane.next_row - 1) / kRun;
  check(first_run >= 0 && first_run <= lane.first_row / kRun &&
        lane.first_row / kRun - first_run < kRunsOfAKey && lane.key_run >= first_run &&
        lane.key_run <= last_run);
  for (int64_t run = first_run; run <= last_run; ++run) {
    Run& at = lane.runs[run_slot(run)];
    at = reader.value<Run>();
    check(at.key < static_cast<uint64_t>(kRunsOfAKey) &&
          static_cast<int64_t>(at.key) <= run - first_run &&
          at.address / chunk_bytes_ >= lane.first_chunk &&
          at.address / chunk_bytes_ < lane.next_chunk);
  }
  check(oldest_key(lane) == first_run && run_at(lane, lane.key_run).key == 0);
  for (uint64_t chunk = lane.first_chunk; chunk < lane.next_chunk; ++chunk) {
    Chunk& bytes = lane.chunks[chunk % chunk_slots_];
    bytes = std::make_unique<uint8_t[]>(chunk_bytes_ + kSparseSlack);
    reader.read({bytes.get(), chunk + 1 == lane.next_chunk ? lane.used : chunk_bytes_});
  }
  // Runs lie one behind the other, keys never go back and are near, and the newest run is the end.
  uint64_t end = 0;
  int64_t newest_key = first_run;
  for (int64_t run = first_run; run <= last_run; ++run) {
    const Run& at = run_at(lane, run);
    const int64_t key = run - static_cast<int64_t>(at.key);
    check(at.address >= end && (key == run || key == newest_key) &&
          run_at(lane, key).address / chunk_bytes_ + 2 >= at.address / chunk_bytes_);
    newest_key = key;
    end = check_run(lane, run, reader);
  }
  check(newest_key == lane.key_run &&
        run_at(lane, last_run).address / chunk_bytes_ + 1 == lane.next_chunk &&
        end == (lane.next_chunk - 1) * chunk_bytes_ + lane.used);
  Scratch& memory = scratch(padded_);
  int64_t key_run = -1;
  start_run(lane, lane.key_run, key_run, memory);
  lane.key.assign(memory.key.begin(), memory.key.begin() + static_cast<ptrdiff_t>(padded_));
  lane.newest.assign(padded_, 0);
  const auto index = static_cast<size_t>(&lane - lanes_.data());
  read(index, lane.next_row - 1, 1, lane.newest.data(), padded_);
}

// Goes through the codes of a run, each of which must be of a kind that may stand there and end in
// its chunk; returns the address of the end.
uint64_t FrameStore::check_run(const Lane& lane, int64_t run, const SnapshotReader& reader) const {
  const Run& at = run_at(lane, run);
  const bool last_chunk = at.address / chunk_bytes_ + 1 == lane.next_chunk;
  const size_t place = at.address % chunk_bytes_;
  const size_t end = last_chunk ? lane.used : chunk_bytes_;
  size_t left = end - std::min(end, place);
  const uint8_t* code = bytes_at(lane, at.address);
  const int64_t rows = std::min(kRun, lane.next_row - run * kRun);
  for (int64_t row = 0; row < rows; ++row) {
    reader.check(left > 0, "a frame is cut short");
    const uint8_t kind = code[0];
    const bool key = kind == kKey || kind == kRaw;
    const bool fits =
        row > 0      ? kind == kSame || kind == kDelta || kind == kRaw
        : at.key > 0 ? kind == kAnchor && run_at(lane, run - static_cast<int64_t>(at.key)).key == 0
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
