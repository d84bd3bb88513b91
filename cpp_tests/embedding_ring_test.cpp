// Whole searches of a ring beside a stable sort, for rows whose codes tell much, little or nothing.
#include "structures/embedding_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/half.h"

namespace atari_fast {
namespace {

struct Rows {
  std::string name;
  float (*number)(Rng& rng, size_t row, size_t d);
};

float normal(Rng& rng) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - rng.uniform()));
  return static_cast<float>(radius * std::cos(6.283185307179586 * rng.uniform()));
}

float whole(Rng& rng, size_t, size_t) { return static_cast<float>(rng.below(3)); }  // many ties
float plain(Rng& rng, size_t, size_t) { return normal(rng); }
float equal(Rng&, size_t, size_t) { return -7.25f; }
float far_away(Rng& rng, size_t, size_t) { return 1000.0f + 0.5f * normal(rng); }
float outlier(Rng& rng, size_t row, size_t) {
  return row % 97 == 5 ? 60000.0f : 0.01f * normal(rng);
}
float growing(Rng& rng, size_t row, size_t) {
  return normal(rng) * std::exp2(static_cast<float>(row) / 100.0f - 10.0f);
}
float wandering(Rng& rng, size_t row, size_t d) {
  return std::sin(static_cast<float>(row) / 200.0f + static_cast<float>(d)) + 0.01f * normal(rng);
}
float tiny(Rng& rng, size_t, size_t) { return 1e-38f * normal(rng); }

class EmbeddingRingSearch : public testing::TestWithParam<Rows> {
 protected:
  void TearDown() override { set_instruction_set(best_instruction_set()); }

  static std::vector<float> row(Rng& rng, size_t number, const EmbeddingRingOptions& o) {
    std::vector<float> row(o.dim);
    for (size_t d = 0; d < o.dim; ++d) {
      const float value = GetParam().number(rng, number, d);
      row[d] = o.float16 ? from_half(to_half(value)) : value;
    }
    return row;
  }
};

std::vector<Neighbour> sorted(const std::vector<std::vector<float>>& rows,
                              const std::vector<float>& query, const EmbeddingRingOptions& o,
                              size_t k) {
  std::vector<Neighbour> all;
  const size_t first = rows.size() - std::min(rows.size(), o.capacity);
  for (size_t i = first; i < rows.size(); ++i) {
    float sum = 0.0f;
    for (size_t d = 0; d < o.dim; ++d) {
      sum += (query[d] - rows[i][d]) * (query[d] - rows[i][d]);
    }
    all.push_back({sum, i % o.capacity});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Neighbour& a, const Neighbour& b) { return a.distance < b.distance; });
  all.resize(std::min(k, all.size()));
  return all;
}

TEST_P(EmbeddingRingSearch, FindsWhatASortFinds) {
  for (const size_t dim : {1, 9, 32}) {
    for (const bool float16 : {false, true}) {
      const EmbeddingRingOptions o{1000, dim, float16};
      EmbeddingRing ring(o);
      Rng rng(dim);
      for (const size_t appended : {700, 2300}) {  // not full; wrapped around
        ring.clear();
        std::vector<std::vector<float>> rows;
        for (size_t i = 0; i < appended; ++i) {
          rows.push_back(row(rng, i, o));
          ring.append(rows.back());
        }
        for (const size_t k : {1, 3, 50}) {  // 50: without codes
          Search search(k);
          const std::vector<float> query = row(rng, appended + k, o);
          const std::vector<Neighbour> expected = sorted(rows, query, o, k);
          for (const InstructionSet set : instruction_sets()) {
            set_instruction_set(set);
            ring.find(query, search);
            const auto found = search.nearest.found();
            ASSERT_EQ(found.size(), expected.size());
            for (size_t i = 0; i < found.size(); ++i) {
              EXPECT_EQ(found[i].distance, expected[i].distance) << dim << ' ' << appended;
              EXPECT_EQ(found[i].row, expected[i].row) << dim << ' ' << appended << ' ' << k;
            }
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EmbeddingRingSearch,
                         testing::Values(Rows{"whole", whole}, Rows{"plain", plain},
                                         Rows{"equal", equal}, Rows{"far_away", far_away},
                                         Rows{"outlier", outlier}, Rows{"growing", growing},
                                         Rows{"wandering", wandering}, Rows{"tiny", tiny}),
                         [](const auto& rows) { return rows.param.name; });

}  // namespace
}  // namespace atari_fast
