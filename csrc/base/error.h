// Checked errors. User input is never validated by `assert`: a wrong argument throws with a
// sentence.
#pragma once

#include <concepts>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace atari_fast {

inline void append_text(std::string& out, std::string_view text) { out += text; }
inline void append_text(std::string& out, char text) { out += text; }
inline void append_text(std::string& out, std::integral auto number) {
  out += std::to_string(number);
}
inline void append_text(std::string& out, double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  out += text;
}

/// Joins its arguments into one string; real numbers get six digits.
///
/// Without C++ streams: where a compiler links its own libstdc++ into the module, their locales
/// clash with those of the libstdc++ that torch has loaded, and the first number printed crashes.
template <typename... Parts>
std::string str_cat(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
}

/// Throws std::invalid_argument (ValueError in Python) with the joined message unless `ok`.
template <typename... Parts>
void check_argument(bool ok, const Parts&... message) {
  if (!ok) [[unlikely]] {
    throw std::invalid_argument(str_cat(message...));
  }
}

}  // namespace atari_fast
