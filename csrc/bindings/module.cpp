#include <pybind11/pybind11.h>

#include "base/snapshot.h"
#include "bindings/register.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core of atari_fast: frame preprocessing and replay.";
  module.attr("__version__") = ATARI_FAST_VERSION;
  pybind11::register_exception<atari_fast::SnapshotError>(module, "SnapshotError",
                                                          PyExc_ValueError);
  atari_fast::register_episodic_memory(module);
  atari_fast::register_frame(module);
  atari_fast::register_sequence_replay(module);
  atari_fast::register_transition_replay(module);
}
