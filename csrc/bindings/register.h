// One register_* function a concept; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace atari_fast {

void register_episodic_memory(pybind11::module_& module);
void register_frame(pybind11::module_& module);
void register_sequence_replay(pybind11::module_& module);
void register_transition_replay(pybind11::module_& module);

}  // namespace atari_fast
