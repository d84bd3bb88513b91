#include "kernels/frame.h"

#include <string>
#include <vector>

#include "bindings/array.h"
#include "bindings/register.h"

namespace atari_fast {
namespace {

constexpr auto kRows = static_cast<py::ssize_t>(kScreenRows);
constexpr auto kColumns = static_cast<py::ssize_t>(kScreenColumns);
constexpr auto kSide = static_cast<py::ssize_t>(kFrameSide);

std::span<const uint8_t> checked_screens(const py::object& screens) {
  return checked_span<uint8_t>(screens, "screens", {kAny, 2, kRows, kColumns});
}

std::span<uint8_t> checked_out(const py::object& out, std::span<const uint8_t> screens) {
  const auto count = static_cast<py::ssize_t>(screens.size() / (2 * kScreenBytes));
  return checked_span<uint8_t, true>(out, "out", {count, kSide, kSide});
}

void py_preprocess_palette(const py::object& screens, const py::object& luma,
                           const py::object& out) {
  const auto source = checked_screens(screens);
  const auto table = checked_span<uint8_t>(luma, "luma", {kPaletteEntries});
  const auto target = checked_out(out, source);
  check_disjoint({"out", target}, {{"screens", source}, {"luma", table}});
  const py::gil_scoped_release release;
  preprocess_palette(source, table, target);
}

void py_preprocess_gray(const py::object& screens, const py::object& out) {
  const auto source = checked_screens(screens);
  const auto target = checked_out(out, source);
  check_disjoint({"out", target}, {{"screens", source}});
  const py::gil_scoped_release release;
  preprocess_gray(source, target);
}

py::list py_instruction_sets() {
  py::list names;
  for (const InstructionSet set : instruction_sets()) {
    names.append(instruction_set_name(set));
  }
  return names;
}

}  // namespace

void register_frame(py::module_& module) {
  module.def(
      "preprocess_palette", &py_preprocess_palette, py::arg("screens"), py::arg("luma"),
      py::arg("out"),
      "Turn N pairs of palette screens uint8[N, 2, 210, 160] into frames: gray levels by the "
      "table luma uint8[256], elementwise max of the pair, area resize into out "
      "uint8[N, 84, 84], which overlaps neither input. Releases the GIL.");
  module.def("preprocess_gray", &py_preprocess_gray, py::arg("screens"), py::arg("out"),
             "As preprocess_palette, from screens uint8[N, 2, 210, 160] that are gray levels.");
  module.def(
      "instruction_set", [] { return instruction_set_name(instruction_set()); },
      "Name of the vector instruction set in use: scalar, avx2, avx512 or neon.");
  module.def(
      "set_instruction_set",
      [](const std::string& name) { set_instruction_set(parse_instruction_set(name)); },
      py::arg("name"),
      "Use the named one of instruction_sets() from now on; all give equal results.");
  module.def("instruction_sets", &py_instruction_sets,
             "Names of the instruction sets that this CPU has, slowest first.");
}

}  // namespace atari_fast
