// What the tests of EpisodicMemory share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "kernels/half.h"
#include "replay/episodic_memory.h"

namespace atari_fast {

/// Settings of small memories of embeddings of 3 numbers.
inline EpisodicMemoryOptions small_options(size_t num_envs) {
  EpisodicMemoryOptions o;
  o.num_envs = num_envs;
  o.capacity = 200;
  o.dim = 3;
  return o;
}

/// Numbers in [-2, 2), or with `spread` 0 whole ones, so that rows come again.
inline std::vector<float> random_row(Rng& rng, size_t dim, double spread = 1.0) {
  std::vector<float> row(dim);
  for (float& number : row) {
    number = static_cast<float>(std::floor(rng.uniform() * 4.0) - 2.0 + spread * rng.uniform());
  }
  return row;
}

/// The rewards of `envs`.
inline std::vector<float> step(EpisodicMemory& memory, const std::vector<float>& embeddings,
                               const std::vector<int64_t>& envs) {
  std::vector<float> rewards(envs.size(), -1.0f);
  memory.novelty(embeddings, envs, rewards);
  return rewards;
}

/// One environment of an EpisodicMemory, step by step as the paper has it, in float64.
class EpisodicReference {
 public:
  explicit EpisodicReference(const EpisodicMemoryOptions& options) : o_(options) {}

  void reset() { rows_.clear(); }

  double novelty(std::vector<float> row) {
    if (o_.float16) {
      std::transform(row.begin(), row.end(), row.begin(),
                     [](float x) { return from_half(to_half(x)); });
    }
    const double reward = rows_.empty() ? 0.0 : reward_of(row);
    rows_.push_back(row);
    if (rows_.size() > o_.capacity) {
      rows_.pop_front();
    }
    return reward;
  }

 private:
  double reward_of(const std::vector<float>& row) {
    std::vector<double> distances;
    for (const std::vector<float>& other : rows_) {
      double sum = 0.0;
      for (size_t d = 0; d < row.size(); ++d) {
        const double difference = static_cast<double>(row[d]) - static_cast<double>(other[d]);
        sum += difference * difference;
      }
      distances.push_back(sum);
    }
    std::sort(distances.begin(), distances.end());
    distances.resize(std::min(distances.size(), o_.neighbours));
    const auto count = static_cast<double>(distances.size());
    const double mean = std::accumulate(distances.begin(), distances.end(), 0.0) / count;
    ++updates_;
    const bool plain = updates_ == 1 || updates_ <= o_.mean_updates;
    mean_ += (plain ? 1.0 / static_cast<double>(updates_) : o_.mean_rate) * (mean - mean_);
    double kernels = 0.0;
    for (const double distance : distances) {
      const double ratio = mean_ == 0.0 ? 0.0 : distance / mean_;
      kernels +=
          o_.kernel_epsilon / (std::max(ratio - o_.cluster_distance, 0.0) + o_.kernel_epsilon);
    }
    if (distances.size() < o_.neighbours && o_.short_memory == ShortMemory::kZero) {
      return 0.0;
    }
    if (distances.size() < o_.neighbours && o_.short_memory == ShortMemory::kScale) {
      kernels *= static_cast<double>(o_.neighbours) / count;
    }
    const double similarity = std::sqrt(kernels) + o_.pseudo_count;
    return similarity > o_.max_similarity ? 0.0 : 1.0 / similarity;
  }

  EpisodicMemoryOptions o_;
  std::deque<std::vector<float>> rows_;
  double mean_ = 0.0;
  uint64_t updates_ = 0;
};

}  // namespace atari_fast
