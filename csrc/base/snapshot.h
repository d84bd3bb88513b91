// Files that hold the state of a replay: streamed, versioned, every block with its checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace atari_fast {

/// A snapshot that cannot be written or must not be read; the text names the file and the cause.
class SnapshotError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Closes what std::fopen opened.
struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

/// How a snapshot is laid out in files.
struct SnapshotFiles {
  /// Write parts that never change again as files of their own beside the main one: of `x.bin` the
  /// part `p` is `x-p.bin`.
  bool split = false;
  /// The main file of an earlier snapshot of the same replay, or empty: parts that are equal there
  /// are linked, not written.
  std::string previous;
};

/// Writes one file: a header, then blocks of up to 1 MiB of the bytes given, each with its length
/// and its CRC-32C, then an empty block. Native little-endian. Not thread-safe. Without `finish`
/// the file lacks its end and is refused by the reader.
class SnapshotWriter {
 public:
  /// Creates or truncates the file. `kind` names what is saved, `version` its format. Throws
  /// SnapshotError.
  SnapshotWriter(const std::string& path, std::string_view kind, uint32_t version,
                 SnapshotFiles files = {});

  /// Appends bytes that will never change again and that `name` (up to 40 of a-z, 0-9 and -) stands
  /// for, at most 64 MiB; a file of their own in a split snapshot.
  void part(std::string_view name, std::span<const std::span<const uint8_t>> pieces);

  /// Appends bytes. Throws SnapshotError when the disk does not take them.
  void write(std::span<const uint8_t> bytes);

  /// Appends the bytes of one value.
  template <typename T>
  void value(const T& item) {
    static_assert(std::is_trivially_copyable_v<T>);
    write({reinterpret_cast<const uint8_t*>(&item), sizeof(T)});
  }

  /// Appends the number of items and their bytes.
  template <typename T>
  void array(std::span<const T> items) {
    static_assert(std::is_trivially_copyable_v<T>);
    value(static_cast<uint64_t>(items.size()));
    write({reinterpret_cast<const uint8_t*>(items.data()), items.size_bytes()});
  }

  /// Writes what is left and the end mark, and waits until the disk has all of it.
  void finish();

 private:
  void flush_block();
  void put(const void* data, size_t bytes);

  std::string path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  std::vector<uint8_t> block_;
  SnapshotFiles files_;
};

/// Reads such a file after checking all of it: the constructor goes through every block once.
class SnapshotReader {
 public:
  /// Throws SnapshotError when the file is missing, damaged, cut short, longer than it should be,
  /// or of another kind or version.
  SnapshotReader(const std::string& path, std::string_view kind, uint32_t version);

  /// Reads exactly `bytes.size()` bytes. Throws SnapshotError at the end of the data.
  void read(std::span<uint8_t> bytes);

  template <typename T>
  T value() {
    static_assert(std::is_trivially_copyable_v<T>);
    T item;
    read({reinterpret_cast<uint8_t*>(&item), sizeof(T)});
    return item;
  }

  /// Reads an array of exactly `items.size()` items. Throws SnapshotError when it has another size.
  template <typename T>
  void array(std::span<T> items) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto count = value<uint64_t>();
    check(count == items.size(), "an array has another size than its settings say");
    read({reinterpret_cast<uint8_t*>(items.data()), items.size_bytes()});
  }

  /// Throws SnapshotError with `what` and the file's name unless `ok`: for values that no replay
  /// could have written.
  void check(bool ok, std::string_view what) const;

  /// Throws SnapshotError unless all data were read.
  void finish();

 private:
  /// Reads the next block, or the part that stands in its place, into block_; false at the end
  /// mark.
  bool next_block();
  void read_part(uint32_t crc);
  void get(void* data, size_t bytes);

  std::string path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  std::vector<uint8_t> block_;
  size_t position_ = 0;  // in block_
};

}  // namespace atari_fast
