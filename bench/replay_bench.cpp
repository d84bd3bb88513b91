// The sum tree and the replay without Python: drawing and setting leaves, appending and sampling.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "replay/transition_replay.h"
#include "structures/prioritized_sampler.h"
#include "structures/sum_tree.h"

namespace atari_fast {
namespace {

constexpr size_t kFrame = 84 * 84;
constexpr size_t kRows = size_t{1} << 17;

std::vector<double> random_weights(Rng& rng, size_t size) {
  std::vector<double> weights(size);
  for (double& weight : weights) {
    weight = 0.01 + rng.uniform();
  }
  return weights;
}

SumTree full_tree(Rng& rng, size_t size) {
  SumTree tree(size);
  std::vector<int64_t> indices(size);
  std::iota(indices.begin(), indices.end(), 0);
  tree.set(indices, random_weights(rng, size));
  return tree;
}

/// One item is one draw of an index, in batches.
void sum_tree_find(benchmark::State& state) {
  Rng rng(1);
  const SumTree tree = full_tree(rng, static_cast<size_t>(state.range(0)));
  std::vector<double> us(static_cast<size_t>(state.range(1)));
  std::vector<int64_t> leaves(us.size());
  for (auto _ : state) {
    for (double& u : us) {
      u = rng.uniform() * tree.total();
    }
    tree.find(us, leaves);
    benchmark::DoNotOptimize(leaves.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(sum_tree_find)->ArgsProduct({{100'000, 1 << 20, 10'000'000}, {1, 32, 512}});

/// One item is one draw with its importance weight, in batches of 512 of 2^20 places.
void sampler_draw(benchmark::State& state) {
  PrioritizedSampler sampler({}, size_t{1} << 20);
  Rng rng(1);
  std::vector<int64_t> all(size_t{1} << 20);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<double> weights = random_weights(rng, all.size());
  sampler.set_priorities(all, std::vector<float>(weights.begin(), weights.end()),
                         [](int64_t place) { return place; });
  std::vector<int64_t> places(512);
  std::vector<float> importance(places.size());
  for (auto _ : state) {
    sampler.use_up(sampler.draw(0.4, places, importance));
    benchmark::DoNotOptimize(importance.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(places.size()));
}
BENCHMARK(sampler_draw);

/// One item is one leaf that is set, in batches.
void sum_tree_set(benchmark::State& state) {
  Rng rng(2);
  SumTree tree = full_tree(rng, static_cast<size_t>(state.range(0)));
  const auto batch = static_cast<size_t>(state.range(1));
  const std::vector<double> weights = random_weights(rng, batch);
  std::vector<int64_t> indices(batch);
  for (auto _ : state) {
    for (int64_t& index : indices) {
      index = static_cast<int64_t>(rng.below(tree.size()));
    }
    tree.set(indices, weights);
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(sum_tree_set)->Args({1 << 20, 32})->Args({1 << 20, 512})->Args({10'000'000, 512});

/// Rows of `num_envs` environments with frames that differ, from a pool larger than the cache.
class Source {
 public:
  explicit Source(size_t num_envs) : num_envs_(num_envs), pool_((kPool + num_envs) * kFrame) {
    Rng rng(3);
    for (size_t i = 0; i < pool_.size(); i += sizeof(uint64_t)) {
      const uint64_t bits = rng.next();
      std::copy_n(reinterpret_cast<const uint8_t*>(&bits), sizeof bits, pool_.data() + i);
    }
    actions_.assign(num_envs, 1);
    rewards_.assign(num_envs, 1.0f);
    flags_.assign(num_envs, 0);
  }

  void append(TransitionReplay& replay) {
    const uint8_t flag = row_ % 800 == 0 ? kFirst : row_ % 800 == 799 ? kTerminated : 0;
    flags_.assign(num_envs_, flag);
    const std::span<const uint8_t> frames(pool_.data() + (row_ * num_envs_ % kPool) * kFrame,
                                          num_envs_ * kFrame);
    replay.append(frames, actions_, rewards_, flags_);
    ++row_;
  }

 private:
  static constexpr size_t kPool = 4096;
  size_t num_envs_;
  size_t row_ = 0;
  std::vector<uint8_t> pool_;
  std::vector<int64_t> actions_;
  std::vector<float> rewards_;
  std::vector<uint8_t> flags_;
};

TransitionReplayOptions options(size_t n_step) {
  TransitionReplayOptions o;
  o.num_envs = 8;
  o.capacity = kRows;
  o.frame_bytes = kFrame;
  o.n_step = n_step;
  o.reward_clip = 1.0;
  o.draws.prioritized = true;
  o.draws.uniform_mix = 1e-3;
  return o;
}

/// One item is one row of one environment; the ring is full and wraps.
void replay_append(benchmark::State& state) {
  TransitionReplay replay(options(1));
  Source source(8);
  for (size_t row = 0; row < kRows / 8; ++row) {
    source.append(replay);
  }
  for (auto _ : state) {
    source.append(replay);
  }
  state.SetItemsProcessed(state.iterations() * 8);
  state.SetBytesProcessed(state.iterations() * 8 * int64_t{kFrame});
}
BENCHMARK(replay_append);

/// One item is one transition; arguments: batch, n.
void replay_sample(benchmark::State& state) {
  const TransitionReplayOptions o = options(static_cast<size_t>(state.range(1)));
  const auto size = static_cast<size_t>(state.range(0));
  TransitionReplay replay(o);
  Source source(8);
  for (size_t row = 0; row < kRows / 8; ++row) {
    source.append(replay);
  }
  std::vector<uint8_t> frames(size * (o.stack + o.n_step) * kFrame);
  std::vector<int64_t> actions(size);
  std::vector<float> rewards(size);
  std::vector<float> discounts(size);
  std::vector<int64_t> steps(size);
  std::vector<float> weights(size);
  std::vector<int64_t> ids(size);
  const TransitionBatch batch{frames, actions, rewards, discounts, steps, weights, ids};
  for (auto _ : state) {
    replay.sample(0.4, batch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(frames.size()));
}
BENCHMARK(replay_sample)->Args({32, 1})->Args({256, 1})->Args({32, 3})->Args({256, 3});

}  // namespace
}  // namespace atari_fast
