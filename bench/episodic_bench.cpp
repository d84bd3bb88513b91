// The episodic memory without Python: one memory of several sizes and 32 full ones.
#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "replay/episodic_memory.h"

namespace atari_fast {
namespace {

constexpr size_t kDim = 32;

/// Rows of which none comes again while it is still in a memory of up to 30,000 rows.
class Source {
 public:
  explicit Source(size_t num_envs) : num_envs_(num_envs), numbers_(kRows * kDim) {
    Rng rng(1);
    for (float& number : numbers_) {
      const double radius = std::sqrt(-2.0 * std::log(1.0 - rng.uniform()));
      number = static_cast<float>(radius * std::cos(6.283185307179586 * rng.uniform()));
    }
  }

  /// The next float32[num_envs, 32].
  std::span<const float> next() {
    place_ = (place_ + num_envs_) % (kRows - 32);
    return {numbers_.data() + place_ * kDim, num_envs_ * kDim};
  }

 private:
  static constexpr size_t kRows = 65'537;  // kRows - 32 is odd: each environment gets all rows
  size_t num_envs_;
  size_t place_ = 0;
  std::vector<float> numbers_;
};

/// One item is the reward of one row, which is then appended; arguments: num_envs, rows of each,
/// float16.
void episodic_novelty(benchmark::State& state) {
  EpisodicMemoryOptions o;
  o.num_envs = static_cast<size_t>(state.range(0));
  o.capacity = static_cast<size_t>(state.range(1));
  o.float16 = state.range(2) != 0;
  EpisodicMemory memory(o);
  Source source(o.num_envs);
  std::vector<int64_t> envs(o.num_envs);
  std::iota(envs.begin(), envs.end(), 0);
  for (size_t row = 0; row < o.capacity; ++row) {
    memory.append(source.next(), envs);
  }
  std::vector<float> rewards(o.num_envs);
  for (auto _ : state) {
    memory.novelty(source.next(), envs, rewards);
    benchmark::DoNotOptimize(rewards.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(EpisodicMemory::memory_bytes(o)));
}
BENCHMARK(episodic_novelty)
    ->ArgNames({"num_envs", "rows", "float16"})
    ->ArgsProduct({{1}, {500, 2'000, 10'000, 30'000}, {0, 1}})
    ->ArgsProduct({{32}, {30'000}, {0, 1}});

}  // namespace
}  // namespace atari_fast
