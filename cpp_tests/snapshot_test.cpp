#include "base/snapshot.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/rng.h"
#include "replay/transition_replay.h"
#include "snapshot_fixture.h"
#include "transition_replay_fixture.h"

namespace atari_fast {
namespace {

TEST(Crc32c, KnownValuesAndBothPaths) {
  const std::string digits = "123456789";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(digits.data()), 9);
  EXPECT_EQ(crc32c(bytes), 0xE3069283U);  // the check value of RFC 3720
  EXPECT_EQ(crc32c(std::vector<uint8_t>(32, 0)), 0x8A9136AAU);
  EXPECT_EQ(crc32c({}), 0U);
  Rng rng(1);
  std::vector<uint8_t> noise(1000);
  for (uint8_t& byte : noise) {
    byte = static_cast<uint8_t>(rng.next());
  }
  for (size_t size = 0; size < 100; ++size) {
    const std::span<const uint8_t> part(noise.data() + size, size * 9);
    EXPECT_EQ(crc32c(part), crc32c_portable(part));
    EXPECT_EQ(crc32c(part.subspan(size), crc32c(part.first(size))), crc32c(part));
  }
}

class SnapshotTest : public testing::Test {
 protected:
  TemporaryFile file_;
  const std::string& path_ = file_.path();
};

TEST_F(SnapshotTest, GivesBackWhatWasWrittenOverManyBlocks) {
  std::vector<uint64_t> numbers(400'000);
  std::iota(numbers.begin(), numbers.end(), 7);
  SnapshotWriter writer(path_, "numbers", 3);
  writer.value(int32_t{-5});
  writer.array<uint64_t>(numbers);
  writer.array<float>({});
  writer.finish();
  SnapshotReader reader(path_, "numbers", 3);
  EXPECT_EQ(reader.value<int32_t>(), -5);
  std::vector<uint64_t> read(numbers.size());
  reader.array<uint64_t>(read);
  reader.array<float>({});
  reader.finish();
  EXPECT_EQ(read, numbers);
  EXPECT_THROW(SnapshotReader(path_, "letters", 3), SnapshotError);
  EXPECT_THROW(SnapshotReader(path_, "numbers", 4), SnapshotError);
  EXPECT_THROW(SnapshotReader(path_ + ".gone", "numbers", 3), SnapshotError);
  EXPECT_THROW(SnapshotWriter("/no/such/folder/x", "numbers", 3), SnapshotError);
  SnapshotReader early(path_, "numbers", 3);
  EXPECT_THROW(early.finish(), SnapshotError);
  EXPECT_THROW(early.array<float>({}), SnapshotError);  // the count that follows is no 0
}

TransitionReplayOptions options() {
  TransitionReplayOptions o = replay_options(2, 60, 4, 3);
  o.draws.prioritized = true;
  o.draws.uniform_mix = 0.1;
  o.draws.buffer_max_weights = true;
  return o;
}

void play(TransitionReplay& replay, Rng& rng, size_t rows) {
  for (size_t row = 0; row < rows; ++row) {
    std::vector<uint8_t> frames(2 * kTagBytes);
    for (uint8_t& byte : frames) {
      byte = static_cast<uint8_t>(rng.below(4));
    }
    const uint64_t event = rng.below(12);
    const uint8_t flag = event == 0   ? kTerminated
                         : event == 1 ? kFirst
                         : event == 2 ? kLifeLost
                                      : 0;
    const auto action = static_cast<int64_t>(rng.below(18));
    replay.append(frames, std::vector<int64_t>{action, 1},
                  std::vector<float>{static_cast<float>(event), 0.5f},
                  std::vector<uint8_t>{flag, 0});
  }
}

void expect_equal_draws(TransitionReplay& a, TransitionReplay& b, Rng& rng) {
  ReplayBatch left(a.options(), 16);
  ReplayBatch right(a.options(), 16);
  for (int turn = 0; turn < 30; ++turn) {
    a.sample(0.5, left.view());
    b.sample(0.5, right.view());
    ASSERT_EQ(left.ids, right.ids);
    ASSERT_EQ(left.frames, right.frames);
    ASSERT_EQ(left.weights, right.weights);
    ASSERT_EQ(left.rewards, right.rewards);
    ASSERT_EQ(left.discounts, right.discounts);
    std::vector<float> priorities(16);
    for (float& priority : priorities) {
      priority = static_cast<float>(rng.uniform());
    }
    a.update_priorities(left.ids, priorities);
    b.update_priorities(left.ids, priorities);
  }
}

TEST_F(SnapshotTest, AReplayGoesOnAsIfItHadNeverStopped) {
  for (const size_t rows : {size_t{10}, size_t{60}, size_t{200}}) {
    TransitionReplay replay(options());
    Rng rng(rows);
    play(replay, rng, rows);
    ReplayBatch batch(replay.options(), 16);
    replay.sample(0.5, batch.view());
    replay.update_priorities(batch.ids, std::vector<float>(16, 3.0f));
    replay.save(path_);
    TransitionReplayOptions with_other_seed = options();
    with_other_seed.draws.seed = 77;
    TransitionReplay copy(with_other_seed);
    play(copy, rng, 5);
    copy.load(path_);
    EXPECT_EQ(copy.num_valid(), replay.num_valid());
    expect_equal_draws(replay, copy, rng);
    Rng same = rng;
    play(replay, rng, 90);
    play(copy, same, 90);
    expect_equal_draws(replay, copy, rng);
  }
}

TEST_F(SnapshotTest, DamageIsNamedAndNothingChanges) {
  TransitionReplay replay(options());
  Rng rng(4);
  play(replay, rng, 100);
  replay.save(path_);
  const std::vector<uint8_t> whole = file_.bytes();
  TransitionReplay other(options());
  play(other, rng, 30);
  const size_t starts = other.num_valid();
  const auto expect_refused = [&] {
    try {
      other.load(path_);
      FAIL() << "a damaged file was loaded";
    } catch (const SnapshotError& error) {
      EXPECT_NE(std::string(error.what()).find(path_), std::string::npos) << error.what();
    }
    EXPECT_EQ(other.num_valid(), starts);
  };
  for (size_t cut : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    file_.put({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(cut)});
    expect_refused();
  }
  std::vector<uint8_t> longer = whole;
  longer.push_back(0);
  file_.put(longer);
  expect_refused();
  for (int flip = 0; flip < 300; ++flip) {
    std::vector<uint8_t> damaged = whole;
    const size_t bit = rng.below(8 * whole.size());
    damaged[bit / 8] = static_cast<uint8_t>(damaged[bit / 8] ^ (1U << (bit % 8)));
    file_.put(damaged);
    expect_refused();
  }
  file_.put(whole);
  other.load(path_);
  TransitionReplayOptions changed = options();
  changed.n_step = 2;
  TransitionReplay another(changed);
  EXPECT_THROW(another.load(path_), SnapshotError);
}

// Of a replay whose environments are appended to together, the bytes are those of the first version
// of this format.
TEST_F(SnapshotTest, TheFormatIsStillTheFirst) {
  TransitionReplayOptions o = options();
  o.draws.alpha = 1.0;  // no power, which libraries round differently
  TransitionReplay replay(o);
  Rng rng(12);
  play(replay, rng, 130);
  replay.save(path_);
  EXPECT_EQ(crc32c(file_.bytes()), 2450947180U);
}

// Damage behind right checksums: whatever the file says, it is refused or gives a replay that
// works.
TEST_F(SnapshotTest, ForgedFilesNeverBreakTheReplay) {
  TransitionReplay replay(options());
  Rng rng(6);
  play(replay, rng, 100);
  for (size_t row = 0; row < 17; ++row) {  // its environments have different numbers of rows
    replay.append(std::vector<uint8_t>(kTagBytes, 3), std::vector<int64_t>{1},
                  std::vector<float>{1.0f}, std::vector<uint8_t>{0}, std::vector<int64_t>{1});
  }
  replay.save(path_);
  const std::vector<uint8_t> whole = file_.bytes();
  int loaded = 0;
  for (int turn = 0; turn < 3'000; ++turn) {
    file_.put(forged(whole, rng));
    TransitionReplay other(options());
    try {
      other.load(path_);
    } catch (const SnapshotError&) {
      continue;
    }
    ++loaded;
    Rng more(9);
    ReplayBatch batch(other.options(), 16);
    if (other.num_valid() > 0) {
      other.sample(0.5, batch.view());
    }
    play(other, more, 80);
    other.sample(0.5, batch.view());
  }
  EXPECT_GT(loaded, 0);  // a changed pixel or reward cannot be told
}

/// A folder of snapshots of one replay, whose frames of noise fill several parts.
class SnapshotPartsTest : public testing::Test {
 protected:
  SnapshotPartsTest() : folder_(name_.path()), replay_(options()) {
    std::filesystem::create_directory(folder_);
  }
  ~SnapshotPartsTest() override { std::filesystem::remove_all(folder_); }

  static TransitionReplayOptions options() {
    TransitionReplayOptions o = replay_options(2, 400, 2, 1);
    o.frame_bytes = 20'000;
    return o;
  }

  void append(size_t rows) {
    for (; rows > 0; --rows) {
      std::vector<uint8_t> frames(2 * options().frame_bytes);
      for (uint8_t& byte : frames) {
        byte = static_cast<uint8_t>(rng_.next());
      }
      replay_.append(frames, std::vector<int64_t>{1, 2}, std::vector<float>{1.0f, 2.0f},
                     std::vector<uint8_t>{0, 0});
    }
  }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  /// The bytes of a snapshot in one file.
  std::vector<uint8_t> in_one(const TransitionReplay& replay) const {
    replay.save(file("one"));
    std::ifstream bytes(file("one"), std::ios::binary);
    return {std::istreambuf_iterator<char>(bytes), {}};
  }

  /// The parts of a snapshot, and of how many names each file has.
  std::map<std::string, uint64_t> parts(const std::string& stem) const {
    std::map<std::string, uint64_t> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(stem + "-")) {
        found[name.substr(stem.size())] = entry.hard_link_count();
      }
    }
    return found;
  }

  TemporaryFile name_;
  std::filesystem::path folder_;
  Rng rng_{5};
  TransitionReplay replay_;
};

TEST_F(SnapshotPartsTest, HoldTheSameAsOneFile) {
  append(700);  // the ring has gone round
  replay_.save(file("a.bin"), {.split = true, .previous = {}});
  EXPECT_GE(parts("a").size(), 4U);
  EXPECT_LT(std::filesystem::file_size(file("a.bin")), in_one(replay_).size() / 2);
  TransitionReplay loaded(options());
  loaded.load(file("a.bin"));
  EXPECT_EQ(in_one(loaded), in_one(replay_));
}

TEST_F(SnapshotPartsTest, ThoseThatStayAreLinkedAndTheOthersWritten) {
  append(390);
  replay_.save(file("a.bin"), {.split = true, .previous = {}});
  append(150);
  replay_.save(file("b.bin"), {.split = true, .previous = file("a.bin")});
  const auto before = parts("a");
  const auto after = parts("b");
  size_t linked = 0;
  for (const auto& [name, links] : after) {
    EXPECT_EQ(links, before.contains(name) ? 2U : 1U) << name;
    linked += links - 1;
  }
  EXPECT_GE(linked, 2U);
  EXPECT_LT(linked, after.size());
  for (const auto& [name, links] : before) {
    std::filesystem::remove(file("a" + name));  // the other name of a file is enough
  }
  TransitionReplay loaded(options());
  loaded.load(file("b.bin"));
  EXPECT_EQ(in_one(loaded), in_one(replay_));
}

TEST_F(SnapshotPartsTest, OfEnvsWithOtherNumbersOfRowsAreLinkedToo) {
  const auto append_alone = [&](int64_t env, size_t rows) {
    for (; rows > 0; --rows) {
      std::vector<uint8_t> frame(options().frame_bytes);
      for (uint8_t& byte : frame) {
        byte = static_cast<uint8_t>(rng_.next());
      }
      replay_.append(frame, std::vector<int64_t>{1}, std::vector<float>{1.0f},
                     std::vector<uint8_t>{0}, std::vector<int64_t>{env});
    }
  };
  append_alone(1, 390);
  append(5);
  replay_.save(file("a.bin"), {.split = true, .previous = {}});
  append_alone(0, 150);  // of environment 1 all stays
  replay_.save(file("b.bin"), {.split = true, .previous = file("a.bin")});
  const auto before = parts("a");
  const auto after = parts("b");
  size_t written = 0;
  for (const auto& [name, links] : after) {
    EXPECT_EQ(links, name.starts_with("-lane1-") ? 2U : 1U) << name;
    written += links == 1 ? 1 : 0;
  }
  EXPECT_GE(written, 1U);
  EXPECT_GE(before.size(), 2U);
  EXPECT_EQ(after.size(), before.size() + written);
  TransitionReplay loaded(options());
  loaded.load(file("b.bin"));
  EXPECT_EQ(in_one(loaded), in_one(replay_));
  EXPECT_EQ(loaded.num_rows(), 390 + 10 + 150);
}

TEST_F(SnapshotPartsTest, DamagedOnesAreRefusedByNameAndNotLinked) {
  append(390);
  replay_.save(file("a.bin"), {.split = true, .previous = {}});
  const std::string part = "a" + parts("a").begin()->first;
  std::fstream bytes(file(part), std::ios::binary | std::ios::in | std::ios::out);
  bytes.seekp(1000);
  bytes.put(static_cast<char>(bytes.peek() ^ 1));
  bytes.close();
  TransitionReplay loaded(options());
  const auto message = [&] {
    try {
      loaded.load(file("a.bin"));
    } catch (const SnapshotError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_NE(message().find(part + " is missing or damaged"), std::string::npos) << message();
  EXPECT_EQ(loaded.num_rows(), 0);
  replay_.save(file("b.bin"), {.split = true, .previous = file("a.bin")});
  EXPECT_EQ(parts("b").begin()->second, 1U);
  loaded.load(file("b.bin"));
  std::filesystem::resize_file(file(part), 5);
  EXPECT_NE(message().find(part), std::string::npos);
  std::filesystem::remove(file(part));
  EXPECT_NE(message().find(part), std::string::npos);
  EXPECT_EQ(in_one(loaded), in_one(replay_));  // a refused file changes nothing
}

}  // namespace
}  // namespace atari_fast
