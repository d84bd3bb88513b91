#include "replay/sequence_table.h"

#include <algorithm>
#include <limits>

#include "replay/flags.h"

namespace atari_fast {

SequenceTable::SequenceTable(const SequenceShape& shape, size_t lanes, size_t places)
    : shape_(shape),
      places_(places),
      lanes_(lanes),
      sequences_(lanes * places),
      tree_(lanes * places) {}

size_t SequenceTable::slot(int64_t id) const {
  return lane(id) * places_ + static_cast<size_t>(number(id)) % places_;
}

int64_t SequenceTable::id_of(size_t lane, int64_t number) const {
  return number * static_cast<int64_t>(lanes_.size()) + static_cast<int64_t>(lane);
}

void SequenceTable::arrive(const Arrival& arrival, std::vector<int64_t>& made) {
  const int64_t row = arrival.row;
  Lane& lane = lanes_[arrival.lane];
  if (lane.ended || (arrival.flags & kFirst)) {
    if (!lane.ended) {
      finish(arrival, row - 1, made);
    }
    lane.begin = row;
    lane.next_start = row;
    lane.ended = false;
  }
  const auto learn = static_cast<int64_t>(shape_.unroll);
  const auto extra = static_cast<int64_t>(shape_.extra);
  if (arrival.flags & (kTerminated | kTruncated)) {
    finish(arrival, row, made);
    lane.ended = true;
  } else if (row == lane.next_start + learn + extra - 1) {
    make(arrival, lane.next_start, learn, extra, made);
    lane.next_start += static_cast<int64_t>(shape_.period);
  }
}

// The lane's episode has `last` as its last row: makes what is left to be made.
void SequenceTable::finish(const Arrival& arrival, int64_t last, std::vector<int64_t>& made) {
  const Lane& lane = lanes_[arrival.lane];
  const auto learn = static_cast<int64_t>(shape_.unroll);
  const auto extra = static_cast<int64_t>(shape_.extra);
  const auto period = static_cast<int64_t>(shape_.period);
  for (int64_t start = lane.next_start; start < last; start += period) {
    if (start + learn <= last) {
      make(arrival, start, learn, std::min(extra, last + 1 - start - learn), made);
    } else if (shape_.tail == SequenceTail::kMask) {
      make(arrival, start, last - start, 1, made);
    } else {
      break;
    }
  }
  const int64_t steps = last - lane.begin;
  if (shape_.tail == SequenceTail::kMask || steps == 0) {
    return;
  }
  if (steps < learn) {
    make(arrival, lane.begin, steps, 1, made);
  } else if ((steps - learn) % period != 0) {
    make(arrival, last - learn, learn, 1, made);
  }
}

void SequenceTable::make(const Arrival& arrival, int64_t start, int64_t learn, int64_t after,
                         std::vector<int64_t>& made) {
  Lane& lane = lanes_[arrival.lane];
  const Sequence sequence{lane.begin, start, learn, after};
  if (sequence.oldest_frame(shape_) < arrival.readable) {
    return;
  }
  if (lane.next - lane.oldest == static_cast<int64_t>(places_)) {
    drop_oldest(arrival.lane);
    ++dropped_;
  }
  const int64_t id = id_of(arrival.lane, lane.next++);
  sequences_[slot(id)] = sequence;
  tree_.set(slot(id), arrival.weight);
  ++size_;
  made.push_back(id);
}

void SequenceTable::drop_oldest(size_t lane) {
  tree_.set(slot(id_of(lane, lanes_[lane].oldest++)), 0.0);
  --size_;
}

void SequenceTable::expire(size_t lane, int64_t readable) {
  const Lane& state = lanes_[lane];
  while (state.oldest < state.next &&
         at(id_of(lane, state.oldest)).oldest_frame(shape_) < readable) {
    drop_oldest(lane);
  }
}

int64_t SequenceTable::find(double u) const {
  const size_t leaf = tree_.find(u);
  const size_t lane = leaf / places_;
  const auto places = static_cast<int64_t>(places_);
  const int64_t newest = lanes_[lane].next - 1;
  return id_of(lane, newest - (newest - static_cast<int64_t>(leaf % places_)) % places);
}

int64_t SequenceTable::nth(size_t k) const {
  size_t lane = 0;
  for (;; ++lane) {
    const auto count = static_cast<size_t>(lanes_[lane].next - lanes_[lane].oldest);
    if (k < count) {
      return id_of(lane, lanes_[lane].oldest + static_cast<int64_t>(k));
    }
    k -= count;
  }
}

double SequenceTable::smallest_weight() const {
  double smallest = std::numeric_limits<double>::max();
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    for (int64_t number = lanes_[lane].oldest; number < lanes_[lane].next; ++number) {
      smallest = std::min(smallest, tree_.get(slot(id_of(lane, number))));
    }
  }
  return smallest;
}

}  // namespace atari_fast
