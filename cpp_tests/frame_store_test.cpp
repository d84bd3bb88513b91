#include "structures/frame_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/rng.h"
#include "snapshot_fixture.h"

namespace atari_fast {
namespace {

using Frame = std::vector<uint8_t>;

/// Frames as games show them: some stay, some change a little, some a lot, some are noise.
class Scene {
 public:
  Scene(size_t bytes, uint64_t seed) : rng_(seed), frame_(bytes) { scramble(); }

  const Frame& next() {
    const uint64_t event = rng_.below(100);
    if (event < 2) {
      scramble();
    } else if (event < 6) {
      std::fill(frame_.begin(), frame_.end(), static_cast<uint8_t>(rng_.below(256)));
    } else if (event < 80) {
      const uint64_t changes = rng_.below(event < 70 ? 12 : frame_.size() + 1);
      for (uint64_t i = 0; i < changes; ++i) {
        frame_[rng_.below(frame_.size())] = static_cast<uint8_t>(rng_.below(256));
      }
    }
    return frame_;
  }

 private:
  void scramble() {
    for (uint8_t& byte : frame_) {
      byte = static_cast<uint8_t>(rng_.next());
    }
  }

  Rng rng_;
  Frame frame_;
};

/// Every row that can be read is as it was written, from any row on and any number of them.
void expect_rows(const FrameStore& store, size_t env, const std::vector<Frame>& written, Rng& rng) {
  const int64_t first = store.first_row(env);
  const int64_t next = store.next_row(env);
  ASSERT_EQ(next, static_cast<int64_t>(written.size()));
  const size_t bytes = written[0].size();
  const size_t stride = bytes + 3;
  for (int64_t row = first; row < next; row += 1 + static_cast<int64_t>(rng.below(5))) {
    const size_t count = 1 + rng.below(std::min<uint64_t>(20, static_cast<uint64_t>(next - row)));
    Frame out(count * stride, 0xEE);
    store.read(env, row, count, out.data(), stride);
    for (size_t i = 0; i < count; ++i) {
      const Frame& want = written[static_cast<size_t>(row) + i];
      const auto at = out.begin() + static_cast<ptrdiff_t>(i * stride);
      ASSERT_TRUE(std::equal(want.begin(), want.end(), at)) << "row " << row << " + " << i;
      ASSERT_EQ(out[i * stride + bytes], 0xEE);  // nothing is written between two frames
    }
  }
}

struct Shape {
  size_t num_envs, rows, bytes, row_bytes, limit;
};

const Shape kShapes[] = {
    {2, 40, 1, 1, 0},      {1, 300, 24, 4, 0},          {3, 7, 100, 10, 0},
    {2, 500, 7056, 84, 0}, {2, 2000, 640, 32, 1 << 17}, {1, 900, 7056, 84, 700'000},
    {2, 100, 64, 64, 0},   {1, 1, 65, 13, 0},
};

TEST(FrameStoreTest, EveryKeptRowReadsAsItWasWritten) {
  for (const InstructionSet set : instruction_sets()) {
    set_instruction_set(set);
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(std::string(instruction_set_name(set)) + ", bytes " + std::to_string(s.bytes));
      FrameStore store({s.num_envs, s.rows, s.bytes, s.row_bytes, s.limit});
      const size_t bound =
          FrameStore::memory_bytes({s.num_envs, s.rows, s.bytes, s.row_bytes, s.limit});
      std::vector<std::vector<Frame>> written(s.num_envs);
      std::vector<Scene> scenes;
      for (size_t env = 0; env < s.num_envs; ++env) {
        scenes.emplace_back(s.bytes, 100 + env);
      }
      Rng rng(5);
      const size_t total = std::min<size_t>(3 * s.rows + 50, 2500);
      for (size_t row = 0; row < total; ++row) {
        for (size_t env = 0; env < s.num_envs; ++env) {
          const int64_t first = store.first_row(env);
          written[env].push_back(scenes[env].next());
          store.append(env, written[env].back().data());
          ASSERT_GE(store.first_row(env), first);
          ASSERT_LE(store.next_row(env) - store.first_row(env), static_cast<int64_t>(s.rows));
          ASSERT_LE(store.first_row(env), store.next_row(env));
          if (s.limit == 0) {
            ASSERT_EQ(store.first_row(env),
                      std::max<int64_t>(0, store.next_row(env) - static_cast<int64_t>(s.rows)));
          }
        }
        ASSERT_LE(store.bytes_used(), bound);
        if (row % 97 == 0 || row + 1 == total) {
          expect_rows(store, row % s.num_envs, written[row % s.num_envs], rng);
        }
      }
    }
  }
  set_instruction_set(best_instruction_set());
}

TEST(FrameStoreTest, AFullShareDropsTheOldestFramesAndKeepsTheNewest) {
  FrameStore store({1, 10'000, 7056, 84, 1'000'000});
  Rng rng(1);
  Frame noise(7056);
  for (int row = 0; row < 2'000; ++row) {
    for (uint8_t& byte : noise) {
      byte = static_cast<uint8_t>(rng.next());
    }
    store.append(0, noise.data());
    ASSERT_LE(store.bytes_used(), 1'400'000U);
  }
  const int64_t kept = store.next_row(0) - store.first_row(0);
  EXPECT_GT(kept, 80);
  EXPECT_LT(kept, 142);
  Frame out(7056);
  store.read(0, 1'999, 1, out.data(), 7056);
  EXPECT_EQ(out, noise);
}

TEST(FrameStoreTest, FramesThatRepeatTakeAlmostNothing) {
  FrameStore store({1, 100'000, 7056, 84, 0});
  const Frame frame(7056, 87);
  for (int row = 0; row < 100'000; ++row) {
    store.append(0, frame.data());
  }
  const size_t index = FrameStore({1, 100'000, 7056, 84, 0}).bytes_used();
  EXPECT_LT(store.bytes_used() - index, 100'000U * 8);
}

TEST(FrameStoreTest, WrongOptionsAreRefused) {
  for (const FrameStoreOptions& o :
       {FrameStoreOptions{0, 1, 1, 1, 0}, FrameStoreOptions{1, 0, 1, 1, 0},
        FrameStoreOptions{1, 1, 0, 1, 0}, FrameStoreOptions{1, 1, 10, 3, 0},
        FrameStoreOptions{1, 1, 10, 0, 0}, FrameStoreOptions{1, size_t{1} << 50, 10, 1, 0}}) {
    EXPECT_THROW(FrameStore{o}, std::invalid_argument);
    EXPECT_THROW(static_cast<void>(FrameStore::memory_bytes(o)), std::invalid_argument);
  }
}

// The environments' figures add up, or there is none.
TEST(FrameStoreTest, NoMemoryFigureWrapsAround) {
  size_t refused = 0;
  size_t given = 0;
  for (size_t bits = 0; bits < 64; bits += 3) {
    for (size_t more = 0; bits + more < 64; more += 3) {
      for (const size_t limit : {size_t{0}, size_t{1}, std::numeric_limits<size_t>::max()}) {
        const size_t num_envs = size_t{1} << bits;
        const size_t rows = size_t{1} << more;
        for (const size_t bytes : {size_t{1}, size_t{7056}, size_t{1} << 47}) {
          try {
            const size_t memory = FrameStore::memory_bytes({num_envs, rows, bytes, 1, limit});
            const size_t share = limit == 0 ? 0 : std::max<size_t>(1, limit / num_envs);
            const size_t one = FrameStore::memory_bytes({1, rows, bytes, 1, share});
            EXPECT_LE(one, (size_t{1} << 48) / num_envs);
            EXPECT_EQ(memory, num_envs * one);
            ++given;
          } catch (const std::invalid_argument&) {
            ++refused;
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 100U);
  EXPECT_GT(given, 100U);
}

class FrameStoreSnapshot : public testing::Test {
 protected:
  void save(const FrameStore& store) const {
    SnapshotWriter writer(path_, "frames", 1);
    store.save(writer);
    writer.finish();
  }

  void load(FrameStore& store) const {
    SnapshotReader reader(path_, "frames", 1);
    store.load(reader);
    reader.finish();
  }

  TemporaryFile file_;
  const std::string& path_ = file_.path();
};

TEST_F(FrameStoreSnapshot, GoesOnAsIfItHadNeverStopped) {
  for (const Shape& s : kShapes) {
    const FrameStoreOptions options{s.num_envs, s.rows, s.bytes, s.row_bytes, s.limit};
    for (const size_t rows : {size_t{0}, size_t{1}, size_t{13}, s.rows + 40}) {
      FrameStore store(options);
      std::vector<Frame> written;
      Scene scene(s.bytes, 3);
      for (size_t row = 0; row < rows; ++row) {
        written.push_back(scene.next());
        for (size_t env = 0; env < s.num_envs; ++env) {
          store.append(env, written.back().data());
        }
      }
      save(store);
      FrameStore copy(options);
      load(copy);
      for (size_t row = 0; row < 50; ++row) {
        written.push_back(scene.next());
        for (size_t env = 0; env < s.num_envs; ++env) {
          store.append(env, written.back().data());
          copy.append(env, written.back().data());
          ASSERT_EQ(store.first_row(env), copy.first_row(env));
        }
      }
      Rng rng(8);
      expect_rows(copy, s.num_envs - 1, written, rng);
      EXPECT_EQ(store.next_row(0), copy.next_row(0));
    }
  }
}

TEST_F(FrameStoreSnapshot, AnotherShapeIsRefused) {
  save(FrameStore({2, 40, 24, 4, 0}));
  FrameStore other({2, 40, 24, 6, 0});
  EXPECT_THROW(load(other), SnapshotError);
}

}  // namespace
}  // namespace atari_fast
