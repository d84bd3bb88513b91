// A fixed number of threads that share loops in equal parts, chosen by position only: results never
// depend on which thread is faster.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace atari_fast {

/// Runs loops on `threads` threads, the calling one included. Thread-safe: calls from several
/// threads take turns.
class ThreadPool {
 public:
  /// Starts threads - 1 threads. Throws std::invalid_argument unless 1 <= threads <= 256.
  explicit ThreadPool(size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t threads() const { return workers_.size() + 1; }

  /// Calls work(part, begin, end) for each of at most `threads` parts of [0, count), part k with
  /// the indices [count * k / threads, count * (k + 1) / threads), and returns when all have
  /// returned. An exception of the first part that threw is thrown again. `work` must not call
  /// `run` of the same pool.
  void run(size_t count, const std::function<void(size_t, size_t, size_t)>& work);

 private:
  void stop();
  void serve(size_t part, size_t threads);
  void do_part(size_t part, size_t threads);

  std::vector<std::thread> workers_;
  std::mutex turn_;  // held by the caller whose loop is running
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  const std::function<void(size_t, size_t, size_t)>* work_ = nullptr;
  size_t count_ = 0;
  uint64_t loop_ = 0;  // number of the loop that runs
  size_t running_ = 0;
  bool stop_ = false;
  std::vector<std::exception_ptr> errors_;
};

}  // namespace atari_fast
