#include "base/thread_pool.h"

#include "base/error.h"

namespace atari_fast {

ThreadPool::ThreadPool(size_t threads) {
  check_argument(threads >= 1 && threads <= 256, "threads: expected a number from 1 to 256, got ",
                 threads);
  errors_.resize(threads);
  workers_.reserve(threads - 1);
  try {
    for (size_t part = 1; part < threads; ++part) {
      workers_.emplace_back([this, threads, part] { serve(part, threads); });
    }
  } catch (...) {  // the system gave no more threads
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

void ThreadPool::run(size_t count, const std::function<void(size_t, size_t, size_t)>& work) {
  if (workers_.empty() || count <= 1) {
    if (count > 0) {
      work(0, 0, count);
    }
    return;
  }
  const std::lock_guard turn(turn_);
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    count_ = count;
    running_ = workers_.size();
    ++loop_;
  }
  start_.notify_all();
  do_part(0, threads());
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
  std::exception_ptr first;
  for (std::exception_ptr& error : errors_) {
    if (error && !first) {
      first = error;
    }
    error = nullptr;
  }
  if (first) {
    std::rethrow_exception(first);
  }
}

void ThreadPool::serve(size_t part, size_t threads) {
  uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stop_ || loop_ != seen; });
      if (stop_) {
        return;
      }
      seen = loop_;
    }
    do_part(part, threads);
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      last = --running_ == 0;
    }
    if (last) {
      done_.notify_one();
    }
  }
}

void ThreadPool::do_part(size_t part, size_t threads) {
  const size_t begin = count_ * part / threads;
  const size_t end = count_ * (part + 1) / threads;
  if (begin == end) {
    return;
  }
  try {
    (*work_)(part, begin, end);
  } catch (...) {
    errors_[part] = std::current_exception();
  }
}

}  // namespace atari_fast
