#include <gtest/gtest.h>

#include "base/snapshot.h"
#include "sequence_replay_fixture.h"
#include "snapshot_fixture.h"

namespace atari_fast {
namespace {

const std::vector<int64_t> kAll{0, 1, 2};

SequenceReplayOptions options() {
  SequenceReplayOptions o = sequence_options(3, 60, {2, 3, 6, 3, 2, SequenceTail::kShift});
  o.draws.uniform_mix = 0.1;
  return o;
}

void expect_equal_draws(SequenceReplay& a, SequenceReplay& b, Rng& rng) {
  for (int turn = 0; turn < 20; ++turn) {
    SequenceMemory left(a.options(), 8);
    SequenceMemory right(b.options(), 8);
    a.sample(0.6, left.view());
    b.sample(0.6, right.view());
    ASSERT_TRUE(left == right);
    std::vector<float> priorities(8);
    for (float& priority : priorities) {
      priority = static_cast<float>(rng.uniform());
    }
    EXPECT_EQ(a.set_priorities(left.ids, priorities), b.set_priorities(left.ids, priorities));
  }
}

TEST(SequenceSnapshot, AReplayGoesOnAsIfItHadNeverStopped) {
  const SequenceScript script(3, 400, 11);
  for (const size_t rows : {size_t{40}, size_t{61}, size_t{200}}) {
    TemporaryFile file;
    SequenceReplay replay(options());
    for (size_t row = 0; row < rows; ++row) {
      script.append(replay, row);
    }
    replay.save(file.path());
    SequenceReplayOptions with_other_seed = options();
    with_other_seed.draws.seed = 9;
    with_other_seed.threads = 2;
    SequenceReplay copy(with_other_seed);
    script.append(copy, 0);
    copy.load(file.path());
    EXPECT_EQ(copy.num_sequences(), replay.num_sequences());
    Rng rng(1);
    expect_equal_draws(replay, copy, rng);
    for (size_t row = rows; row < rows + 100; ++row) {
      const std::vector<NewSequence> made = script.append(replay, row);
      const std::vector<NewSequence> again = script.append(copy, row);
      ASSERT_EQ(made.size(), again.size());
      for (size_t i = 0; i < made.size(); ++i) {
        ASSERT_EQ(made[i].id, again[i].id);
        ASSERT_EQ(made[i].start, again[i].start);
      }
    }
    expect_equal_draws(replay, copy, rng);
  }
}

// Of a replay whose environments are appended to together, the bytes are those of the first version
// of this format.
TEST(SequenceSnapshot, TheFormatIsStillTheFirst) {
  const SequenceScript script(3, 200, 14);
  const TemporaryFile file;
  SequenceReplayOptions o = options();
  o.draws.alpha = 1.0;  // no power, which libraries round differently
  SequenceReplay replay(o);
  for (size_t row = 0; row < 130; ++row) {
    script.append(replay, row);
  }
  replay.save(file.path());
  EXPECT_EQ(crc32c(file.bytes()), 2876306356U);
}

TEST(SequenceSnapshot, DamageAndOtherSettingsAreRefused) {
  const SequenceScript script(3, 200, 12);
  TemporaryFile file;
  SequenceReplay replay(options());
  for (size_t row = 0; row < 100; ++row) {
    script.append(replay, row);
  }
  replay.save(file.path());
  const std::vector<uint8_t> whole = file.bytes();
  SequenceReplay other(options());
  Rng rng(3);
  for (int flip = 0; flip < 200; ++flip) {
    std::vector<uint8_t> damaged = whole;
    const size_t bit = rng.below(8 * whole.size());
    damaged[bit / 8] = static_cast<uint8_t>(damaged[bit / 8] ^ (1U << (bit % 8)));
    file.put(damaged);
    EXPECT_THROW(other.load(file.path()), SnapshotError);
  }
  file.put(whole);
  SequenceReplayOptions changed = options();
  changed.shape.burn_in = 4;
  SequenceReplay another(changed);
  EXPECT_THROW(another.load(file.path()), SnapshotError);
  changed = options();
  changed.unroll_states = true;
  SequenceReplay with_more_states(changed);
  EXPECT_THROW(with_more_states.load(file.path()), SnapshotError);
  EXPECT_EQ(other.num_rows(), 0);
  other.load(file.path());
  EXPECT_EQ(other.num_rows(), 300);
}

// Damage behind right checksums: whatever the file says, it is refused or gives a replay that
// works.
TEST(SequenceSnapshot, ForgedFilesNeverBreakTheReplay) {
  const SequenceScript script(3, 400, 13);
  TemporaryFile file;
  SequenceReplay replay(options());
  std::vector<size_t> heads(3);
  while (heads[0] < 130) {  // the environments have different numbers of rows
    script.append_some(replay, heads[0] % 3 == 0 ? std::vector<int64_t>{0} : kAll, heads);
  }
  replay.save(file.path());
  const std::vector<uint8_t> whole = file.bytes();
  Rng rng(5);
  int loaded = 0;
  for (int turn = 0; turn < 2'000; ++turn) {
    file.put(forged(whole, rng));
    SequenceReplay other(options());
    try {
      other.load(file.path());
    } catch (const SnapshotError&) {
      continue;
    }
    ++loaded;
    SequenceMemory batch(other.options(), 8);
    if (other.num_sequences() > 0) {
      other.sample(0.6, batch.view());
    }
    for (size_t row = 130; row < 220; ++row) {
      script.append(other, row);
    }
    other.sample(0.6, batch.view());
  }
  EXPECT_GT(loaded, 0);  // a changed pixel or reward cannot be told
}

}  // namespace
}  // namespace atari_fast
