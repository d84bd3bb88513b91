#include "replay/sequence_replay.h"

#include <pybind11/stl.h>

#include <tuple>

#include "bindings/register.h"
#include "bindings/replay.h"
#include "bindings/vectors.h"

namespace atari_fast {
namespace {

// (name, dtype, width) of a column or state.
using Spec = std::tuple<std::string, std::string, int64_t>;

using Options = PyOptions<SequenceReplayOptions>;

class PySequenceReplay {
 public:
  explicit PySequenceReplay(const Options& options)
      : replay_(options.core),
        height_(options.height),
        width_(options.width),
        column_names_(vector_names("columns", options.core.columns)),
        states_(options.core.sequence_states()),
        state_names_(vector_names("states", states_)) {}

  py::array_t<int64_t> append(const py::object& frames, const py::object& actions,
                              const py::object& rewards, const py::object& flags,
                              const py::object& columns, const py::object& states,
                              const py::object& envs) {
    const SequenceReplayOptions& o = replay_.options();
    SequenceRows rows;
    rows.envs = checked_envs(envs);
    const auto n = static_cast<py::ssize_t>(rows.envs ? rows.envs->size() : o.num_envs);
    rows.frames = checked_span<uint8_t>(frames, "frames", {n, height_, width_});
    rows.actions = checked_span<int64_t>(actions, "actions", {n});
    rows.rewards = checked_span<float>(rewards, "rewards", {n});
    rows.flags = checked_span<uint8_t>(flags, "flags", {n});
    rows.columns = checked_vectors<false>(columns, "columns", o.columns, column_names_, {n});
    rows.states = checked_vectors<false>(states, "states", o.states, state_names_, {n});
    std::vector<NewSequence> made;
    {
      const py::gil_scoped_release release;
      made = replay_.append(rows);
    }
    py::array_t<int64_t> result({static_cast<py::ssize_t>(made.size()), py::ssize_t{5}});
    int64_t* out = result.mutable_data();
    for (const NewSequence& sequence : made) {
      for (const int64_t value : {sequence.id, sequence.env, sequence.start, sequence.valid_length,
                                  sequence.bootstrap_length}) {
        *out++ = value;
      }
    }
    return result;
  }

  void sample_into(double beta, const py::object& frames, const py::object& actions,
                   const py::object& prev_actions, const py::object& rewards,
                   const py::object& flags, const py::object& columns, const py::object& states,
                   const py::object& burn_in, const py::object& valid_length,
                   const py::object& bootstrap_length, const py::object& weights,
                   const py::object& ids) {
    const SequenceReplayOptions& o = replay_.options();
    const auto rows = static_cast<py::ssize_t>(o.shape.rows());
    const auto window = static_cast<py::ssize_t>(o.shape.frames());
    SequenceBatch batch;
    batch.ids = checked_span<int64_t, true>(ids, "ids", {kAny});
    const auto size = static_cast<py::ssize_t>(batch.ids.size());
    batch.frames = checked_span<uint8_t, true>(frames, "frames", {window, size, height_, width_});
    batch.actions = checked_span<int64_t, true>(actions, "actions", {rows, size});
    batch.prev_actions = checked_span<int64_t, true>(prev_actions, "prev_actions", {rows, size});
    batch.rewards = checked_span<float, true>(rewards, "rewards", {rows, size});
    batch.flags = checked_span<uint8_t, true>(flags, "flags", {rows, size});
    batch.columns =
        checked_vectors<true>(columns, "columns", o.columns, column_names_, {rows, size});
    batch.states = checked_vectors<true>(states, "states", states_, state_names_, {size});
    batch.burn_in = checked_span<int64_t, true>(burn_in, "burn_in", {size});
    batch.valid_length = checked_span<int64_t, true>(valid_length, "valid_length", {size});
    batch.bootstrap_length =
        checked_span<int64_t, true>(bootstrap_length, "bootstrap_length", {size});
    batch.weights = checked_span<float, true>(weights, "weights", {size});
    check_batch_disjoint(batch);
    const py::gil_scoped_release release;
    replay_.sample(beta, batch);
  }

  size_t set_priorities(const py::object& ids, const py::object& priorities) {
    const auto i = checked_span<int64_t>(ids, "ids", {kAny});
    const auto p =
        checked_span<float>(priorities, "priorities", {static_cast<py::ssize_t>(i.size())});
    const py::gil_scoped_release release;
    return replay_.set_priorities(i, p);
  }

  const SequenceReplay& core() const { return replay_; }
  SequenceReplay& core() { return replay_; }

 private:
  // Every output against all before it, in the order of the arguments.
  void check_batch_disjoint(const SequenceBatch& batch) const {
    std::vector<Extent> extents{{"frames", batch.frames},
                                {"actions", batch.actions},
                                {"prev_actions", batch.prev_actions},
                                {"rewards", batch.rewards},
                                {"flags", batch.flags}};
    for (size_t i = 0; i < batch.columns.size(); ++i) {
      extents.emplace_back(column_names_[i].c_str(), batch.columns[i]);
    }
    for (size_t i = 0; i < batch.states.size(); ++i) {
      extents.emplace_back(state_names_[i].c_str(), batch.states[i]);
    }
    extents.emplace_back("burn_in", batch.burn_in);
    extents.emplace_back("valid_length", batch.valid_length);
    extents.emplace_back("bootstrap_length", batch.bootstrap_length);
    extents.emplace_back("weights", batch.weights);
    extents.emplace_back("ids", batch.ids);
    for (size_t i = 0; i < extents.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        check_disjoint(extents[i], {extents[k]});
      }
    }
  }

  SequenceReplay replay_;
  py::ssize_t height_;
  py::ssize_t width_;
  std::vector<std::string> column_names_;
  std::vector<VectorSpec> states_;  // of a sequence; those of a row are the first of them
  std::vector<std::string> state_names_;
};

std::vector<VectorSpec> checked_specs(const std::vector<Spec>& specs, const char* what) {
  std::vector<VectorSpec> result;
  for (const auto& [name, dtype, width] : specs) {
    const std::string place = str_cat(what, "[", result.size(), "] (", name, ")");
    try {
      result.push_back({name, element_type(dtype), checked_size(width, "width")});
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(str_cat(place, ": ", error.what()));
    }
  }
  return result;
}

SequenceTail checked_tail(const std::string& tail) {
  check_argument(tail == "shift" || tail == "mask", "tail: expected shift or mask, got ", tail);
  return tail == "shift" ? SequenceTail::kShift : SequenceTail::kMask;
}

Options make_options(int64_t num_envs, int64_t capacity, std::pair<int64_t, int64_t> frame_shape,
                     int64_t stack, int64_t burn_in, int64_t unroll, int64_t period,
                     int64_t bootstrap_steps, const std::string& tail,
                     const std::vector<Spec>& columns, const std::vector<Spec>& states,
                     bool unroll_states, int64_t max_sequences, bool prioritized, double alpha,
                     double priority_epsilon, double uniform_mix, bool buffer_max_weights,
                     bool stratified, int64_t frame_memory, int64_t threads, uint64_t seed) {
  Options options = common_options<SequenceReplayOptions>(
      num_envs, capacity, frame_shape, frame_memory,
      {prioritized, alpha, priority_epsilon, uniform_mix, buffer_max_weights, stratified, seed},
      threads);
  SequenceReplayOptions& o = options.core;
  o.shape.stack = checked_size(stack, "stack");
  o.shape.burn_in = checked_size(burn_in, "burn_in", 0);
  o.shape.unroll = checked_size(unroll, "unroll");
  o.shape.period = checked_size(period, "period");
  o.shape.bootstrap_steps = checked_size(bootstrap_steps, "bootstrap_steps");
  o.shape.tail = checked_tail(tail);
  o.columns = checked_specs(columns, "columns");
  o.states = checked_specs(states, "states");
  o.unroll_states = unroll_states;
  o.max_sequences = checked_size(max_sequences, "max_sequences", 0);
  checked_options(o);
  return options;
}

void register_options(py::module_& module) {
  py::class_<Options>(module, "SequenceReplayOptions", "Checked settings of a SequenceReplay.")
      .def(py::init(&make_options), py::kw_only(), py::arg("num_envs"), py::arg("capacity"),
           py::arg("frame_shape"), py::arg("stack"), py::arg("burn_in"), py::arg("unroll"),
           py::arg("period"), py::arg("bootstrap_steps"), py::arg("tail"), py::arg("columns"),
           py::arg("states"), py::arg("unroll_states"), py::arg("max_sequences"),
           py::arg("prioritized"), py::arg("alpha"), py::arg("priority_epsilon"),
           py::arg("uniform_mix"), py::arg("buffer_max_weights"), py::arg("stratified"),
           py::arg("frame_memory"), py::arg("threads"), py::arg("seed"))
      .def_property_readonly(
          "memory_bytes", [](const Options& o) { return SequenceReplay::memory_bytes(o.core); },
          "The most bytes of memory that such a replay ever takes.");
}

}  // namespace

void register_sequence_replay(py::module_& module) {
  register_options(module);
  py::class_<PySequenceReplay> replay(
      module, "SequenceReplay", "Replay of overlapping sequences with stored recurrent states.");
  replay.def(py::init<const Options&>(), py::arg("options"))
      .def("append", &PySequenceReplay::append, py::arg("frames"), py::arg("actions"),
           py::arg("rewards"), py::arg("flags"), py::arg("columns"), py::arg("states"),
           py::arg("envs") = py::none(),
           "Appends one row to each of the environments int64[n], or to all E; returns id, "
           "environment, start, valid length and bootstrap length of each new sequence, "
           "int64[k, 5].")
      .def("sample_into", &PySequenceReplay::sample_into, py::arg("beta"), py::arg("frames"),
           py::arg("actions"), py::arg("prev_actions"), py::arg("rewards"), py::arg("flags"),
           py::arg("columns"), py::arg("states"), py::arg("burn_in"), py::arg("valid_length"),
           py::arg("bootstrap_length"), py::arg("weights"), py::arg("ids"),
           "Draws B sequences into the given arrays.")
      .def("set_priorities", &PySequenceReplay::set_priorities, py::arg("ids"),
           py::arg("priorities"),
           "Sets priorities float32[n] of ids int64[n]; returns how many ids were stale.");
  def_common(replay);
  def_count(replay, "num_sequences", &SequenceReplay::num_sequences,
            "Sequences that can be drawn.");
  def_count(replay, "num_dropped", &SequenceReplay::num_dropped,
            "Sequences dropped because max_sequences was reached.");
}

}  // namespace atari_fast
