#include "structures/embedding_ring.h"

#include <sys/mman.h>

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
constexpr size_t kHugePage = size_t{1} << 21;
constexpr size_t kNewest = 2 * kBlockRows;  // rows that are looked at first without codes
constexpr size_t kSample = 4096;            // numbers that the scale of the codes is chosen from
constexpr size_t kManyBlocks = 6;  // blocks for each of k rows from which codes are worth reading

size_t block_bytes(const EmbeddingRingOptions& o) {
  return kBlockRows * o.dim * (o.float16 ? sizeof(uint16_t) : sizeof(float));
}

size_t blocks_of(size_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

/// Memory in large pages where they fit, so that reading all of it does not wait for addresses.
void* reserve(size_t bytes) {
  const size_t page = bytes < kHugePage ? kPage : kHugePage;
  void* memory = std::aligned_alloc(page, (bytes + page - 1) / page * page);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
#if defined(MADV_HUGEPAGE)
  // Only what they fill. A system that has none changes nothing.
  static_cast<void>(madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE));
#endif
  return memory;
}

}  // namespace

size_t EmbeddingRing::memory_bytes(const EmbeddingRingOptions& o) {
  constexpr size_t kMaxBytes = size_t{1} << 48;
  constexpr size_t kMaxDim = size_t{1} << 24;
  check_argument(o.dim >= 1 && o.dim <= kMaxDim, "dim: expected a number from 1 to ", kMaxDim,
                 ", got ", o.dim);
  const size_t block = block_bytes(o) + coarse_block_bytes(o.dim);
  const size_t most = kMaxBytes / block * kBlockRows;
  check_argument(o.capacity >= 1 && o.capacity <= most, "capacity: expected a number from 1 to ",
                 most, " for rows of ", o.dim, " numbers, got ", o.capacity);
  return blocks_of(o.capacity) * block;
}

EmbeddingRing::EmbeddingRing(const EmbeddingRingOptions& options)
    : options_(options),
      block_bytes_(block_bytes(options)),
      code_bytes_(coarse_block_bytes(options.dim)),
      codes_bytes_(blocks_of(options.capacity) * code_bytes_),
      memory_(reserve(memory_bytes(options))),
      numbers_(std::max(kSample, options.dim)) {}

void EmbeddingRing::append(std::span<const float> row) {
  check_argument(row.size() == options_.dim, "row: expected ", options_.dim, " numbers, got ",
                 row.size());
  if (next_ / kBlockRows == blocks_used_) {
    std::memset(codes() + codes_bytes_ + blocks_used_ * block_bytes_, 0, block_bytes_);
    std::memset(codes() + blocks_used_ * code_bytes_, 0, code_bytes_);
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
  encode(next_);
  next_ = (next_ + 1) % options_.capacity;
  size_ = std::min(size_ + 1, options_.capacity);
  if (++since_ > fitted_) {
    fit();
  }
}

/// Makes the codes of a row from its numbers as they are kept.
void EmbeddingRing::encode(size_t position) {
  const std::span<float> row(numbers_.data(), options_.dim);
  read_position(position, row);
  uint8_t* block = codes() + position / kBlockRows * code_bytes_;
  error_ = std::max(error_, set_coarse_row(scale_, row, position % kBlockRows, block));
}

/// Chooses the scale for the rows that there are, and makes all codes anew.
void EmbeddingRing::fit() {
  const size_t dim = options_.dim;
  const size_t rows = std::clamp(kSample / dim, size_t{1}, size_);
  for (size_t i = 0; i < rows; ++i) {
    read_position(i * (size_ / rows), {numbers_.data() + i * dim, dim});
  }
  scale_ = coarse_scale({numbers_.data(), rows * dim}, dim);
  error_ = 0.0f;
  for (size_t position = 0; position < size_; ++position) {
    encode(position);
  }
  fitted_ = size_;
  since_ = 0;
}

void EmbeddingRing::offer(std::span<const float> query, size_t begin, size_t end,
                          Nearest& nearest) const {
  if (options_.float16) {
    offer_rows(query, std::span<const uint16_t>(elements<uint16_t>()), begin, end, nearest);
  } else {
    offer_rows(query, std::span<const float>(elements<float>()), begin, end, nearest);
  }
}

/// Ranks all blocks by their codes and offers the rows of the nearest ones. Returns the limit for
/// the codes of blocks with a row that is as near as the k-th of those.
uint16_t EmbeddingRing::offer_near_blocks(std::span<const float> query, Search& search) const {
  const size_t count = blocks_of(size_);
  search.query.resize(code_bytes_);
  search.least.resize(count);
  const float error = set_coarse_query(scale_, query, search.query);
  least_coarse_distances(search.query, {codes(), count * code_bytes_}, search.least);
  search.blocks.clear();
  // From the newest one back: where an episode changes slowly, those are the nearest.
  for (size_t i = 0, block = next_ / kBlockRows + 1; i < count; ++i) {
    block = (block == 0 || block > count ? count : block) - 1;
    search.blocks.offer(static_cast<float>(search.least[block]), block);
  }
  for (const Neighbour& block : search.blocks.found()) {
    const size_t first = block.row * kBlockRows;
    offer(query, first, std::min(first + kBlockRows, size_), search.nearest);
  }
  return scale_.limit(search.nearest.bound(), options_.dim, error_ + error);
}

/// Offers the rows [begin, end) of the blocks whose codes are within the limit.
void EmbeddingRing::visit(std::span<const float> query, size_t begin, size_t end, uint16_t limit,
                          Search& search) const {
  for (size_t block = begin / kBlockRows; block * kBlockRows < end; ++block) {
    if (search.least[block] <= limit) {
      const size_t first = block * kBlockRows;
      offer(query, std::max(begin, first), std::min(end, first + kBlockRows), search.nearest);
    }
  }
}

void EmbeddingRing::find(std::span<const float> query, Search& search) const {
  check_argument(query.size() == options_.dim, "query: expected ", options_.dim, " numbers, got ",
                 query.size());
  Nearest& nearest = search.nearest;
  nearest.clear();
  const bool by_codes = blocks_of(size_) >= kManyBlocks * nearest.count();
  uint16_t limit = 0;
  // Rows that are likely to be near tell how near a row has to be, and most others are left early.
  // As many as k rows are at most so far away, so no result changes.
  if (by_codes) {
    limit = offer_near_blocks(query, search);
  } else if (next_ >= kNewest && size_ > kNewest) {
    offer(query, next_ - kNewest, next_, nearest);  // where an episode changes slowly
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  nearest.clear(nearest.is_full() ? std::nextafter(nearest.bound(), kInfinity) : kInfinity);
  const auto offer_range = [&](size_t begin, size_t end) {
    if (by_codes) {
      visit(query, begin, end, limit, search);
    } else {
      offer(query, begin, end, nearest);
    }
  };
  if (size_ == options_.capacity) {
    offer_range(next_, size_);  // the oldest rows, where the ring has wrapped around
  }
  offer_range(0, next_);
}

void EmbeddingRing::read(size_t i, std::span<float> row) const {
  check_argument(i < size_ && row.size() == options_.dim, "read: expected a row below ", size_,
                 " and memory for ", options_.dim, " numbers, got ", i, " and ", row.size());
  const size_t oldest = size_ == options_.capacity ? next_ : 0;
  read_position((oldest + i) % options_.capacity, row);
}

void EmbeddingRing::read_position(size_t position, std::span<float> row) const {
  const size_t at = offset(position);
  for (size_t d = 0; d < row.size(); ++d) {
    row[d] = options_.float16 ? from_half(elements<uint16_t>()[at + d * kBlockRows])
                              : elements<float>()[at + d * kBlockRows];
  }
}

void EmbeddingRing::clear() {
  size_ = 0;
  next_ = 0;
  fitted_ = 0;
  since_ = 0;
}

}  // namespace atari_fast
