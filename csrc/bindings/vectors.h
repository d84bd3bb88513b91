// Lists of arrays whose number, types and widths are known only at run time.
#pragma once

#include <string>
#include <vector>

#include "bindings/array.h"
#include "replay/sequence_options.h"

namespace atari_fast {

/// As `checked_span` for elements of a type chosen at run time; the span is of bytes.
template <bool Writable>
auto checked_bytes(const py::object& object, const char* name, ElementType type,
                   std::initializer_list<py::ssize_t> shape) {
  using Flags = py::detail::npy_api;
  constexpr int kLayout = Flags::NPY_ARRAY_C_CONTIGUOUS_ | Flags::NPY_ARRAY_ALIGNED_;
  const py::dtype dtype(element_name(type));
  const bool is_array = py::isinstance<py::array>(object);
  const auto* array = py::detail::array_proxy(object.ptr());
  const bool same_dtype =
      is_array && Flags::get().PyArray_EquivTypes_(array->descr, dtype.ptr()) != 0;
  bool same_shape = false;
  bool same_layout = false;
  if (same_dtype) {
    same_shape =
        std::equal(shape.begin(), shape.end(), array->dimensions, array->dimensions + array->nd);
    same_layout = (array->flags & kLayout) == kLayout;
    const bool may_write = (array->flags & Flags::NPY_ARRAY_WRITEABLE_) != 0;
    if (same_shape && same_layout && (may_write || !Writable)) {
      using Element = std::conditional_t<Writable, std::byte, const std::byte>;
      size_t size = element_bytes(type);
      for (const py::ssize_t length : shape) {
        size *= static_cast<size_t>(length);
      }
      return std::span<Element>(reinterpret_cast<Element*>(array->data), size);
    }
  }
  throw_array_error(object, name, dtype, same_dtype, same_shape, same_layout, shape);
}

/// Checks a list or tuple of arrays, one for each of the specs and in their order: `lead` axes and
/// then the spec's width. `names` are their names in errors.
template <bool Writable>
auto checked_vectors(const py::object& object, const char* what,
                     const std::vector<VectorSpec>& specs, const std::vector<std::string>& names,
                     std::initializer_list<py::ssize_t> lead) {
  using Element = std::conditional_t<Writable, std::byte, const std::byte>;
  if (!py::isinstance<py::list>(object) && !py::isinstance<py::tuple>(object)) {
    throw py::type_error(str_cat(what, ": expected a list or tuple of ", specs.size(),
                                 " arrays, got ", array_text(object)));
  }
  const auto items = py::reinterpret_borrow<py::sequence>(object);
  if (items.size() != specs.size()) {
    throw py::value_error(
        str_cat(what, ": expected ", specs.size(), " arrays, got ", items.size()));
  }
  std::vector<std::span<Element>> spans;
  for (size_t i = 0; i < specs.size(); ++i) {
    const py::object item = items[i];
    const auto width = static_cast<py::ssize_t>(specs[i].width);
    const py::ssize_t* const l = lead.begin();
    spans.push_back(
        lead.size() == 1
            ? checked_bytes<Writable>(item, names[i].c_str(), specs[i].type, {l[0], width})
            : checked_bytes<Writable>(item, names[i].c_str(), specs[i].type, {l[0], l[1], width}));
  }
  return spans;
}

/// The names of a list's arrays in errors, such as "columns[1] (policy)".
inline std::vector<std::string> vector_names(const char* what,
                                             const std::vector<VectorSpec>& specs) {
  std::vector<std::string> names;
  names.reserve(specs.size());
  for (const VectorSpec& spec : specs) {
    names.push_back(str_cat(what, "[", names.size(), "] (", spec.name, ")"));
  }
  return names;
}

}  // namespace atari_fast
