// What the bindings of the replays share: options, snapshots and counts. A `Type` gives its replay
// by `core()`.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "bindings/array.h"
#include "structures/prioritized_sampler.h"

namespace atari_fast {

/// The core's options, and the frame's shape: the core sees bytes.
template <typename Options>
struct PyOptions {
  Options core;
  py::ssize_t height = 0;
  py::ssize_t width = 0;
};

/// Options with what all replays have in their settings, checked as far as numpy's types need it.
template <typename Options>
PyOptions<Options> common_options(int64_t num_envs, int64_t capacity,
                                  std::pair<int64_t, int64_t> frame_shape, int64_t frame_memory,
                                  const SamplerOptions& draws, int64_t threads) {
  PyOptions<Options> options{{}, frame_shape.first, frame_shape.second};
  constexpr size_t kMost = std::numeric_limits<uint32_t>::max();
  const size_t height = checked_size(frame_shape.first, "frame_shape[0]");
  const size_t width = checked_size(frame_shape.second, "frame_shape[1]");
  check_argument(height <= kMost && width <= kMost, "frame_shape: expected sides below 2^32, got ",
                 height, " x ", width);
  Options& o = options.core;
  o.num_envs = checked_size(num_envs, "num_envs");
  o.capacity = checked_size(capacity, "capacity");
  o.frame_bytes = height * width;
  o.row_bytes = width;
  o.frame_memory = checked_size(frame_memory, "frame_memory", 0);
  o.draws = draws;
  o.threads = checked_size(threads, "threads");
  return options;
}

/// Adds a property that asks the core. Without the GIL, short as it is: another thread may hold the
/// replay's lock for long.
template <typename Type, typename Ask>
void def_count(py::class_<Type>& type, const char* name, Ask ask, const char* doc) {
  type.def_property_readonly(
      name,
      [ask](const Type& self) {
        const py::gil_scoped_release release;
        return std::invoke(ask, self.core());
      },
      doc);
}

/// Adds what all replays have.
template <typename Type>
void def_common(py::class_<Type>& type) {
  using Release = py::call_guard<py::gil_scoped_release>;
  type.def(
      "save",
      [](const Type& self, const std::string& path, bool split, const std::string& previous) {
        self.core().save(path, {split, previous});
      },
      py::arg("path"), py::kw_only(), py::arg("split") = false, py::arg("previous") = "", Release(),
      "Writes the whole state to a file, or with `split` to several; SnapshotError when it cannot "
      "be written.");
  type.def(
      "load", [](Type& self, const std::string& path) { self.core().load(path); }, py::arg("path"),
      Release(),
      "Takes the state of a replay with the same settings out of a file, beside its own until all "
      "is read; SnapshotError for one that is damaged or of another replay, and this one is then "
      "as it was.");
  def_count(
      type, "bytes_used", [](const auto& core) { return core.bytes_used(); }, "Bytes taken now.");
  def_count(
      type, "num_rows", [](const auto& core) { return core.num_rows(); },
      "Rows appended so far over all environments.");
}

}  // namespace atari_fast
