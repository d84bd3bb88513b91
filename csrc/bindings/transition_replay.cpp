#include "replay/transition_replay.h"

#include <string>
#include <utility>
#include <vector>

#include "bindings/array.h"
#include "bindings/register.h"
#include "bindings/replay.h"

namespace atari_fast {
namespace {

using Options = PyOptions<TransitionReplayOptions>;

class PyTransitionReplay {
 public:
  explicit PyTransitionReplay(const Options& options)
      : replay_(options.core), height_(options.height), width_(options.width) {}

  void append(const py::object& frames, const py::object& actions, const py::object& rewards,
              const py::object& flags, const py::object& envs) {
    const auto e = checked_envs(envs);
    const auto n = static_cast<py::ssize_t>(e ? e->size() : replay_.options().num_envs);
    const auto f = checked_span<uint8_t>(frames, "frames", {n, height_, width_});
    const auto a = checked_span<int64_t>(actions, "actions", {n});
    const auto r = checked_span<float>(rewards, "rewards", {n});
    const auto g = checked_span<uint8_t>(flags, "flags", {n});
    const py::gil_scoped_release release;
    replay_.append(f, a, r, g, e);
  }

  void sample_into(double beta, const py::object& frames, const py::object& actions,
                   const py::object& rewards, const py::object& discounts, const py::object& steps,
                   const py::object& weights, const py::object& ids) {
    const TransitionBatch batch =
        checked_batch(frames, actions, rewards, discounts, steps, weights, ids);
    const py::gil_scoped_release release;
    replay_.sample(beta, batch);
  }

  py::array_t<int64_t> valid_ids() const {
    std::vector<int64_t> ids;
    {
      const py::gil_scoped_release release;
      ids = replay_.valid_ids();
    }
    return py::array_t<int64_t>(static_cast<py::ssize_t>(ids.size()), ids.data());
  }

  void read_into(const py::object& frames, const py::object& actions, const py::object& rewards,
                 const py::object& discounts, const py::object& steps, const py::object& weights,
                 const py::object& ids) {
    const TransitionBatch batch =
        checked_batch(frames, actions, rewards, discounts, steps, weights, ids);
    const py::gil_scoped_release release;
    replay_.read(batch);
  }

  size_t update_priorities(const py::object& ids, const py::object& priorities) {
    const auto i = checked_span<int64_t>(ids, "ids", {kAny});
    const auto p =
        checked_span<float>(priorities, "priorities", {static_cast<py::ssize_t>(i.size())});
    const py::gil_scoped_release release;
    return replay_.update_priorities(i, p);
  }

  const TransitionReplay& core() const { return replay_; }
  TransitionReplay& core() { return replay_; }

 private:
  TransitionBatch checked_batch(const py::object& frames, const py::object& actions,
                                const py::object& rewards, const py::object& discounts,
                                const py::object& steps, const py::object& weights,
                                const py::object& ids) const {
    const auto window =
        static_cast<py::ssize_t>(replay_.options().stack + replay_.options().n_step);
    TransitionBatch batch;
    batch.actions = checked_span<int64_t, true>(actions, "actions", {kAny});
    const auto size = static_cast<py::ssize_t>(batch.actions.size());
    batch.frames = checked_span<uint8_t, true>(frames, "frames", {size, window, height_, width_});
    batch.rewards = checked_span<float, true>(rewards, "rewards", {size});
    batch.discounts = checked_span<float, true>(discounts, "discounts", {size});
    batch.steps = checked_span<int64_t, true>(steps, "steps", {size});
    batch.weights = checked_span<float, true>(weights, "weights", {size});
    batch.ids = checked_span<int64_t, true>(ids, "ids", {size});
    const Extent f("frames", batch.frames);
    const Extent a("actions", batch.actions);
    const Extent r("rewards", batch.rewards);
    const Extent d("discounts", batch.discounts);
    const Extent s("steps", batch.steps);
    const Extent w("weights", batch.weights);
    check_disjoint(a, {f});
    check_disjoint(r, {f, a});
    check_disjoint(d, {f, a, r});
    check_disjoint(s, {f, a, r, d});
    check_disjoint(w, {f, a, r, d, s});
    check_disjoint({"ids", batch.ids}, {f, a, r, d, s, w});
    return batch;
  }

  TransitionReplay replay_;
  py::ssize_t height_;
  py::ssize_t width_;
};

Options make_options(int64_t num_envs, int64_t capacity, std::pair<int64_t, int64_t> frame_shape,
                     int64_t stack, int64_t n_step, double gamma, double reward_clip,
                     bool zero_discount_on_life_loss, bool prioritized, double alpha,
                     double priority_epsilon, double uniform_mix, bool stratified,
                     bool buffer_max_weights, int64_t frame_memory, int64_t threads,
                     uint64_t seed) {
  Options options = common_options<TransitionReplayOptions>(
      num_envs, capacity, frame_shape, frame_memory,
      {prioritized, alpha, priority_epsilon, uniform_mix, buffer_max_weights, stratified, seed},
      threads);
  TransitionReplayOptions& o = options.core;
  o.stack = checked_size(stack, "stack");
  o.n_step = checked_size(n_step, "n_step");
  o.gamma = gamma;
  o.reward_clip = reward_clip;
  o.zero_discount_on_life_loss = zero_discount_on_life_loss;
  checked_options(o);
  return options;
}

void register_options(py::module_& module) {
  py::class_<Options>(module, "TransitionReplayOptions", "Checked settings of a TransitionReplay.")
      .def(py::init(&make_options), py::kw_only(), py::arg("num_envs"), py::arg("capacity"),
           py::arg("frame_shape"), py::arg("stack"), py::arg("n_step"), py::arg("gamma"),
           py::arg("reward_clip"), py::arg("zero_discount_on_life_loss"), py::arg("prioritized"),
           py::arg("alpha"), py::arg("priority_epsilon"), py::arg("uniform_mix"),
           py::arg("stratified"), py::arg("buffer_max_weights"), py::arg("frame_memory"),
           py::arg("threads"), py::arg("seed"))
      .def_property_readonly(
          "memory_bytes", [](const Options& o) { return TransitionReplay::memory_bytes(o.core); },
          "The most bytes of memory that such a replay ever takes.");
}

void register_sum_tree(py::module_& module) {
  py::class_<SumTree>(module, "SumTree", "Sum tree over non-negative float64 weights.")
      .def(py::init([](int64_t size) { return SumTree(checked_size(size, "size")); }),
           py::arg("size"))
      .def(
          "set",
          [](SumTree& tree, const py::object& indices, const py::object& weights) {
            const auto i = checked_span<int64_t>(indices, "indices", {kAny});
            const auto w =
                checked_span<double>(weights, "weights", {static_cast<py::ssize_t>(i.size())});
            tree.set(i, w);
          },
          py::arg("indices"), py::arg("weights"),
          "Sets weights float64[n] of leaves int64[n]; of equal indices the last one wins.")
      .def(
          "get", [](const SumTree& tree, size_t index) { return tree.get(index); },
          py::arg("index"), "Weight of a leaf.")
      .def(
          "find", [](const SumTree& tree, double u) { return tree.find(u); }, py::arg("u"),
          "The leaf in whose share of [0, total) u falls; never one of weight 0.")
      .def(
          "find_into",
          [](const SumTree& tree, const py::object& us, const py::object& leaves) {
            const auto u = checked_span<double>(us, "us", {kAny});
            const auto out =
                checked_span<int64_t, true>(leaves, "leaves", {static_cast<py::ssize_t>(u.size())});
            check_disjoint({"leaves", out}, {{"us", u}});
            tree.find(u, out);
          },
          py::arg("us"), py::arg("leaves"), "Many at once: us float64[n] into leaves int64[n].")
      .def_property_readonly("total", &SumTree::total, "Sum of all weights.");
}

}  // namespace

void register_transition_replay(py::module_& module) {
  register_sum_tree(module);
  register_options(module);
  py::class_<PyTransitionReplay> replay(module, "TransitionReplay",
                                        "Replay of n-step transitions over stacks of frames.");
  replay.def(py::init<const Options&>(), py::arg("options"))
      .def("append", &PyTransitionReplay::append, py::arg("frames"), py::arg("actions"),
           py::arg("rewards"), py::arg("flags"), py::arg("envs") = py::none(),
           "Appends one row to each of the environments int64[n], or to all E: uint8[n, H, W], "
           "int64[n], float32[n], uint8[n].")
      .def("sample_into", &PyTransitionReplay::sample_into, py::arg("beta"), py::arg("frames"),
           py::arg("actions"), py::arg("rewards"), py::arg("discounts"), py::arg("steps"),
           py::arg("weights"), py::arg("ids"),
           "Draws B transitions into the given arrays: uint8[B, stack + n, H, W], int64[B], "
           "float32[B], float32[B], int64[B], float32[B], int64[B].")
      .def("valid_ids", &PyTransitionReplay::valid_ids,
           "Ids int64[num_valid] of all transitions that can be drawn, ascending.")
      .def("read_into", &PyTransitionReplay::read_into, py::arg("frames"), py::arg("actions"),
           py::arg("rewards"), py::arg("discounts"), py::arg("steps"), py::arg("weights"),
           py::arg("ids"),
           "Fills the arrays of sample_into with the transitions of ids int64[B], weights 1; "
           "changes nothing of the replay.")
      .def("update_priorities", &PyTransitionReplay::update_priorities, py::arg("ids"),
           py::arg("priorities"),
           "Sets priorities float32[n] of ids int64[n]; returns how many ids were stale.");
  def_common(replay);
  def_count(replay, "num_valid", &TransitionReplay::num_valid, "Transitions that can be drawn.");
}

}  // namespace atari_fast
