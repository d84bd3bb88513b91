// libFuzzer target: whatever a snapshot holds, loading it refuses it or gives a replay that works.
//
// The first byte chooses the replay and whether the rest is the file itself or what its blocks hold
// (then the checksums are right, and every check behind them is reached).
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/snapshot.h"
#include "replay/episodic_memory.h"
#include "sequence_replay_fixture.h"
#include "transition_replay_fixture.h"

namespace atari_fast {
namespace {

/// A file in memory, rewritten for every input.
const std::string& scratch_path() {
  static const int file = memfd_create("snapshot_fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  return path;
}

void write_file(std::span<const uint8_t> bytes, const char* kind, bool raw) {
  if (raw) {
    std::FILE* const file = std::fopen(scratch_path().c_str(), "wb");
    if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) {
      std::abort();
    }
    std::fclose(file);
    return;
  }
  SnapshotWriter writer(scratch_path(), kind, 1);
  writer.write(bytes);
  writer.finish();
}

void load_transitions() {
  TransitionReplayOptions o = replay_options(2, 30, 3, 2);
  o.draws.prioritized = true;
  TransitionReplay replay(o);
  replay.load(scratch_path());
  ReplayBatch batch(o, 4);
  if (replay.num_valid() > 0) {
    replay.sample(0.5, batch.view());
  }
  for (uint8_t row = 0; row < 20; ++row) {  // of one environment alone
    replay.append(std::vector<uint8_t>(kTagBytes, row), std::vector<int64_t>{1},
                  std::vector<float>{1.0f}, std::vector<uint8_t>{0}, std::vector<int64_t>{1});
  }
  for (uint8_t row = 0; row < 40; ++row) {
    replay.append(std::vector<uint8_t>(2 * kTagBytes, row), std::vector<int64_t>(2, 1),
                  std::vector<float>(2, 1.0f), std::vector<uint8_t>(2, row % 9 == 0 ? kFirst : 0));
  }
  replay.sample(0.5, batch.view());
}

void load_sequences() {
  const SequenceReplayOptions o = sequence_options(2, 40, {2, 3, 6, 3, 2, SequenceTail::kShift});
  static const SequenceScript script(2, 60, 1);
  SequenceReplay replay(o);
  replay.load(scratch_path());
  SequenceMemory batch(o, 4);
  if (replay.num_sequences() > 0) {
    replay.sample(0.5, batch.view());
  }
  std::vector<size_t> heads(2);
  for (size_t row = 0; row < 20; ++row) {  // of one environment alone
    script.append_some(replay, {1}, heads);
  }
  for (size_t row = 0; row < 60; ++row) {
    script.append(replay, row);
  }
  replay.sample(0.5, batch.view());
}

void load_memory() {
  EpisodicMemoryOptions o;
  o.num_envs = 2;
  o.capacity = 40;
  o.dim = 3;
  EpisodicMemory memory(o);
  memory.load(scratch_path());
  const std::vector<float> embeddings(6, 0.5f);
  const std::vector<int64_t> envs{0, 1};
  std::vector<float> rewards(2);
  for (int row = 0; row < 50; ++row) {
    memory.novelty(embeddings, envs, rewards);
  }
}

}  // namespace
}  // namespace atari_fast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atari_fast;
  if (size == 0) {
    return 0;
  }
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  const bool raw = (data[0] & 4) != 0;
  try {
    switch (data[0] % 4) {
      case 0:
        write_file(bytes, "transition replay", raw);
        load_transitions();
        break;
      case 1:
        write_file(bytes, "sequence replay", raw);
        load_sequences();
        break;
      default:
        write_file(bytes, "episodic memory", raw);
        load_memory();
    }
  } catch (const SnapshotError&) {
  }
  return 0;
}
