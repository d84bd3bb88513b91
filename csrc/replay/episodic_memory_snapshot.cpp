// The snapshot of an EpisodicMemory: its settings, then of each environment the running mean and
// the rows, oldest first.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/snapshot.h"
#include "kernels/half.h"
#include "replay/episodic_memory.h"

namespace atari_fast {
namespace {

constexpr std::string_view kKind = "episodic memory";
constexpr uint32_t kVersion = 1;

void write_options(SnapshotWriter& file, const EpisodicMemoryOptions& o) {
  for (const size_t number : {o.num_envs, o.capacity, o.dim, o.neighbours}) {
    file.value(static_cast<uint64_t>(number));
  }
  for (const double number :
       {o.kernel_epsilon, o.cluster_distance, o.pseudo_count, o.max_similarity, o.mean_rate}) {
    file.value(number);
  }
  file.value(o.mean_updates);
  file.value(static_cast<uint8_t>(o.short_memory));
  file.value(static_cast<uint8_t>(o.float16));
}

void check_options(SnapshotReader& file, const EpisodicMemoryOptions& o) {
  const auto expect = [&file](auto mine, const char* name) {
    const auto theirs = file.value<decltype(mine)>();
    file.check(theirs == mine, str_cat(name, " is ", +theirs, " in it and ", +mine, " here"));
  };
  expect(static_cast<uint64_t>(o.num_envs), "num_envs");
  expect(static_cast<uint64_t>(o.capacity), "capacity");
  expect(static_cast<uint64_t>(o.dim), "dim");
  expect(static_cast<uint64_t>(o.neighbours), "neighbours");
  expect(o.kernel_epsilon, "kernel_epsilon");
  expect(o.cluster_distance, "cluster_distance");
  expect(o.pseudo_count, "pseudo_count");
  expect(o.max_similarity, "max_similarity");
  expect(o.mean_rate, "mean_rate");
  expect(o.mean_updates, "mean_updates");
  expect(static_cast<uint8_t>(o.short_memory), "short_memory");
  expect(static_cast<uint8_t>(o.float16), "float16");
}

void write_row(SnapshotWriter& file, std::span<const float> row, bool float16) {
  for (const float number : row) {
    if (float16) {
      file.value(to_half(number));
    } else {
      file.value(number);
    }
  }
}

/// Reads the numbers of a row, none of which may be above `most` in size.
void read_row(SnapshotReader& file, std::span<float> row, bool float16, float most) {
  for (float& number : row) {
    number = float16 ? from_half(file.value<uint16_t>()) : file.value<float>();
    file.check(std::abs(number) <= most, "a number of a row is not finite or too large");
  }
}

}  // namespace

void EpisodicMemory::save(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  SnapshotWriter file(path, kKind, kVersion);
  write_options(file, options_);
  std::vector<float> row(options_.dim);
  for (const EnvMemory& env : envs_) {
    file.value(env.mean.mean);
    file.value(env.mean.updates);
    file.value(static_cast<uint64_t>(env.rows.size()));
    for (size_t i = 0; i < env.rows.size(); ++i) {
      env.rows.read(i, row);
      write_row(file, row, options_.float16);
    }
  }
  file.finish();
}

void EpisodicMemory::load(const std::string& path) {
  SnapshotReader file(path, kKind, kVersion);
  check_options(file, options_);
  std::vector<EnvMemory> envs = empty_memories();
  std::vector<float> row(options_.dim);
  for (EnvMemory& env : envs) {
    env.mean.mean = file.value<double>();
    env.mean.updates = file.value<int64_t>();
    file.check(env.mean.is_valid(), "a running mean is one that cannot come about");
    const auto size = file.value<uint64_t>();
    file.check(size <= options_.capacity, "an environment holds more rows than its capacity");
    for (uint64_t i = 0; i < size; ++i) {
      read_row(file, row, options_.float16, max_number());
      env.rows.append(row);
    }
  }
  file.finish();
  const std::lock_guard lock(mutex_);
  std::swap(envs_, envs);
}

}  // namespace atari_fast
