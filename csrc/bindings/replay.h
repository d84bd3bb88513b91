// What the bindings of the replays share: snapshots and counts. A `Type` gives its replay by
// `core()`.
#pragma once

#include <functional>
#include <string>

#include "bindings/array.h"

namespace atari_fast {

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
