#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace atari_fast {
namespace {

TEST(ThreadPool, EveryIndexIsVisitedOnceByThePartItBelongsTo) {
  for (const size_t threads : {1U, 2U, 3U, 7U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (size_t count = 0; count < 40; ++count) {
      std::vector<std::atomic<int>> visits(count);
      pool.run(count, [&](size_t part, size_t begin, size_t end) {
        EXPECT_LT(part, threads);
        for (size_t i = begin; i < end; ++i) {
          ++visits[i];
        }
      });
      for (const auto& visit : visits) {
        EXPECT_EQ(visit, 1);
      }
    }
  }
}

TEST(ThreadPool, AnExceptionComesOutAndThePoolGoesOn) {
  ThreadPool pool(3);
  const auto fail = [](size_t part, size_t, size_t) {
    if (part == 1) {
      throw std::runtime_error("part 1");
    }
  };
  for (int turn = 0; turn < 20; ++turn) {
    EXPECT_THROW(pool.run(30, fail), std::runtime_error);
    std::atomic<size_t> sum = 0;
    pool.run(30, [&](size_t, size_t begin, size_t end) { sum += end - begin; });
    EXPECT_EQ(sum, 30U);
  }
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<size_t> sum = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int turn = 0; turn < 200; ++turn) {
        pool.run(10, [&](size_t, size_t begin, size_t end) { sum += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  EXPECT_EQ(sum, 4U * 200 * 10);
}

TEST(ThreadPool, WrongNumbersAreRefused) {
  EXPECT_THROW(ThreadPool(0), std::invalid_argument);
  EXPECT_THROW(ThreadPool(257), std::invalid_argument);
}

}  // namespace
}  // namespace atari_fast
