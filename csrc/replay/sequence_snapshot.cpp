// Saving and loading of the sequence replay.
#include <vector>

#include "base/snapshot.h"
#include "replay/sequence_replay.h"

namespace atari_fast {
namespace {

constexpr std::string_view kKind = "sequence replay";
constexpr uint32_t kVersion = 1;

/// The settings that rows and sequences depend on; frames check their own.
std::vector<uint64_t> settings(const SequenceReplayOptions& o) {
  std::vector<uint64_t> all{o.num_envs,
                            o.rows_per_env(),
                            o.sequences_per_env(),
                            o.shape.stack,
                            o.shape.burn_in,
                            o.shape.unroll,
                            o.shape.period,
                            o.shape.bootstrap_steps,
                            static_cast<uint64_t>(o.shape.tail),
                            o.columns.size(),
                            o.sequence_states().size(),
                            static_cast<uint64_t>(o.draws.prioritized)};
  for (const auto* specs : {&o.columns, &o.states}) {
    for (const VectorSpec& spec : *specs) {
      all.push_back(static_cast<uint64_t>(spec.type));
      all.push_back(spec.width);
    }
  }
  return all;
}

}  // namespace

void SequenceTable::save(SnapshotWriter& writer) const {
  for (const EnvSequences& env : envs_) {
    writer.array<int64_t>(std::vector<int64_t>{
        env.begin, env.next_start, static_cast<int64_t>(env.ended), env.oldest, env.next});
  }
  writer.array<Sequence>(sequences_);
  sampler_.save_weights(writer);
  writer.value(dropped_);
}

void SequenceTable::load(SnapshotReader& reader, const std::vector<int64_t>& heads,
                         const std::vector<int64_t>& readable) {
  for (EnvSequences& env : envs_) {
    std::vector<int64_t> fields(5);
    reader.array<int64_t>(fields);
    reader.check(fields[2] == 0 || fields[2] == 1, "its sequences do not fit together");
    env = {fields[0], fields[1], fields[2] != 0, fields[3], fields[4]};
  }
  reader.array<Sequence>(sequences_);
  sampler_.load_weights(reader);
  dropped_ = reader.value<int64_t>();
  const auto check = [&](bool ok) { reader.check(ok, "its sequences do not fit together"); };
  check(dropped_ >= 0);
  size_t alive = 0;
  for (size_t env = 0; env < envs_.size(); ++env) {
    const EnvSequences& at = envs_[env];
    const int64_t head = heads[env];
    const auto period = static_cast<int64_t>(shape_.period);
    check(at.begin >= 0 && at.begin <= head && at.next_start >= at.begin &&
          at.next_start <= head + period && (at.next_start - at.begin) % period == 0);
    check(at.ended ||
          (at.begin < head &&
           at.next_start + static_cast<int64_t>(shape_.unroll + shape_.bootstrap_steps) > head));
    check(at.oldest >= 0 && at.next >= at.oldest &&
          at.next < (int64_t{1} << 56) / static_cast<int64_t>(envs_.size()) &&
          at.next - at.oldest <= static_cast<int64_t>(places_));
    int64_t oldest_frame = readable[env];
    for (int64_t number = at.oldest; number < at.next; ++number) {
      const size_t place = slot(id_of(env, number));
      const Sequence& s = sequences_[place];
      check(s.begin >= 0 && s.start >= s.begin && s.start <= head && s.valid_length >= 1 &&
            s.valid_length <= static_cast<int64_t>(shape_.unroll) && s.bootstrap_length >= 1 &&
            s.bootstrap_length <= static_cast<int64_t>(shape_.bootstrap_steps) &&
            s.end_row() <= head && s.oldest_frame(shape_) >= oldest_frame && sampler_.holds(place));
      oldest_frame = s.oldest_frame(shape_);
      ++alive;
    }
  }
  check(alive == sampler_.count());  // nothing else can be drawn
}

void SequenceReplay::save(const std::string& path, const SnapshotFiles& files) const {
  const std::lock_guard lock(mutex_);
  SnapshotWriter writer(path, kKind, kVersion, files);
  writer.array<uint64_t>(settings(options_));
  writer.value(rows_.max_head());  // the frames tell those of all environments
  table_.sampler().save_state(writer);
  frames_.save(writer);
  rows_.save(writer);
  for (const auto* group : {&columns_, &waiting_states_, &states_}) {
    for (const Values& values : *group) {
      writer.array<std::byte>(values.data);
    }
  }
  table_.save(writer);
  writer.finish();
}

void SequenceReplay::load(const std::string& path) {
  SnapshotReader reader(path, kKind, kVersion);
  SequenceReplayOptions options = options_;
  options.threads = 1;
  SequenceReplay loaded(options);
  loaded.read_state(reader);
  reader.finish();

  const std::lock_guard lock(mutex_);
  frames_ = std::move(loaded.frames_);
  rows_ = std::move(loaded.rows_);
  columns_ = std::move(loaded.columns_);
  waiting_states_ = std::move(loaded.waiting_states_);
  states_ = std::move(loaded.states_);
  table_ = std::move(loaded.table_);
}

void SequenceReplay::read_state(SnapshotReader& reader) {
  const std::vector<uint64_t> expected = settings(options_);
  std::vector<uint64_t> saved(expected.size());
  reader.array<uint64_t>(saved);
  reader.check(saved == expected, "it is of a replay with other settings");
  const auto head = reader.value<int64_t>();
  table_.sampler().load_state(reader);
  frames_.load(reader);
  rows_.load(reader, frames_.next_rows());
  reader.check(rows_.max_head() == head, "its rows are not as many as its frames");
  for (auto* group : {&columns_, &waiting_states_, &states_}) {
    for (Values& values : *group) {
      reader.array<std::byte>(values.data);
    }
  }
  table_.load(reader, frames_.next_rows(), frames_.first_rows());
}

}  // namespace atari_fast
