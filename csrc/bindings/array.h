// Checks that stand between numpy and the core: wrong dtype, shape, layout or writeability is an
// error that names the argument, never a silent copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

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

/// Throws the error that tells why `checked_span` refuses `object`.
[[noreturn]] inline void throw_array_error(const py::object& object, const char* name,
                                           const py::dtype& dtype, bool same_dtype, bool same_shape,
                                           bool same_layout,
                                           std::initializer_list<py::ssize_t> shape) {
  const std::string type_name = py::str(py::object(dtype));
  const std::string expected = shape_text(type_name, shape);
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(str_cat(name, ": expected a numpy array ", expected, ", got ",
                                 array_text(object), "; convert it with np.asarray"));
  }
  if (!same_dtype) {
    throw py::type_error(str_cat(name, ": expected ", expected, ", got ", array_text(object),
                                 "; call .astype(np.", type_name, ")"));
  }
  if (!same_shape) {
    throw py::value_error(str_cat(name, ": expected ", expected, ", got ", array_text(object)));
  }
  if (!same_layout) {
    throw py::value_error(
        str_cat(name, ": expected a C-contiguous, aligned array; pass a .copy()"));
  }
  throw py::value_error(str_cat(name, ": expected a writable array, got a read-only one"));
}

/// Returns the elements of `object` as a span after checking it; must be called with the GIL held.
///
/// Throws TypeError when it is no numpy array or has another dtype, ValueError when the shape, the
/// layout (C-contiguous, native byte order, aligned) or, for `Writable`, the writeability is wrong.
/// The span lives as long as the caller keeps the array.
template <typename T, bool Writable = false>
auto checked_span(const py::object& object, const char* name,
                  std::initializer_list<py::ssize_t> shape) {
  using Flags = py::detail::npy_api;
  constexpr int kLayout = Flags::NPY_ARRAY_C_CONTIGUOUS_ | Flags::NPY_ARRAY_ALIGNED_;
  const bool same_dtype = py::isinstance<py::array_t<T, 0>>(object);
  bool same_shape = false;
  bool same_layout = false;
  if (same_dtype) [[likely]] {
    const auto* array = py::detail::array_proxy(object.ptr());
    same_shape =
        std::equal(shape.begin(), shape.end(), array->dimensions, array->dimensions + array->nd,
                   [](py::ssize_t want, py::ssize_t got) { return want == kAny || want == got; });
    same_layout = (array->flags & kLayout) == kLayout;
    const bool may_write = (array->flags & Flags::NPY_ARRAY_WRITEABLE_) != 0;
    if (same_shape && same_layout && (may_write || !Writable)) [[likely]] {
      using Element = std::conditional_t<Writable, T, const T>;
      size_t size = 1;
      for (int axis = 0; axis < array->nd; ++axis) {
        size *= static_cast<size_t>(array->dimensions[axis]);
      }
      return std::span<Element>(reinterpret_cast<Element*>(array->data), size);
    }
  }
  throw_array_error(object, name, py::dtype::of<T>(), same_dtype, same_shape, same_layout, shape);
}

/// The environments of an append, int64[n] or None for all; the span is as that of `checked_span`.
inline std::optional<std::span<const int64_t>> checked_envs(const py::object& envs) {
  return envs.is_none() ? std::nullopt : std::optional(checked_span<int64_t>(envs, "envs", {kAny}));
}

/// The memory of a named argument.
struct Extent {
  template <typename T>
  Extent(const char* of, std::span<T> values) : name(of), bytes(std::as_bytes(values)) {}

  const char* name;
  std::span<const std::byte> bytes;
};

/// Throws ValueError unless `output` shares no byte with any of `others`.
inline void check_disjoint(const Extent& output, std::initializer_list<Extent> others) {
  const auto begin = [](const Extent& e) { return reinterpret_cast<uintptr_t>(e.bytes.data()); };
  const auto end = [&](const Extent& e) { return begin(e) + e.bytes.size(); };
  for (const Extent& other : others) {
    if (begin(output) < end(other) && begin(other) < end(output)) [[unlikely]] {
      throw py::value_error(str_cat(output.name, ": expected memory of its own, but it overlaps ",
                                    other.name, "; pass a copy"));
    }
  }
}

/// Returns an integer argument as a size after checking it: a negative one must not wrap around.
inline size_t checked_size(int64_t value, const char* name, int64_t least = 1) {
  check_argument(value >= least, name, ": expected an integer >= ", least, ", got ", value);
  return static_cast<size_t>(value);
}

}  // namespace atari_fast
