// Checked errors. User input is never validated by `assert`: a wrong argument throws with a
// sentence.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace atari_fast {

/// Joins its arguments into one string, as a stream would print them.
template <typename... Parts>
std::string str_cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws std::invalid_argument (ValueError in Python) with the joined message unless `ok`.
template <typename... Parts>
void check_argument(bool ok, const Parts&... message) {
  if (!ok) [[unlikely]] {
    throw std::invalid_argument(str_cat(message...));
  }
}

}  // namespace atari_fast
