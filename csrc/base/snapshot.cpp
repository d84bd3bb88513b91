#include "base/snapshot.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/crc32c.h"
#include "base/error.h"

namespace atari_fast {
namespace {

static_assert(std::endian::native == std::endian::little, "snapshots are little-endian");

constexpr std::array<char, 8> kMagic{'A', 'F', 'S', 'N', 'A', 'P', '0', '1'};
constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kKindBytes = 32;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::array<char, kKindBytes> kind{};
  uint32_t version = 0;
  uint32_t crc = 0;  // of the bytes before

  Header() = default;
  Header(std::string_view name, uint32_t format) : version(format) {
    std::copy_n(name.begin(), std::min(name.size(), kKindBytes), kind.begin());
    crc = sum();
  }

  uint32_t sum() const {
    return crc32c({reinterpret_cast<const uint8_t*>(this), offsetof(Header, crc)});
  }
};
static_assert(sizeof(Header) == 48 && std::is_trivially_copyable_v<Header>);

struct BlockHeader {
  uint32_t bytes = 0;
  uint32_t crc = 0;
};

constexpr uint32_t kPart = uint32_t{1} << 31;  // in BlockHeader::bytes: a Part follows
constexpr uint64_t kPartBytes = uint64_t{1} << 26;
constexpr size_t kNameBytes = 44;

/// Stands for the bytes of a part that is a file of its own.
struct Part {
  uint64_t bytes = 0;
  uint32_t crc = 0;
  std::array<char, kNameBytes> name{};  // ends with a 0
};
static_assert(sizeof(Part) == 56 && std::is_trivially_copyable_v<Part>);

std::span<const uint8_t> bytes_of(const Part& part) {
  return {reinterpret_cast<const uint8_t*>(&part), sizeof part};
}

bool is_name(const std::array<char, kNameBytes>& name) {
  const std::string_view text(name.data(), strnlen(name.data(), name.size()));
  return !text.empty() && text.size() < name.size() &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

/// The file of a part of the snapshot at `path`.
std::string part_path(const std::string& path, std::string_view name) {
  constexpr std::string_view kEnding = ".bin";
  const size_t stem = path.ends_with(kEnding) ? path.size() - kEnding.size() : path.size();
  return str_cat(path.substr(0, stem), "-", name, kEnding);
}

/// Reads a part's file; false unless it is there and has the part's size and checksum.
bool read_file(const std::string& path, const Part& part, std::vector<uint8_t>& bytes) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rbe"));
  bytes.resize(part.bytes);
  return file && std::fread(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() &&
         std::fgetc(file.get()) == EOF && crc32c(bytes) == part.crc;
}

/// Writes a part's file and waits until the disk has it; false when that fails.
bool write_file(const std::string& path, std::span<const std::span<const uint8_t>> pieces) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "wbe"));
  return file &&
         std::all_of(pieces.begin(), pieces.end(),
                     [&](std::span<const uint8_t> piece) {
                       return std::fwrite(piece.data(), 1, piece.size(), file.get()) ==
                              piece.size();
                     }) &&
         std::fflush(file.get()) == 0 && fsync(fileno(file.get())) == 0;
}

std::string reason() { return std::generic_category().message(errno); }

}  // namespace

SnapshotWriter::SnapshotWriter(const std::string& path, std::string_view kind, uint32_t version,
                               SnapshotFiles files)
    : path_(path), file_(std::fopen(path.c_str(), "wbe")), files_(std::move(files)) {
  if (!file_) {
    throw SnapshotError(str_cat(path, ": cannot be written (", reason(), ")"));
  }
  std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // blocks are large enough
  block_.reserve(kBlockBytes);
  const Header header(kind, version);
  put(&header, sizeof header);
}

void SnapshotWriter::put(const void* data, size_t bytes) {
  if (bytes > 0 && std::fwrite(data, 1, bytes, file_.get()) != bytes) {
    throw SnapshotError(str_cat(path_, ": cannot be written (", reason(), ")"));
  }
}

void SnapshotWriter::write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), kBlockBytes - block_.size());
    block_.insert(block_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(part));
    bytes = bytes.subspan(part);
    if (block_.size() == kBlockBytes) {
      flush_block();
    }
  }
}

void SnapshotWriter::part(std::string_view name, std::span<const std::span<const uint8_t>> pieces) {
  if (!files_.split) {
    for (const std::span<const uint8_t> piece : pieces) {
      write(piece);
    }
    return;
  }
  Part part;
  std::copy_n(name.begin(), std::min(name.size(), kNameBytes - 1), part.name.begin());
  for (const std::span<const uint8_t> piece : pieces) {
    part.bytes += piece.size();
    part.crc = crc32c(piece, part.crc);
  }
  if (!block_.empty()) {
    flush_block();
  }
  const std::string file = part_path(path_, name);
  const std::string before = files_.previous.empty() ? "" : part_path(files_.previous, name);
  const bool linked =
      !before.empty() && read_file(before, part, block_) && link(before.c_str(), file.c_str()) == 0;
  block_.clear();
  if (!linked && !write_file(file, pieces)) {
    throw SnapshotError(str_cat(file, ": cannot be written (", reason(), ")"));
  }
  const BlockHeader header{kPart, crc32c(bytes_of(part))};
  put(&header, sizeof header);
  put(&part, sizeof part);
}

void SnapshotWriter::flush_block() {
  const BlockHeader header{static_cast<uint32_t>(block_.size()), crc32c(block_)};
  put(&header, sizeof header);
  put(block_.data(), block_.size());
  block_.clear();
}

void SnapshotWriter::finish() {
  if (!block_.empty()) {
    flush_block();
  }
  flush_block();  // the empty block is the end mark
  if (std::fflush(file_.get()) != 0 || fsync(fileno(file_.get())) != 0) {
    throw SnapshotError(str_cat(path_, ": cannot be written (", reason(), ")"));
  }
  file_.reset();
}

SnapshotReader::SnapshotReader(const std::string& path, std::string_view kind, uint32_t version)
    : path_(path), file_(std::fopen(path.c_str(), "rbe")) {
  if (!file_) {
    throw SnapshotError(str_cat(path, ": cannot be read (", reason(), ")"));
  }
  Header header;
  get(&header, sizeof header);
  check(header.magic == kMagic, "it is no snapshot of atari_fast");
  check(header.crc == header.sum(), "its header is damaged");
  const Header expected(kind, version);
  check(header.kind == expected.kind, str_cat("it holds another thing than a ", kind));
  check(header.version == version,
        str_cat("its format is version ", header.version, ", this program reads ", version));
  while (next_block()) {
  }
  char beyond = 0;
  check(std::fread(&beyond, 1, 1, file_.get()) == 0, "it goes on behind its end");
  check(std::fseek(file_.get(), sizeof header, SEEK_SET) == 0, "it cannot be read again");
  block_.clear();
}

void SnapshotReader::check(bool ok, std::string_view what) const {
  if (!ok) [[unlikely]] {
    throw SnapshotError(str_cat(path_, ": this snapshot is refused: ", what));
  }
}

void SnapshotReader::get(void* data, size_t bytes) {
  check(std::fread(data, 1, bytes, file_.get()) == bytes, "it is cut short");
}

bool SnapshotReader::next_block() {
  BlockHeader header;
  get(&header, sizeof header);
  if (header.bytes == kPart) {
    read_part(header.crc);
    return true;
  }
  check(header.bytes <= kBlockBytes, "a block is longer than any is written");
  block_.resize(header.bytes);
  get(block_.data(), block_.size());
  check(header.crc == crc32c(block_), "the checksum of a block is wrong");
  position_ = 0;
  return header.bytes > 0;
}

void SnapshotReader::read_part(uint32_t crc) {
  Part part;
  get(&part, sizeof part);
  check(crc == crc32c(bytes_of(part)), "the checksum of a block is wrong");
  check(is_name(part.name) && part.bytes > 0 && part.bytes <= kPartBytes,
        "it speaks of a part that is never written");
  const std::string file = part_path(path_, part.name.data());
  check(read_file(file, part, block_), str_cat("its part ", file, " is missing or damaged"));
  position_ = 0;
}

void SnapshotReader::read(std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    if (position_ == block_.size()) {
      check(next_block(), "it ends before all was read");
    }
    const size_t part = std::min(bytes.size(), block_.size() - position_);
    std::memcpy(bytes.data(), block_.data() + position_, part);
    position_ += part;
    bytes = bytes.subspan(part);
  }
}

void SnapshotReader::finish() {
  check(position_ == block_.size() && !next_block(), "it holds more than was read");
}

}  // namespace atari_fast
