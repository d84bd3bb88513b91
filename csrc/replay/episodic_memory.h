// The episodic part of NGU's intrinsic reward (Badia et al. 2020, section 2 and appendix A).
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "structures/embedding_ring.h"

namespace atari_fast {

/// What is done while a memory holds fewer than k rows, about which the paper is silent.
enum class ShortMemory : uint8_t {
  kUse,    ///< the kernel sum has fewer terms, so the reward is larger
  kZero,   ///< the reward is 0
  kScale,  ///< the kernel sum of k' < k terms is multiplied by k / k'
};

/// Settings of an EpisodicMemory; its constructor checks them.
struct EpisodicMemoryOptions {
  size_t num_envs = 1;              ///< E
  size_t capacity = 30'000;         ///< rows kept of each environment
  size_t dim = 32;                  ///< D, numbers of an embedding
  size_t neighbours = 10;           ///< k, from 1 to 4096
  double kernel_epsilon = 1e-4;     ///< eps > 0 (Table 5; appendix A.1 prints 1e-3)
  double cluster_distance = 0.008;  ///< xi >= 0
  double pseudo_count = 0.001;      ///< c > 0
  double max_similarity = 8.0;      ///< s_m > 0
  ShortMemory short_memory = ShortMemory::kScale;
  uint64_t mean_updates = 1000;  ///< the running mean is a plain one for so many updates, then an
                                 ///< exponential one
  double mean_rate = 1e-3;       ///< rate of the exponential mean, in [0, 1]
  bool float16 = false;  ///< embeddings are rounded to float16 on arrival: 3 bytes a number,
                         ///< with its code, instead of 5
  size_t threads = 1;    ///< threads that share the environments; changes no result
};

/// Running mean of the squared distances of an environment, d_m^2.
struct RunningMean {
  double mean = 0.0;
  int64_t updates = 0;

  /// Whether these numbers can have come about: finite and >= 0, mean 0 where there was no update.
  bool is_valid() const;
  bool operator==(const RunningMean&) const = default;
};

/// The reward 1 / s of k' >= 1 squared distances: n_i = max(d_i / mean - xi, 0), or 0 where the
/// mean is 0, s = sqrt(sum_i eps / (n_i + eps)) + c; 0 where s > s_m.
double episodic_reward(std::span<const double> distances, double mean,
                       const EpisodicMemoryOptions& options);

/// One memory of embeddings for each of E environments, and the novelty of new ones.
///
/// Search is exact; of equal distances that of the older row wins. Sums over neighbours and means
/// are float64. Memory grows as rows arrive and is kept by `reset`. All methods are thread-safe
/// (one mutex).
class EpisodicMemory {
 public:
  /// The largest number of an embedding: no squared distance of such ones overflows.
  static constexpr float kMaxNumber = 1e15f;

  /// Throws std::invalid_argument when a setting is out of range, std::bad_alloc when memory is
  /// short.
  explicit EpisodicMemory(const EpisodicMemoryOptions& options);

  /// For each environment l of `envs` [L]: the reward of row l of `embeddings` [E, D] against the
  /// memory of l, which goes to the same place of `rewards` [L]; then the row is appended to that
  /// memory, in place of the oldest one when full. The first row of a memory has reward 0. The
  /// running mean of an environment is updated with the mean of its k' = min(k, rows) squared
  /// distances before it divides them, whatever `short_memory` says. O(L capacity D). Throws
  /// std::invalid_argument for wrong sizes, an environment that is out of range or named twice, or,
  /// naming the environment, a number that is not finite or above kMaxNumber (float16: 65504) in
  /// size; nothing is then changed.
  void novelty(std::span<const float> embeddings, std::span<const int64_t> envs,
               std::span<float> rewards);

  /// Appends as `novelty` does, without a reward or an update of the running mean: for memories
  /// that are filled from rows at hand. O(L D). Throws as `novelty`.
  void append(std::span<const float> embeddings, std::span<const int64_t> envs);

  /// Empties the memories of `envs`; running means stay. Throws std::invalid_argument for an
  /// environment out of range; nothing is then changed.
  void reset(std::span<const int64_t> envs);

  /// Rows that each environment holds.
  std::vector<size_t> sizes() const;
  /// The running mean of each environment.
  std::vector<RunningMean> running_means() const;
  /// Sets the running means [E]. Throws std::invalid_argument unless all are valid; nothing is then
  /// changed.
  void set_running_means(std::span<const RunningMean> means);

  /// Writes everything but the number of threads to a file (snapshot.h). Throws SnapshotError.
  void save(const std::string& path) const;
  /// Goes to the state of a file of an EpisodicMemory with the same settings, the number of threads
  /// aside. Takes the memory of both states for a while. Throws SnapshotError when the file is
  /// damaged, of other settings, or holds values that no memory could have; nothing is then
  /// changed.
  void load(const std::string& path);

  const EpisodicMemoryOptions& options() const { return options_; }
  /// Bytes that rows take so far.
  size_t bytes_used() const;
  /// The most that `bytes_used` can become. Throws std::invalid_argument for sizes above 2^48
  /// bytes.
  static size_t memory_bytes(const EpisodicMemoryOptions& options);

 private:
  struct EnvMemory {
    EmbeddingRing rows;
    RunningMean mean;
  };
  /// Memory of its own for each thread.
  struct Scratch {
    std::vector<float> query;
    std::vector<double> distances;
    Search search;
  };

  float max_number() const;
  void check_envs(std::span<const int64_t> envs) const;
  void check_rows(std::span<const float> embeddings, std::span<const int64_t> envs) const;
  void check_embedding(int64_t env, std::span<const float> embedding) const;
  void update(RunningMean& mean, double value) const;
  double reward_of(EnvMemory& env, Scratch& scratch) const;
  std::vector<EnvMemory> empty_memories() const;

  EpisodicMemoryOptions options_;
  mutable std::mutex mutex_;
  std::vector<EnvMemory> envs_;
  std::vector<Scratch> scratch_;
  ThreadPool pool_;
};

}  // namespace atari_fast
