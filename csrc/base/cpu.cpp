#include "base/cpu.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace atari_fast {
namespace {

struct Named {
  InstructionSet set;
  std::string_view name;
};

constexpr std::array<Named, 4> kNames{{{InstructionSet::kScalar, "scalar"},
                                       {InstructionSet::kAvx2, "avx2"},
                                       {InstructionSet::kAvx512, "avx512"},
                                       {InstructionSet::kNeon, "neon"}}};

/// Whether a variable is set to anything but "" and "0".
bool is_on(const char* variable) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read once, and nothing here writes the environment
  const char* text = std::getenv(variable);
  return text != nullptr && !std::string_view(text).empty() && std::string_view(text) != "0";
}

std::vector<InstructionSet> detect() {
  std::vector<InstructionSet> sets{InstructionSet::kScalar};
  if (is_on("AF_FORCE_SCALAR")) {
    return sets;
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) {
    sets.push_back(InstructionSet::kAvx2);
    if (!is_on("AF_FORCE_AVX2") && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi")) {
      sets.push_back(InstructionSet::kAvx512);
    }
  }
#elif defined(__aarch64__)
  sets.push_back(InstructionSet::kNeon);
#endif
  return sets;
}

std::string joined_names(const std::vector<InstructionSet>& sets) {
  std::string text;
  for (const InstructionSet set : sets) {
    text += (text.empty() ? "" : ", ") + std::string(instruction_set_name(set));
  }
  return text;
}

std::atomic<InstructionSet>& current() {
  static std::atomic<InstructionSet> set{best_instruction_set()};
  return set;
}

}  // namespace

std::string_view instruction_set_name(InstructionSet set) {
  for (const Named& entry : kNames) {
    if (entry.set == set) {
      return entry.name;
    }
  }
  return "unknown";
}

InstructionSet parse_instruction_set(std::string_view name) {
  const auto* const found = std::find_if(kNames.begin(), kNames.end(),
                                         [&](const Named& entry) { return entry.name == name; });
  check_argument(found != kNames.end(), "name: expected one of ", joined_names(instruction_sets()),
                 ", got '", name, "'");
  return found->set;
}

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = detect();
  return sets;
}

InstructionSet best_instruction_set() { return instruction_sets().back(); }

InstructionSet instruction_set() { return current().load(std::memory_order_relaxed); }

void set_instruction_set(InstructionSet set) {
  const std::vector<InstructionSet>& sets = instruction_sets();
  check_argument(std::find(sets.begin(), sets.end(), set) != sets.end(),
                 "set: expected an instruction set of this CPU (", joined_names(sets), "), got ",
                 instruction_set_name(set));
  current().store(set, std::memory_order_relaxed);
}

}  // namespace atari_fast
