// SequenceTable alone, with a store of frames that forgets many rows at once.
#include "replay/sequence_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "replay/flags.h"

namespace atari_fast {
namespace {

constexpr SequenceShape kShape{2, 2, 4, 2, 1, SequenceTail::kShift};

/// Rows [begin, end) of one long episode in `env`, all readable from `readable` on; the ids made.
std::vector<int64_t> arrive(SequenceTable& table, size_t env, int64_t begin, int64_t end,
                            int64_t readable = 0) {
  std::vector<int64_t> made;
  for (int64_t row = begin; row < end; ++row) {
    table.arrive({env, row, static_cast<uint8_t>(row == 0 ? kFirst : 0), readable}, made);
  }
  return made;
}

using Ids = std::vector<int64_t>;

TEST(SequenceTable, ForgetsManySequencesAtOnce) {
  SequenceTable table(kShape, 2, 10, {});
  EXPECT_EQ(arrive(table, 0, 0, 13), (Ids{0, 2, 4, 6, 8}));  // starts 0, 2, 4, 6 and 8
  EXPECT_EQ(arrive(table, 1, 0, 7), (Ids{1, 3}));
  EXPECT_EQ(table.sampler().count(), 7U);
  table.expire(0, 3);  // 0, 2 and 4 need rows 0, 0 and 1; 6 needs row 3
  EXPECT_EQ(table.sampler().count(), 4U);
  EXPECT_FALSE(table.alive(4));
  EXPECT_TRUE(table.alive(6));
  EXPECT_TRUE(table.was_made(4));
  EXPECT_FALSE(table.was_made(10));
  EXPECT_FALSE(table.was_made(-1));
  table.expire(0, 100);
  EXPECT_EQ(table.sampler().count(), 2U);
  EXPECT_EQ(table.dropped(), 0);
}

TEST(SequenceTable, ASequenceWhoseFramesAreGoneIsNotMade) {
  SequenceTable table(kShape, 1, 10, {});
  EXPECT_EQ(arrive(table, 0, 0, 8), (Ids{0, 1}));
  table.expire(0, 6);
  EXPECT_EQ(table.sampler().count(), 0U);
  // Starts 4, 6 and 8 need rows 1, 3 and 5; start 10 needs row 7.
  EXPECT_EQ(arrive(table, 0, 8, 15, 6), (Ids{2}));
  EXPECT_EQ(table.at(2).start, 10);
  EXPECT_EQ(table.sampler().count(), 1U);
}

TEST(SequenceTable, KnowsTheSequenceOfASlot) {
  SequenceTable table(kShape, 3, 2, {});
  arrive(table, 0, 0, 11);  // ids 0, 3, 6 and 9, of which the last two are left
  arrive(table, 2, 0, 5);   // id 2
  EXPECT_EQ(table.dropped(), 2);
  EXPECT_EQ(table.sampler().count(), 3U);
  for (const int64_t id : {2, 6, 9}) {
    EXPECT_TRUE(table.sampler().holds(table.slot(id)));
    EXPECT_EQ(table.id_at(table.slot(id)), id);
  }
}

TEST(SequenceTable, RowsAfterAnUnflaggedBeginningAreANewEpisode) {
  SequenceTable table({1, 0, 4, 4, 1, SequenceTail::kShift}, 1, 10, {});
  std::vector<int64_t> made;
  const std::vector<uint8_t> flags{0, 0,     kTerminated, 0, kTruncated, kFirst | kTerminated,
                                   0, kFirst};
  for (size_t row = 0; row < flags.size(); ++row) {
    table.arrive({0, static_cast<int64_t>(row), flags[row], 0}, made);
  }
  // Rows 0 to 2, 3 and 4; row 5 alone has no step; row 6 alone is cut off without one.
  ASSERT_EQ(made, (Ids{0, 1}));
  EXPECT_EQ(table.at(0).valid_length, 2);
  EXPECT_EQ(table.at(1).begin, 3);
  EXPECT_EQ(table.at(1).valid_length, 1);
}

}  // namespace
}  // namespace atari_fast
