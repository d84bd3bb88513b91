// Checks that stand between numpy and the core: wrong dtype, shape, layout or writeability is an error that
// names the argument, never a silent copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"

namespace atari_fast {

namespace py = pybind11;

/// A dimension that may have any length.
inline constexpr py::ssize_t kAny = -1;

inline std::string shape_text(const std::string& dtype, std::initializer_list<py::ssize_t> shape) {
  std::string text = dtype + "[";
  const char* separator = "";
  for (const py::ssize_t n : shape) {
    text += separator + (n == kAny ? std::string("any") : std::to_string(n));
    separator = ", ";
  }
  return text + "]";
}

inline std::string array_text(const py::handle& object) {
  if (!py::isinstance<py::array>(object)) {
    return std::string(py::str(py::type::of(object).attr("__name__")));
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  std::string text = std::string(py::str(array.dtype())) + "[";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  return text + "]";
}

/// Returns the elements of `object` as a span after checking it; must be called with the GIL held.
///
/// Throws TypeError when it is no numpy array or has another dtype, ValueError when the shape, the layout
/// (C-contiguous, native byte order, aligned) or, for `Writable`, the writeability is wrong. The span lives
/// as long as the caller keeps the array.
template <typename T, bool Writable = false>
auto checked_span(const py::object& object, const char* name,
                  std::initializer_list<py::ssize_t> shape) {
  const std::string expected =
      shape_text(std::string(py::str(py::dtype::of<T>())), shape);
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(str_cat(name, ": expected a numpy array ", expected, ", got ",
                                 array_text(object), "; convert it with np.asarray"));
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().equal(py::dtype::of<T>())) {
    throw py::type_error(str_cat(name, ": expected ", expected, ", got ", array_text(array),
                                 "; call .astype(np.", std::string(py::str(py::dtype::of<T>())),
                                 ")"));
  }
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  if (same) {
    py::ssize_t axis = 0;
    for (const py::ssize_t n : shape) {
      same = same && (n == kAny || array.shape(axis) == n);
      ++axis;
    }
  }
  if (!same) {
    throw py::value_error(str_cat(name, ": expected ", expected, ", got ", array_text(array)));
  }
  const int flags = array.flags();
  if ((flags & py::array::c_style) == 0 ||
      (flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
    throw py::value_error(
        str_cat(name, ": expected a C-contiguous array; call np.ascontiguousarray"));
  }
  if constexpr (Writable) {
    if (!array.writeable()) {
      throw py::value_error(str_cat(name, ": expected a writable array, got a read-only one"));
    }
    return std::span<T>(static_cast<T*>(const_cast<void*>(array.data())),
                        static_cast<size_t>(array.size()));
  } else {
    return std::span<const T>(static_cast<const T*>(array.data()),
                              static_cast<size_t>(array.size()));
  }
}

}  // namespace atari_fast
