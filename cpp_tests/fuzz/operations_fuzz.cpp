// libFuzzer target: any sequence of calls leaves a transition replay that gives back what went in.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "replay/transition_replay.h"
#include "transition_replay_fixture.h"

namespace atari_fast {
namespace {

constexpr size_t kNumEnvs = 2;

/// Bytes of the input, zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t next() { return at_ < size_ ? data_[at_++] : 0; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

struct Run {
  explicit Run(const TransitionReplayOptions& o) : replay(o), batch(o, 5) {}

  /// Appends a row to each of the environments in `order`, which is given unless it is all of them.
  void append(Input& input, const std::vector<int64_t>& order, bool given) {
    std::vector<uint8_t> frames;
    std::vector<uint8_t> flags;
    for (const int64_t env : order) {
      std::vector<std::vector<uint8_t>>& rows = history[env];
      std::vector<uint8_t> frame(kTagBytes);
      for (size_t i = 0; i < kTagBytes; ++i) {
        frame[i] = i % 3 != 0 && !rows.empty() ? rows.back()[i] : input.next();
      }
      frames.insert(frames.end(), frame.begin(), frame.end());
      rows.push_back(frame);
      flags.push_back(input.next() % 16);
    }
    replay.append(frames, std::vector<int64_t>(order.size(), input.next()),
                  std::vector<float>(order.size(), static_cast<float>(input.next()) - 128.0f),
                  flags, given ? Envs(order) : Envs());
  }

  void sample(Input& input) {
    if (replay.num_valid() == 0) {
      return;
    }
    replay.sample(input.next() / 128.0, batch.view());
    sampled = true;
    const size_t window = replay.options().stack + replay.options().n_step;
    for (size_t i = 0; i < batch.ids.size(); ++i) {
      const auto env = static_cast<size_t>(batch.ids[i]) % kNumEnvs;
      const auto row = static_cast<size_t>(batch.ids[i]) / kNumEnvs;
      const auto steps = static_cast<size_t>(batch.steps[i]);
      for (size_t r = row; r <= row + steps; ++r) {  // frames from the start on are never padding
        const size_t at = (i * window + replay.options().stack - 1 + r - row) * kTagBytes;
        if (!std::equal(history[env][r].begin(), history[env][r].end(),
                        batch.frames.begin() + static_cast<ptrdiff_t>(at))) {
          std::abort();
        }
      }
    }
  }

  void update(Input& input) {
    std::vector<float> priorities(batch.ids.size());
    for (float& priority : priorities) {
      priority = static_cast<float>(input.next());
    }
    if (sampled) {
      replay.update_priorities(batch.ids, priorities);
    }
  }

  /// The ids that can be drawn ascend, and all of them can be read.
  void read() {
    const std::vector<int64_t> ids = replay.valid_ids();
    if (ids.size() != replay.num_valid() ||
        std::adjacent_find(ids.begin(), ids.end(), std::greater_equal()) != ids.end()) {
      std::abort();
    }
    if (!ids.empty()) {
      ReplayBatch all(replay.options(), ids.size());
      all.ids = ids;
      replay.read(all.view());
    }
  }

  TransitionReplay replay;
  ReplayBatch batch;
  bool sampled = false;
  std::vector<std::vector<uint8_t>> history[kNumEnvs];
};

}  // namespace
}  // namespace atari_fast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atari_fast;
  Input input(data, size);
  const uint8_t shape = input.next();
  TransitionReplayOptions o =
      replay_options(kNumEnvs, 12 + shape % 40, 1 + shape % 4, 1 + shape % 3);
  o.draws.prioritized = true;
  o.draws.buffer_max_weights = (shape & 8) != 0;
  o.zero_discount_on_life_loss = (shape & 16) != 0;
  o.draws.uniform_mix = (shape & 32) != 0 ? 0.25 : 0.0;
  o.frame_memory = (shape & 64) != 0 ? 1 : 0;
  Run run(o);
  while (!input.empty()) {
    const uint8_t call = input.next() % 12;
    if (call < 6) {
      run.append(input, {0, 1}, false);
    } else if (call == 8) {
      run.append(input, {1, 0}, true);
    } else if (call == 9 || call == 10) {
      run.append(input, {call - 9}, true);
    } else if (call == 11) {
      run.read();
    } else if (call == 6) {
      run.sample(input);
    } else {
      run.update(input);
    }
  }
  run.sample(input);
  return 0;
}
