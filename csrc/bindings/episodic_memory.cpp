#include "replay/episodic_memory.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/array.h"
#include "bindings/register.h"

namespace atari_fast {
namespace {

// For short calls too: another thread may hold the memory's lock for long.
template <typename Call>
auto without_gil(const Call& call) {
  const py::gil_scoped_release release;
  return call();
}

class PyEpisodicMemory {
 public:
  explicit PyEpisodicMemory(const EpisodicMemoryOptions& options)
      : memory_(options), num_envs_(static_cast<py::ssize_t>(options.num_envs)) {}

  void novelty_into(const py::object& embeddings, const py::object& envs,
                    const py::object& rewards) {
    const auto dim = static_cast<py::ssize_t>(memory_.options().dim);
    const auto e = checked_span<float>(embeddings, "embeddings", {num_envs_, dim});
    const auto l = checked_span<int64_t>(envs, "envs", {kAny});
    const auto r =
        checked_span<float, true>(rewards, "rewards", {static_cast<py::ssize_t>(l.size())});
    check_disjoint({"rewards", r}, {{"embeddings", e}, {"envs", l}});
    const py::gil_scoped_release release;
    memory_.novelty(e, l, r);
  }

  void append(const py::object& embeddings, const py::object& envs) {
    const auto dim = static_cast<py::ssize_t>(memory_.options().dim);
    const auto e = checked_span<float>(embeddings, "embeddings", {num_envs_, dim});
    const auto l = checked_span<int64_t>(envs, "envs", {kAny});
    const py::gil_scoped_release release;
    memory_.append(e, l);
  }

  void reset(const py::object& envs) {
    const auto l = checked_span<int64_t>(envs, "envs", {kAny});
    const py::gil_scoped_release release;
    memory_.reset(l);
  }

  py::array_t<int64_t> sizes() const {
    py::array_t<int64_t> array(num_envs_);
    const std::vector<size_t> sizes = without_gil([this] { return memory_.sizes(); });
    std::transform(sizes.begin(), sizes.end(), array.mutable_data(),
                   [](size_t size) { return static_cast<int64_t>(size); });
    return array;
  }

  std::pair<py::array_t<double>, py::array_t<int64_t>> running_means() const {
    py::array_t<double> means(num_envs_);
    py::array_t<int64_t> updates(num_envs_);
    const std::vector<RunningMean> all = without_gil([this] { return memory_.running_means(); });
    for (size_t env = 0; env < all.size(); ++env) {
      means.mutable_data()[env] = all[env].mean;
      updates.mutable_data()[env] = all[env].updates;
    }
    return {means, updates};
  }

  void set_running_means(const py::object& means, const py::object& updates) {
    const auto m = checked_span<double>(means, "means", {num_envs_});
    const auto u = checked_span<int64_t>(updates, "updates", {num_envs_});
    std::vector<RunningMean> all(m.size());
    for (size_t env = 0; env < all.size(); ++env) {
      all[env] = {m[env], u[env]};
    }
    const py::gil_scoped_release release;
    memory_.set_running_means(all);
  }

  void save(const std::string& path) const { memory_.save(path); }
  void load(const std::string& path) { memory_.load(path); }
  size_t bytes_used() const {
    return without_gil([this] { return memory_.bytes_used(); });
  }

 private:
  EpisodicMemory memory_;
  py::ssize_t num_envs_;
};

ShortMemory parse_short_memory(const std::string& name) {
  if (name == "use") {
    return ShortMemory::kUse;
  }
  if (name == "zero") {
    return ShortMemory::kZero;
  }
  check_argument(name == "scale", R"(short_memory: expected "use", "zero" or "scale", got ")", name,
                 '"');
  return ShortMemory::kScale;
}

EpisodicMemoryOptions make_options(int64_t num_envs, int64_t capacity, int64_t dim,
                                   int64_t neighbours, double kernel_epsilon,
                                   double cluster_distance, double pseudo_count,
                                   double max_similarity, const std::string& short_memory,
                                   int64_t mean_updates, double mean_rate, bool float16,
                                   int64_t threads) {
  EpisodicMemoryOptions o;
  o.num_envs = checked_size(num_envs, "num_envs");
  o.capacity = checked_size(capacity, "capacity");
  o.dim = checked_size(dim, "dim");
  o.neighbours = checked_size(neighbours, "neighbours");
  o.kernel_epsilon = kernel_epsilon;
  o.cluster_distance = cluster_distance;
  o.pseudo_count = pseudo_count;
  o.max_similarity = max_similarity;
  o.short_memory = parse_short_memory(short_memory);
  o.mean_updates = checked_size(mean_updates, "mean_updates", 0);
  o.mean_rate = mean_rate;
  o.float16 = float16;
  o.threads = checked_size(threads, "threads");
  return o;
}

}  // namespace

void register_episodic_memory(py::module_& module) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<EpisodicMemoryOptions>(module, "EpisodicMemoryOptions",
                                    "Settings of an EpisodicMemory, which checks them.")
      .def(py::init(&make_options), py::kw_only(), py::arg("num_envs"), py::arg("capacity"),
           py::arg("dim"), py::arg("neighbours"), py::arg("kernel_epsilon"),
           py::arg("cluster_distance"), py::arg("pseudo_count"), py::arg("max_similarity"),
           py::arg("short_memory"), py::arg("mean_updates"), py::arg("mean_rate"),
           py::arg("float16"), py::arg("threads"))
      .def_property_readonly("memory_bytes", &EpisodicMemory::memory_bytes,
                             "The most bytes that the rows of such a memory take.");
  py::class_<PyEpisodicMemory>(module, "EpisodicMemory",
                               "Embeddings of E environments and the novelty of new ones.")
      .def(py::init<const EpisodicMemoryOptions&>(), py::arg("options"))
      .def("novelty_into", &PyEpisodicMemory::novelty_into, py::arg("embeddings"), py::arg("envs"),
           py::arg("rewards"),
           "Rewards float32[L] of the rows of embeddings float32[E, D] that envs int64[L] names, "
           "which are then appended.")
      .def("append", &PyEpisodicMemory::append, py::arg("embeddings"), py::arg("envs"),
           "Appends the rows of embeddings float32[E, D] that envs int64[L] names, unrewarded.")
      .def("reset", &PyEpisodicMemory::reset, py::arg("envs"),
           "Empties the memories of envs int64[L]; running means stay.")
      .def_property_readonly("sizes", &PyEpisodicMemory::sizes,
                             "Rows that each environment holds, int64[E].")
      .def("running_means", &PyEpisodicMemory::running_means,
           "Running means of the squared distances float64[E] and their updates int64[E].")
      .def("set_running_means", &PyEpisodicMemory::set_running_means, py::arg("means"),
           py::arg("updates"), "Sets what running_means gives.")
      .def("save", &PyEpisodicMemory::save, py::arg("path"), Release(),
           "Writes everything but the number of threads to a file.")
      .def("load", &PyEpisodicMemory::load, py::arg("path"), Release(),
           "Goes to the state of a file of a memory with the same settings.")
      .def_property_readonly("bytes_used", &PyEpisodicMemory::bytes_used,
                             "Bytes that rows take so far.");
}

}  // namespace atari_fast
