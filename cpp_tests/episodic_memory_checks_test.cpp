// What EpisodicMemory refuses, and its snapshots.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/snapshot.h"
#include "episodic_memory_fixture.h"

namespace atari_fast {
namespace {

constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

template <typename Error>
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_NAMES(call, part)                                                               \
  do {                                                                                         \
    const std::string text = refusal<std::invalid_argument>([&] { static_cast<void>(call); }); \
    EXPECT_EQ(text.find(part), 0U) << "message: " << text;                                     \
  } while (false)

TEST(EpisodicMemoryChecks, SettingsOutOfRangeAreRefused) {
  using Change = std::function<void(EpisodicMemoryOptions&)>;
  const auto expect = [](const char* name, const std::vector<Change>& changes) {
    for (const Change& change : changes) {
      EpisodicMemoryOptions o = small_options(2);
      change(o);
      EXPECT_NAMES(EpisodicMemory{o}, name);
    }
  };
  constexpr size_t kHuge = std::numeric_limits<size_t>::max();
  expect("num_envs", {[](auto& o) { o.num_envs = 0; }, [](auto& o) { o.num_envs = kHuge; }});
  expect("capacity", {[](auto& o) { o.capacity = 0; }, [](auto& o) { o.capacity = kHuge; }});
  expect("dim", {[](auto& o) { o.dim = 0; }, [](auto& o) { o.dim = kHuge; }});
  expect("neighbours", {[](auto& o) { o.neighbours = 0; }, [](auto& o) { o.neighbours = 4097; }});
  expect("threads", {[](auto& o) { o.threads = 0; }, [](auto& o) { o.threads = 257; }});
  for (const double bad : {0.0, -1.0, kNan, kInf}) {
    expect("kernel_epsilon", {[bad](auto& o) { o.kernel_epsilon = bad; }});
    expect("pseudo_count", {[bad](auto& o) { o.pseudo_count = bad; }});
    expect("max_similarity", {[bad](auto& o) { o.max_similarity = bad; }});
  }
  for (const double bad : {-1.0, kNan, kInf}) {
    expect("cluster_distance", {[bad](auto& o) { o.cluster_distance = bad; }});
    expect("mean_rate", {[bad](auto& o) { o.mean_rate = bad; }});
  }
  expect("short_memory", {[](auto& o) { o.short_memory = static_cast<ShortMemory>(3); }});
}

TEST(EpisodicMemoryChecks, WrongArgumentsChangeNothing) {
  EpisodicMemoryOptions o = small_options(2);
  EpisodicMemory memory(o);
  const std::vector<float> good(6, 1.0f);
  step(memory, good, {0, 1});
  const std::vector<int64_t> both{0, 1};
  std::vector<float> rewards(2, -1.0f);
  EXPECT_NAMES(memory.novelty(std::vector<float>(5), both, rewards), "embeddings");
  EXPECT_NAMES(memory.novelty(good, std::vector<int64_t>{0}, rewards), "rewards");
  EXPECT_NAMES(memory.novelty(good, std::vector<int64_t>{0, 2}, rewards), "envs[1]");
  EXPECT_NAMES(memory.novelty(good, std::vector<int64_t>{-1, 0}, rewards), "envs[0]");
  EXPECT_NAMES(memory.novelty(good, std::vector<int64_t>{1, 1}, rewards), "envs[1]");
  EXPECT_NAMES(memory.append(std::vector<float>(5), both), "embeddings");
  EXPECT_NAMES(memory.append(good, std::vector<int64_t>{0, 2}), "envs[1]");
  EXPECT_NAMES(memory.append(std::vector<float>(6, kNanF), std::vector<int64_t>{0}), "embeddings");
  EXPECT_NAMES(memory.reset(std::vector<int64_t>{0, 2}), "envs[1]");
  for (const float bad : {kNanF, kInfF, -kInfF, 1.1e15f, -1.1e15f}) {
    std::vector<float> wrong = good;
    wrong[4] = bad;
    const std::string text =
        refusal<std::invalid_argument>([&] { memory.novelty(wrong, both, rewards); });
    EXPECT_NE(text.find("in environment 1, dimension 1"), std::string::npos) << text;
    step(memory, wrong, {});  // an environment that is not named may hold anything
  }
  EXPECT_EQ(rewards, (std::vector<float>{-1.0f, -1.0f}));
  EXPECT_EQ(memory.sizes(), (std::vector<size_t>{1, 1}));
  EXPECT_EQ(memory.running_means(), std::vector<RunningMean>(2));
}

TEST(EpisodicMemoryChecks, TheLargestNumbersGiveFiniteRewards) {
  for (const bool float16 : {false, true}) {
    EpisodicMemoryOptions o = small_options(1);
    o.float16 = float16;
    o.dim = 500;
    EpisodicMemory memory(o);
    const float most = float16 ? kMaxHalf : EpisodicMemory::kMaxNumber;
    step(memory, std::vector<float>(o.dim, most), {0});
    const float reward = step(memory, std::vector<float>(o.dim, -most), {0})[0];
    EXPECT_NEAR(reward, 30.5358135, 1e-4);
    EXPECT_TRUE(std::isfinite(memory.running_means()[0].mean));
    const std::vector<float> above(o.dim, std::nextafter(most, kInfF));
    EXPECT_NAMES(step(memory, above, {0}), "embeddings");
  }
}

TEST(EpisodicMemoryChecks, MeansThatCannotComeAboutAreRefused) {
  EpisodicMemory memory(small_options(2));
  const std::vector<RunningMean> good{{2.0, 7}, {0.0, 0}};
  memory.set_running_means(good);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const RunningMean bad :
       {RunningMean{kNan, 1}, RunningMean{kInf, 1}, RunningMean{-1.0, 1}, RunningMean{1.0, -1},
        RunningMean{1.0, 0}, RunningMean{1.0, kMost}}) {
    EXPECT_NAMES(memory.set_running_means(std::vector<RunningMean>{{1.0, 1}, bad}), "means[1]");
  }
  EXPECT_NAMES(memory.set_running_means(std::vector<RunningMean>{{1.0, 1}}), "means");
  EXPECT_EQ(memory.running_means(), good);
}

TEST(EpisodicMemoryChecks, CallsFromManyThreadsTakeTurns) {
  EpisodicMemoryOptions o = small_options(4);
  o.threads = 2;
  EpisodicMemory memory(o);
  std::vector<std::thread> threads;
  for (int64_t env = 0; env < 4; ++env) {
    threads.emplace_back([&memory, env] {
      Rng rng(static_cast<uint64_t>(env));
      for (int i = 0; i < 60; ++i) {
        step(memory, random_row(rng, 12), {env});
        static_cast<void>(memory.bytes_used());
        if (i == 30) {
          memory.reset(std::vector<int64_t>{env});
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(memory.sizes(), std::vector<size_t>(4, 29));
}

/// A file of its own that is gone after the test.
class EpisodicSnapshot : public testing::TestWithParam<bool> {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  EpisodicMemoryOptions options() const {
    EpisodicMemoryOptions o = small_options(3);
    o.dim = 7;
    o.capacity = 45;
    o.float16 = GetParam();
    return o;
  }

  /// Environments with no row, with some, and with more than their capacity.
  static void fill(EpisodicMemory& memory, uint64_t seed) {
    Rng rng(seed);
    for (int i = 0; i < 60; ++i) {
      step(memory, random_row(rng, 21),
           i < 20 ? std::vector<int64_t>{0, 2} : std::vector<int64_t>{2});
    }
  }

  static std::vector<float> go_on(EpisodicMemory& memory) {
    Rng rng(99);
    std::vector<float> all;
    for (int i = 0; i < 100; ++i) {
      const std::vector<float> rewards = step(memory, random_row(rng, 21), {0, 1, 2});
      all.insert(all.end(), rewards.begin(), rewards.end());
    }
    return all;
  }

  std::string path_ = (std::filesystem::temp_directory_path() /
                       ("episodic_" + std::to_string(getpid()) + ".snapshot"))
                          .string();
};

TEST_P(EpisodicSnapshot, GoesOnAsIfNothingHadHappened) {
  EpisodicMemory memory(options());
  fill(memory, 1);
  memory.save(path_);
  EpisodicMemoryOptions o = options();
  o.threads = 2;
  EpisodicMemory other(o);
  fill(other, 2);
  other.load(path_);
  EXPECT_EQ(other.sizes(), (std::vector<size_t>{20, 0, 45}));
  EXPECT_EQ(other.running_means(), memory.running_means());
  EXPECT_EQ(go_on(other), go_on(memory));
}

TEST_P(EpisodicSnapshot, OfOtherSettingsIsRefused) {
  EpisodicMemory(options()).save(path_);
  const auto expect = [this](const std::string& name, const auto& change) {
    EpisodicMemoryOptions o = options();
    change(o);
    EpisodicMemory other(o);
    const std::string text = refusal<SnapshotError>([&] { other.load(path_); });
    EXPECT_NE(text.find(name + " is "), std::string::npos) << text;
  };
  expect("num_envs", [](auto& o) { o.num_envs = 2; });
  expect("capacity", [](auto& o) { o.capacity = 46; });
  expect("dim", [](auto& o) { o.dim = 8; });
  expect("neighbours", [](auto& o) { o.neighbours = 9; });
  expect("kernel_epsilon", [](auto& o) { o.kernel_epsilon = 1e-3; });
  expect("cluster_distance", [](auto& o) { o.cluster_distance = 0.0; });
  expect("pseudo_count", [](auto& o) { o.pseudo_count = 0.1; });
  expect("max_similarity", [](auto& o) { o.max_similarity = 9.0; });
  expect("mean_rate", [](auto& o) { o.mean_rate = 0.1; });
  expect("mean_updates", [](auto& o) { o.mean_updates = 10; });
  expect("short_memory", [](auto& o) { o.short_memory = ShortMemory::kUse; });
  expect("float16", [](auto& o) { o.float16 = !o.float16; });
}

/// Writes a snapshot of an empty memory of one environment whose values `change` may change.
struct Written {
  double mean = 0.0;
  int64_t updates = 0;
  uint64_t size = 1;
  float number = 0.0f;
  uint16_t half = 0;
  bool more = false;
};

void write(const std::string& path, const EpisodicMemoryOptions& o, const Written& w) {
  SnapshotWriter file(path, "episodic memory", 1);
  for (const uint64_t number : {o.num_envs, o.capacity, o.dim, o.neighbours}) {
    file.value(number);
  }
  for (const double number :
       {o.kernel_epsilon, o.cluster_distance, o.pseudo_count, o.max_similarity, o.mean_rate}) {
    file.value(number);
  }
  file.value(o.mean_updates);
  file.value(static_cast<uint8_t>(o.short_memory));
  file.value(static_cast<uint8_t>(o.float16));
  file.value(w.mean);
  file.value(w.updates);
  file.value(w.size);
  for (uint64_t i = 0; i < w.size * o.dim; ++i) {
    if (o.float16) {
      file.value(w.half);
    } else {
      file.value(w.number);
    }
  }
  if (w.more) {
    file.value(uint8_t{0});
  }
  file.finish();
}

TEST_P(EpisodicSnapshot, WithAValueThatCannotBeIsRefusedAndChangesNothing) {
  EpisodicMemoryOptions o = options();
  o.num_envs = 1;
  EpisodicMemory memory(o);
  write(path_, o, {});
  memory.load(path_);
  EXPECT_EQ(memory.sizes()[0], 1U);
  const auto expect = [&](const std::string& part, const Written& written) {
    write(path_, o, written);
    const std::string text = refusal<SnapshotError>([&] { memory.load(path_); });
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(memory.sizes()[0], 1U);
    EXPECT_EQ(memory.running_means()[0], RunningMean{});
  };
  expect("mean", {.mean = kNan, .updates = 1});
  expect("mean", {.mean = -1.0, .updates = 1});
  expect("mean", {.mean = 1.0});
  expect("mean", {.updates = -1});
  expect("rows", {.size = 46});
  expect("rows", {.size = uint64_t{1} << 10});
  expect("more", {.more = true});
  for (const float bad : {kNanF, kInfF, -1e16f}) {
    expect("number", {.number = bad, .half = 0x7C00});
  }
  expect("number", {.number = kInfF, .half = 0xFE01});
}

TEST_P(EpisodicSnapshot, DamagedAnywhereIsRefused) {
  EpisodicMemory memory(options());
  fill(memory, 1);
  memory.save(path_);
  std::ifstream in(path_, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  EpisodicMemory other(options());
  fill(other, 2);
  const auto refused = [&](const std::string& damaged) {
    std::ofstream(path_, std::ios::binary) << damaged;
    return refusal<SnapshotError>([&] { other.load(path_); }) != "nothing was thrown";
  };
  for (size_t i = 0; i < bytes.size(); i += 13) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_TRUE(refused(damaged)) << "byte " << i;
    EXPECT_TRUE(refused(bytes.substr(0, i))) << "cut at " << i;
  }
  EXPECT_TRUE(refused(bytes + '\0'));
  EpisodicMemory reference(options());
  fill(reference, 2);
  EXPECT_EQ(go_on(other), go_on(reference));
}

INSTANTIATE_TEST_SUITE_P(Float16, EpisodicSnapshot, testing::Bool());

TEST(EpisodicMemoryChecks, AFileThatIsNotThereIsNamed) {
  EpisodicMemory memory(small_options(1));
  const std::string text = refusal<SnapshotError>([&] { memory.load("no/such/file"); });
  EXPECT_EQ(text.find("no/such/file"), 0U) << text;
  const std::string other = refusal<SnapshotError>([&] { memory.save("no/such/file"); });
  EXPECT_EQ(other.find("no/such/file"), 0U) << other;
}

}  // namespace
}  // namespace atari_fast
