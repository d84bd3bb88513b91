#include "replay/episodic_memory.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/half.h"

namespace atari_fast {
namespace {

constexpr size_t kMaxNeighbours = 4096;

EmbeddingRingOptions ring_options(const EpisodicMemoryOptions& o) {
  return {o.capacity, o.dim, o.float16};
}

void check_positive(double value, const char* name) {
  check_argument(std::isfinite(value) && value > 0.0, name, ": expected a finite number > 0, got ",
                 value);
}

const EpisodicMemoryOptions& checked(const EpisodicMemoryOptions& o) {
  EpisodicMemory::memory_bytes(o);
  check_argument(o.neighbours >= 1 && o.neighbours <= kMaxNeighbours,
                 "neighbours: expected a number from 1 to ", kMaxNeighbours, ", got ",
                 o.neighbours);
  check_positive(o.kernel_epsilon, "kernel_epsilon");
  check_argument(std::isfinite(o.cluster_distance) && o.cluster_distance >= 0.0,
                 "cluster_distance: expected a finite number >= 0, got ", o.cluster_distance);
  check_positive(o.pseudo_count, "pseudo_count");
  check_positive(o.max_similarity, "max_similarity");
  check_argument(o.short_memory <= ShortMemory::kScale, "short_memory: expected kUse, kZero or ",
                 "kScale, got ", static_cast<int>(o.short_memory));
  check_argument(o.mean_rate >= 0.0 && o.mean_rate <= 1.0,
                 "mean_rate: expected a number in [0, 1], got ", o.mean_rate);
  return o;
}

}  // namespace

double episodic_reward(std::span<const double> distances, double mean,
                       const EpisodicMemoryOptions& o) {
  double sum = 0.0;
  for (const double distance : distances) {
    const double ratio = mean > 0.0 ? distance / mean : 0.0;
    sum += o.kernel_epsilon / (std::max(ratio - o.cluster_distance, 0.0) + o.kernel_epsilon);
  }
  if (distances.size() < o.neighbours) {
    if (o.short_memory == ShortMemory::kZero) {
      return 0.0;
    }
    if (o.short_memory == ShortMemory::kScale) {
      sum *= static_cast<double>(o.neighbours) / static_cast<double>(distances.size());
    }
  }
  const double similarity = std::sqrt(sum) + o.pseudo_count;
  return similarity > o.max_similarity ? 0.0 : 1.0 / similarity;
}

size_t EpisodicMemory::memory_bytes(const EpisodicMemoryOptions& o) {
  const size_t bytes = EmbeddingRing::memory_bytes(ring_options(o));
  const size_t most = (size_t{1} << 48) / bytes;
  check_argument(o.num_envs >= 1 && o.num_envs <= most, "num_envs: expected a number from 1 to ",
                 most, " for memories of ", bytes, " bytes, got ", o.num_envs);
  return o.num_envs * bytes;
}

EpisodicMemory::EpisodicMemory(const EpisodicMemoryOptions& options)
    : options_(checked(options)),
      envs_(empty_memories()),
      scratch_(options.threads,
               Scratch{std::vector<float>(options.dim), std::vector<double>(options.neighbours),
                       Search(options.neighbours)}),
      pool_(options.threads) {}

std::vector<EpisodicMemory::EnvMemory> EpisodicMemory::empty_memories() const {
  std::vector<EnvMemory> envs;
  envs.reserve(options_.num_envs);
  for (size_t env = 0; env < options_.num_envs; ++env) {
    envs.push_back({EmbeddingRing(ring_options(options_)), {}});
  }
  return envs;
}

void EpisodicMemory::check_envs(std::span<const int64_t> envs) const {
  for (size_t i = 0; i < envs.size(); ++i) {
    check_argument(envs[i] >= 0 && static_cast<size_t>(envs[i]) < options_.num_envs, "envs[", i,
                   "]: expected 0 <= environment < ", options_.num_envs, ", got ", envs[i]);
  }
}

float EpisodicMemory::max_number() const { return options_.float16 ? kMaxHalf : kMaxNumber; }

void EpisodicMemory::check_embedding(int64_t env, std::span<const float> embedding) const {
  const float most = max_number();
  for (size_t d = 0; d < embedding.size(); ++d) {
    if (!(std::abs(embedding[d]) <= most)) [[unlikely]] {
      throw std::invalid_argument(str_cat("embeddings: expected finite numbers of at most ", most,
                                          " in size, got ", embedding[d], " in environment ", env,
                                          ", dimension ", d));
    }
  }
}

void EpisodicMemory::check_rows(std::span<const float> embeddings,
                                std::span<const int64_t> envs) const {
  const size_t dim = options_.dim;
  check_argument(embeddings.size() == options_.num_envs * dim, "embeddings: expected float32[",
                 options_.num_envs, ", ", dim, "], ", options_.num_envs * dim, " numbers, got ",
                 embeddings.size());
  check_envs(envs);
  std::vector<bool> named(options_.num_envs);
  for (size_t i = 0; i < envs.size(); ++i) {
    const auto env = static_cast<size_t>(envs[i]);
    check_argument(!named[env], "envs[", i, "]: expected each environment once, got ", env,
                   " again");
    named[env] = true;
    check_embedding(envs[i], embeddings.subspan(env * dim, dim));
  }
}

void EpisodicMemory::novelty(std::span<const float> embeddings, std::span<const int64_t> envs,
                             std::span<float> rewards) {
  check_argument(rewards.size() == envs.size(), "rewards: expected memory for the ", envs.size(),
                 " environments, got ", rewards.size());
  check_rows(embeddings, envs);
  const std::lock_guard lock(mutex_);
  pool_.run(envs.size(), [&](size_t part, size_t begin, size_t end) {
    Scratch& scratch = scratch_[part];
    for (size_t i = begin; i < end; ++i) {
      const auto env = static_cast<size_t>(envs[i]);
      const float* row = embeddings.data() + env * options_.dim;
      std::transform(row, row + options_.dim, scratch.query.begin(),
                     [this](float x) { return options_.float16 ? from_half(to_half(x)) : x; });
      rewards[i] = static_cast<float>(reward_of(envs_[env], scratch));
      envs_[env].rows.append(scratch.query);
    }
  });
}

void EpisodicMemory::append(std::span<const float> embeddings, std::span<const int64_t> envs) {
  check_rows(embeddings, envs);
  const std::lock_guard lock(mutex_);
  for (const int64_t env : envs) {
    const auto l = static_cast<size_t>(env);
    envs_[l].rows.append(embeddings.subspan(l * options_.dim, options_.dim));
  }
}

// The reward of scratch.query, which is not in the environment's memory yet.
double EpisodicMemory::reward_of(EnvMemory& env, Scratch& scratch) const {
  env.rows.find(scratch.query, scratch.search);
  const std::span<const Neighbour> found = scratch.search.nearest.found();
  if (found.empty()) {
    return 0.0;
  }
  double sum = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    scratch.distances[i] = static_cast<double>(found[i].distance);
    sum += scratch.distances[i];
  }
  update(env.mean, sum / static_cast<double>(found.size()));
  return episodic_reward({scratch.distances.data(), found.size()}, env.mean.mean, options_);
}

bool RunningMean::is_valid() const {
  constexpr int64_t kMaxUpdates = int64_t{1} << 62;
  return std::isfinite(mean) && mean >= 0.0 && updates >= 0 && updates <= kMaxUpdates &&
         (updates > 0 || mean == 0.0);
}

void EpisodicMemory::update(RunningMean& mean, double value) const {
  ++mean.updates;
  const bool plain =
      mean.updates == 1 || static_cast<uint64_t>(mean.updates) <= options_.mean_updates;
  const double rate = plain ? 1.0 / static_cast<double>(mean.updates) : options_.mean_rate;
  mean.mean += rate * (value - mean.mean);
}

void EpisodicMemory::reset(std::span<const int64_t> envs) {
  check_envs(envs);
  const std::lock_guard lock(mutex_);
  for (const int64_t env : envs) {
    envs_[static_cast<size_t>(env)].rows.clear();
  }
}

std::vector<size_t> EpisodicMemory::sizes() const {
  const std::lock_guard lock(mutex_);
  std::vector<size_t> sizes;
  for (const EnvMemory& env : envs_) {
    sizes.push_back(env.rows.size());
  }
  return sizes;
}

std::vector<RunningMean> EpisodicMemory::running_means() const {
  const std::lock_guard lock(mutex_);
  std::vector<RunningMean> means;
  for (const EnvMemory& env : envs_) {
    means.push_back(env.mean);
  }
  return means;
}

void EpisodicMemory::set_running_means(std::span<const RunningMean> means) {
  check_argument(means.size() == options_.num_envs, "means: expected one for each of the ",
                 options_.num_envs, " environments, got ", means.size());
  for (size_t env = 0; env < means.size(); ++env) {
    check_argument(means[env].is_valid(), "means[", env,
                   "]: expected a finite mean >= 0 with updates >= 0, and 0 without updates, got ",
                   means[env].mean, " with ", means[env].updates, " updates");
  }
  const std::lock_guard lock(mutex_);
  for (size_t env = 0; env < means.size(); ++env) {
    envs_[env].mean = means[env];
  }
}

size_t EpisodicMemory::bytes_used() const {
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const EnvMemory& env : envs_) {
    bytes += env.rows.bytes_used();
  }
  return bytes;
}

}  // namespace atari_fast
