// The vector instructions that the kernels may use, chosen once a process and changeable for tests.
#pragma once

#include <string_view>
#include <vector>

namespace atari_fast {

/// A family of vector instructions; every kernel gives equal results with each of them.
enum class InstructionSet {
  kScalar,  ///< portable C++
  kAvx2,    ///< x86-64 with AVX2
  kAvx512,  ///< x86-64 with AVX-512 F, BW, VL and VBMI
  kNeon,    ///< aarch64
};

/// "scalar", "avx2", "avx512" or "neon".
std::string_view instruction_set_name(InstructionSet set);

/// The inverse of `instruction_set_name`. Throws std::invalid_argument for another text.
InstructionSet parse_instruction_set(std::string_view name);

/// The sets that this CPU has, slowest first. Only kScalar where the environment variable
/// AF_FORCE_SCALAR is set to anything but "" and "0", and none above kAvx2 where AF_FORCE_AVX2 is
/// (both are read once).
const std::vector<InstructionSet>& instruction_sets();

/// The last of `instruction_sets()`.
InstructionSet best_instruction_set();

/// The set in use; at first the best one. Thread-safe.
InstructionSet instruction_set();

/// Chooses the set for calls that start from now on, in every thread. Throws std::invalid_argument
/// unless `set` is one of `instruction_sets()`.
void set_instruction_set(InstructionSet set);

}  // namespace atari_fast
