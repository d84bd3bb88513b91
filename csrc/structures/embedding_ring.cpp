#include "structures/embedding_ring.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "base/error.h"
#include "kernels/half.h"

namespace atari_fast {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kNewest = 2 * kBlockRows;  // rows that are looked at first

size_t block_bytes(const EmbeddingRingOptions& o) {
  return kBlockRows * o.dim * (o.float16 ? sizeof(uint16_t) : sizeof(float));
}

void* reserve(size_t bytes) {
  void* memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace

size_t EmbeddingRing::memory_bytes(const EmbeddingRingOptions& o) {
  constexpr size_t kMaxBytes = size_t{1} << 48;
  constexpr size_t kMaxDim = size_t{1} << 24;
  check_argument(o.dim >= 1 && o.dim <= kMaxDim, "dim: expected a number from 1 to ", kMaxDim,
                 ", got ", o.dim);
  const size_t most = kMaxBytes / block_bytes(o) * kBlockRows;
  check_argument(o.capacity >= 1 && o.capacity <= most, "capacity: expected a number from 1 to ",
                 most, " for rows of ", o.dim, " numbers, got ", o.capacity);
  return (o.capacity + kBlockRows - 1) / kBlockRows * block_bytes(o);
}

EmbeddingRing::EmbeddingRing(const EmbeddingRingOptions& options)
    : options_(options),
      block_bytes_(block_bytes(options)),
      memory_(reserve(memory_bytes(options))) {}

void EmbeddingRing::append(std::span<const float> row) {
  check_argument(row.size() == options_.dim, "row: expected ", options_.dim, " numbers, got ",
                 row.size());
  if (next_ / kBlockRows == blocks_used_) {
    std::memset(static_cast<uint8_t*>(memory_.get()) + blocks_used_ * block_bytes_, 0,
                block_bytes_);
    ++blocks_used_;
  }
  const size_t at = offset(next_);
  if (options_.float16) {
    const auto memory = elements<uint16_t>();
    for (size_t d = 0; d < row.size(); ++d) {
      memory[at + d * kBlockRows] = to_half(row[d]);
    }
  } else {
    const auto memory = elements<float>();
    for (size_t d = 0; d < row.size(); ++d) {
      memory[at + d * kBlockRows] = row[d];
    }
  }
  next_ = (next_ + 1) % options_.capacity;
  size_ = std::min(size_ + 1, options_.capacity);
}

void EmbeddingRing::offer(std::span<const float> query, size_t begin, size_t end,
                          Nearest& nearest) const {
  if (options_.float16) {
    offer_rows(query, std::span<const uint16_t>(elements<uint16_t>()), begin, end, nearest);
  } else {
    offer_rows(query, std::span<const float>(elements<float>()), begin, end, nearest);
  }
}

void EmbeddingRing::find(std::span<const float> query, Nearest& nearest) const {
  check_argument(query.size() == options_.dim, "query: expected ", options_.dim, " numbers, got ",
                 query.size());
  nearest.clear();
  if (next_ >= kNewest && size_ > kNewest) {
    // Where an episode changes slowly, its newest rows tell how near a row has to be, and most
    // blocks are left early. As many as k rows are at most so far away, so no result changes.
    offer(query, next_ - kNewest, next_, nearest);
    const bool full = nearest.is_full();
    const float bound = std::nextafter(nearest.bound(), std::numeric_limits<float>::infinity());
    nearest.clear(full ? bound : std::numeric_limits<float>::infinity());
  }
  if (size_ == options_.capacity) {
    offer(query, next_, size_, nearest);  // the oldest rows, where the ring has wrapped around
  }
  offer(query, 0, next_, nearest);
}

void EmbeddingRing::read(size_t i, std::span<float> row) const {
  check_argument(i < size_ && row.size() == options_.dim, "read: expected a row below ", size_,
                 " and memory for ", options_.dim, " numbers, got ", i, " and ", row.size());
  const size_t oldest = size_ == options_.capacity ? next_ : 0;
  const size_t at = offset((oldest + i) % options_.capacity);
  for (size_t d = 0; d < row.size(); ++d) {
    row[d] = options_.float16 ? from_half(elements<uint16_t>()[at + d * kBlockRows])
                              : elements<float>()[at + d * kBlockRows];
  }
}

void EmbeddingRing::clear() {
  size_ = 0;
  next_ = 0;
}

}  // namespace atari_fast
