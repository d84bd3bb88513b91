// What the tests of snapshots share.
#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/rng.h"

namespace atari_fast {

/// A path that no other test has; what lies there is removed with the object.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_((std::filesystem::temp_directory_path() /
               ("atari_fast_" + std::to_string(getpid()) + "_" +
                std::to_string(reinterpret_cast<uintptr_t>(this))))
                  .string()) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

  std::vector<uint8_t> bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void put(const std::vector<uint8_t>& content) const {
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
  }

 private:
  std::string path_;
};

/// A snapshot of one block with a few bytes changed and the checksum made right again.
inline std::vector<uint8_t> forged(std::vector<uint8_t> snapshot, Rng& rng) {
  constexpr size_t kHeader = 48;
  constexpr size_t kBlockHeader = 8;
  const size_t begin = kHeader + kBlockHeader;
  const size_t end = snapshot.size() - kBlockHeader;
  for (uint64_t changes = 1 + rng.below(3); changes > 0; --changes) {
    snapshot[begin + rng.below(end - begin)] = static_cast<uint8_t>(rng.next());
  }
  const uint32_t crc = crc32c({snapshot.data() + begin, end - begin});
  std::memcpy(snapshot.data() + kHeader + 4, &crc, sizeof crc);
  return snapshot;
}

}  // namespace atari_fast
