// Memory that runs out in the middle of a call: every allocation of it fails once, and the object
// is then as it was before.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "replay/sequence_replay.h"
#include "replay/transition_replay.h"
#include "sequence_replay_fixture.h"
#include "snapshot_fixture.h"
#include "structures/frame_store.h"
#include "transition_replay_fixture.h"

namespace {

// Allocations of this thread until one fails, which switches this off again; negative: off.
thread_local int64_t allocations_left = -1;

void* allocate(size_t bytes, size_t alignment) {
  if (allocations_left >= 0 && allocations_left-- == 0) {
    throw std::bad_alloc();
  }
  void* const memory = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

// Not inlined: compilers warn where a `delete` turns into `free` before their eyes.
[[gnu::noinline]] void release(void* memory) { std::free(memory); }

}  // namespace

// All of the program's memory goes through these.
void* operator new(size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new[](size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment));
}
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t /*bytes*/) noexcept { release(memory); }
void operator delete[](void* memory, size_t /*bytes*/) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { release(memory); }

namespace atari_fast {
namespace {

/// Calls until no allocation fails: the first one in the first call, the second in the second, and
/// so on. Returns how many calls failed.
template <typename Call>
int64_t call_out_of_memory(const Call& call) {
  for (int64_t k = 0;; ++k) {
    allocations_left = k;
    try {
      call();
      allocations_left = -1;
      return k;
    } catch (const std::bad_alloc&) {
    }
  }
}

/// Runs a test on a thread of its own, which has no working memory yet.
void on_a_new_thread(const std::function<void()>& test) { std::thread(test).join(); }

/// Frames of all environments for one row: stretches of noise, which no code makes shorter, and of
/// bytes that stay, so that chunks of memory fill and go at all times.
std::vector<uint8_t> frames_of(size_t num_envs, size_t bytes, size_t row, Rng& rng) {
  std::vector<uint8_t> frames(num_envs * bytes, 7);
  for (size_t i = 0; i < frames.size(); ++i) {
    if ((row / 40 + i / bytes) % 3 != 0) {
      frames[i] = static_cast<uint8_t>(rng.next());
    }
  }
  return frames;
}

constexpr size_t kNumEnvs = 3;
constexpr std::array<int64_t, kNumEnvs> kAll{0, 1, 2};
constexpr std::array<int64_t, 2> kSome{2, 0};
constexpr size_t kFrameBytes = 900;
constexpr size_t kRows = 400;

template <typename Replay>
std::vector<uint8_t> snapshot(const Replay& replay) {
  const TemporaryFile file;
  replay.save(file.path());
  return file.bytes();
}

// Environments that lose rows because they have enough of them, and because their memory is full.
const FrameStoreOptions kStores[] = {{kNumEnvs, 100, kFrameBytes, 30, 0},
                                     {kNumEnvs, kRows, kFrameBytes, 30, 1}};

TEST(OutOfMemory, FrameStoreIsAsItWas) {
  for (const FrameStoreOptions& options : kStores) {
    on_a_new_thread([&] {
      FrameStore store(options);
      FrameStore reference(options);
      Rng rng(1);
      int64_t failed = 0;
      std::vector<uint8_t> frame(kFrameBytes);
      std::vector<uint8_t> other(kFrameBytes);
      for (size_t row = 0; row < kRows; ++row) {
        const std::vector<uint8_t> frames = frames_of(kNumEnvs, kFrameBytes, row, rng);
        for (size_t env = 0; env < kNumEnvs; ++env) {
          const uint8_t* const bytes = frames.data() + env * kFrameBytes;
          failed += call_out_of_memory([&] { store.append(env, bytes); });
          reference.append(env, bytes);
          ASSERT_EQ(store.next_row(env), reference.next_row(env));
          ASSERT_EQ(store.first_row(env), reference.first_row(env));
          for (int64_t r = store.first_row(env); r < store.next_row(env); r += 5) {
            store.read(env, r, 1, frame.data(), kFrameBytes);
            reference.read(env, r, 1, other.data(), kFrameBytes);
            ASSERT_EQ(frame, other);
          }
        }
      }
      EXPECT_GT(store.first_row(0), 0);
      EXPECT_GT(failed, 10);
    });
  }
}

TEST(OutOfMemory, AReservedFrameNeedsNoMemory) {
  for (const FrameStoreOptions& options : kStores) {
    on_a_new_thread([&] {
      FrameStore store(options);
      Rng rng(2);
      int64_t failed = 0;
      for (size_t row = 0; row < kRows; ++row) {
        const std::vector<uint8_t> frames = frames_of(kNumEnvs, kFrameBytes, row, rng);
        failed += call_out_of_memory([&] { store.reserve(kAll); });
        for (size_t env = 0; env < kNumEnvs; ++env) {
          const uint8_t* const bytes = frames.data() + env * kFrameBytes;
          ASSERT_EQ(call_out_of_memory([&] { store.append(env, bytes); }), 0);
        }
        ASSERT_LE(store.bytes_used(), FrameStore::memory_bytes(options));
      }
      EXPECT_GT(failed, 10);
    });
  }
}

TEST(OutOfMemory, TransitionReplayIsAsItWas) {
  on_a_new_thread([] {
    TransitionReplayOptions o = replay_options(kNumEnvs, kRows, 4, 3);
    o.frame_bytes = kFrameBytes;
    o.frame_memory = 1;
    o.draws.prioritized = true;
    o.draws.uniform_mix = 0.25;
    TransitionReplay replay(o);
    TransitionReplay reference(o);
    ReplayBatch batch(o, 8);
    ReplayBatch other(o, 8);
    Rng rng(3);
    int64_t failed = 0;
    for (size_t row = 0; row < kRows; ++row) {
      const std::vector<uint8_t> frames = frames_of(kNumEnvs, kFrameBytes, row, rng);
      const std::vector<int64_t> actions(kNumEnvs, static_cast<int64_t>(row % 18));
      const std::vector<float> rewards(kNumEnvs, static_cast<float>(row));
      std::vector<uint8_t> flags(kNumEnvs);
      for (size_t env = 0; env < kNumEnvs; ++env) {
        const size_t step = (row + env) % 61;
        flags[env] = row == 0 || step == 0 ? kFirst : step == 60 ? kTerminated : 0;
      }
      const auto append = [&](TransitionReplay& to) {
        if (row % 4 != 3) {
          to.append(frames, actions, rewards, flags);
        } else {
          to.append(std::span(frames).first(2 * kFrameBytes), std::span(actions).first(2),
                    std::span(rewards).first(2), std::span(flags).first(2), kSome);
        }
      };
      failed += call_out_of_memory([&] { append(replay); });
      append(reference);
      ASSERT_EQ(replay.num_rows(), reference.num_rows());
      ASSERT_EQ(replay.num_valid(), reference.num_valid());
      if (row > 10) {
        on_a_new_thread(
            [&] { failed += call_out_of_memory([&] { replay.sample(0.5, batch.view()); }); });
        reference.sample(0.5, other.view());
        ASSERT_EQ(batch.ids, other.ids);
        ASSERT_EQ(batch.frames, other.frames);
        const std::vector<float> priorities(8, static_cast<float>(row % 7));
        const auto update = [&] { replay.update_priorities(batch.ids, priorities); };
        failed += call_out_of_memory(update);
        reference.update_priorities(batch.ids, priorities);
      }
    }
    EXPECT_EQ(snapshot(replay), snapshot(reference));
    EXPECT_GT(failed, 1000);
  });
}

TEST(OutOfMemory, SequenceReplayIsAsItWas) {
  on_a_new_thread([] {
    SequenceReplayOptions o =
        sequence_options(kNumEnvs, kRows, {2, 3, 8, 4, 2, SequenceTail::kShift});
    o.draws.uniform_mix = 0.25;
    o.max_sequences = 5 * kNumEnvs;
    o.frame_bytes = kFrameBytes;
    o.frame_memory = 1;
    SequenceReplay replay(o);
    SequenceReplay reference(o);
    SequenceMemory batch(o, 4);
    SequenceMemory other(o, 4);
    Rng rng(4);
    int64_t failed = 0;
    for (size_t row = 0; row < kRows; ++row) {
      const std::vector<uint8_t> frames = frames_of(kNumEnvs, kFrameBytes, row, rng);
      const std::vector<int64_t> actions(kNumEnvs, static_cast<int64_t>(row % 18));
      const std::vector<float> rewards(kNumEnvs, static_cast<float>(row));
      std::vector<uint8_t> flags(kNumEnvs);
      for (size_t env = 0; env < kNumEnvs; ++env) {
        const size_t step = (row + env) % 61;
        flags[env] = row == 0 || step == 0 ? kFirst : step == 60 ? kTruncated : 0;
      }
      const std::vector<std::byte> bytes(kNumEnvs * kRowTagBytes, static_cast<std::byte>(row));
      const bool all = row % 4 != 3;
      const size_t n = all ? kNumEnvs : kSome.size();
      const auto tags = std::span(bytes).first(n * kRowTagBytes);
      const SequenceRows rows{std::span(frames).first(n * kFrameBytes),
                              std::span(actions).first(n),
                              std::span(rewards).first(n),
                              std::span(flags).first(n),
                              {tags, tags.first(n)},
                              {tags},
                              all ? Envs() : Envs(kSome)};
      std::vector<NewSequence> made;
      failed += call_out_of_memory([&] { made = replay.append(rows); });
      ASSERT_EQ(made.size(), reference.append(rows).size());
      ASSERT_EQ(replay.num_rows(), reference.num_rows());
      ASSERT_EQ(replay.num_sequences(), reference.num_sequences());
      if (row > 20) {
        on_a_new_thread(
            [&] { failed += call_out_of_memory([&] { replay.sample(0.5, batch.view()); }); });
        reference.sample(0.5, other.view());
        ASSERT_TRUE(batch == other);
        const std::vector<float> priorities(4, static_cast<float>(row % 7));
        const auto update = [&] { replay.set_priorities(batch.ids, priorities); };
        failed += call_out_of_memory(update);
        reference.set_priorities(batch.ids, priorities);
      }
    }
    EXPECT_GT(replay.num_dropped(), 0);
    EXPECT_EQ(snapshot(replay), snapshot(reference));
    EXPECT_GT(failed, 1000);
  });
}

}  // namespace
}  // namespace atari_fast
