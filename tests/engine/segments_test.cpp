// A pass is a list of segments: what a row becomes depends on its own segment alone. The same bits alone and in
// company, in any order, for any number of threads, beside rows that are not numbers, and in a store that had some.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <ostream>
#include <random>

#include "engine/runtime/cpu_ops.h"
#include "tests/base/random_numbers.h"
#include "tests/engine/golden_support.h"
#if defined(GLIMPSE_TEST_CUDA_HOST)
#include "tests/cuda/cuda_support.h"
#endif

namespace glimpse {
namespace {

using testing::must;

struct Place {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
};
std::ostream& operator<<(std::ostream& out, const Place& place) {
  return out << place.name;
}

#if defined(GLIMPSE_TEST_CUDA_HOST)
std::vector<Place> places() {
  return {{"cuda_host", [] { return cuda::host_ops(); }},
          {"cuda_host_reverse", [] { return cuda::host_ops({.order = cuda::host::Order::kReverse}); }}};
}
#else
std::vector<Place> places() {
  std::vector<Place> out = {{"ref", [] { return make_ref_ops(); }}};
  for (const Isa isa : all_isas()) {
    for (const int n_threads : {1, 3}) {
      out.push_back({std::string(isa_name(isa)) + "_" + std::to_string(n_threads),
                     [isa, n_threads] { return std::make_unique<CpuOps>(isa, n_threads); }});
    }
  }
  return out;
}
#endif

struct Shape {
  int64_t n_heads, n_kv_heads, head_dim;
};
constexpr int64_t kWidth = 32;  // of x
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// What a segment's rows became: queries, attention, keys and values as their store holds them.
using Rows = std::vector<float>;
bool same_bits(const Rows& a, const Rows& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// A segment of a test: its rows of x, and those that fill the store before it.
struct Part {
  int64_t n_past, n_rows;
  bool causal = true;
  std::vector<float> x, past;

  Part(int64_t n_past_, int64_t n_rows_, uint32_t seed, bool causal_ = true)
      : n_past(n_past_),
        n_rows(n_rows_),
        causal(causal_),
        x(gaussian_numbers(n_rows_ * kWidth, seed)),
        past(gaussian_numbers(n_past_ * kWidth, seed + 1000)) {}
  std::vector<float> rope(bool of_past, bool sine) const {
    std::vector<float> angles = gaussian_numbers((of_past ? n_past : n_rows) * 64, 7);
    for (float& angle : angles) angle = sine ? std::sin(angle) : std::cos(angle);
    return angles;
  }
};

/// One attention layer on one backend.
class Layer {
 public:
  Layer(const Place& place, const Shape& shape, KvElement element, bool int8 = false)
      : ops_(place.make()), shape_(shape), element_(element), int8_(int8) {
    w_.q = projection(shape.n_heads * shape.head_dim, 1);
    w_.k = projection(shape.n_kv_heads * shape.head_dim, 2);
    w_.v = projection(shape.n_kv_heads * shape.head_dim, 3);
    w_.n_heads = shape.n_heads;
    w_.n_kv_heads = shape.n_kv_heads;
    w_.head_dim = shape.head_dim;
  }

  std::unique_ptr<KvStore> store(int64_t capacity) {
    return must(ops_->make_kv(shape_.n_kv_heads, shape_.head_dim, capacity, element_));
  }
  /// A store for the part alone, with its past.
  std::unique_ptr<KvStore> filled(const Part& part) {
    std::unique_ptr<KvStore> kv = store(std::max<int64_t>(part.n_past + part.n_rows + 1, 1024));
    if (part.n_past > 0) {
      run({{.kv = kv.get(), .n_rows = part.n_past}}, part.past, part.rope(true, false), part.rope(true, true), false);
    }
    return kv;
  }
  std::vector<Rows> run(const std::vector<Segment>& segments, const std::vector<const Part*>& parts) {
    std::vector<float> x, cosines, sines;
    for (const Part* part : parts) {
      x.insert(x.end(), part->x.begin(), part->x.end());
      const std::vector<float> c = part->rope(false, false), s = part->rope(false, true);
      cosines.insert(cosines.end(), c.begin(), c.end());
      sines.insert(sines.end(), s.begin(), s.end());
    }
    return run(segments, x, cosines, sines);
  }
  Rows alone(const Part& part) {
    if (part.n_rows == 0) return {};  // a segment without rows only stands between others
    const std::unique_ptr<KvStore> kv = filled(part);
    return run({{.kv = kv.get(), .n_rows = part.n_rows, .n_past = part.n_past, .causal = part.causal, .int8 = int8_}},
               {&part})[0];
  }

 private:
  Linear projection(int64_t rows, uint32_t seed) {
    std::vector<float> values = gaussian_numbers(rows * kWidth, seed);
    for (float& v : values) v /= std::sqrt(static_cast<float>(kWidth));
    WeightSource source;
    source.name = "some.weight";
    source.rows = rows;
    source.cols = kWidth;
    source.read_rows = [values](int64_t first, int64_t count, std::span<std::byte> out) {
      std::memcpy(out.data(), values.data() + first * kWidth, static_cast<size_t>(count * kWidth) * sizeof(float));
      return Status();
    };
    return {must(ops_->pack(source, WeightPrecision::kAsStored)), nullptr};
  }
  Mat mat(const std::vector<float>& values, int64_t rows) {
    held_.push_back(must(ops_->allocate(static_cast<int64_t>(values.size()), "test")));
    ops_->upload(values.data(), static_cast<int64_t>(values.size()), held_.back()->data);
    return Mat::contiguous(held_.back()->data, rows, static_cast<int64_t>(values.size()) / rows);
  }
  std::vector<Rows> run(const std::vector<Segment>& segments, const std::vector<float>& x_rows,
                        const std::vector<float>& cosines, const std::vector<float>& sines, bool attend = true) {
    const auto n = static_cast<int64_t>(x_rows.size()) / kWidth;
    const int64_t half = shape_.head_dim / 2, width = shape_.n_heads * shape_.head_dim;
    const Mat x = mat(x_rows, n);
    const auto table = [&](const std::vector<float>& angles) {  // 64 angles a row, of which a head takes some
      std::vector<float> rows;
      for (int64_t r = 0; r < n; ++r) rows.insert(rows.end(), &angles[r * 64], &angles[r * 64 + half]);
      return mat(rows, n);
    };
    const RopeTable rope{table(cosines), table(sines)};
    const std::vector<float> nothing(static_cast<size_t>(n * width), kNan);
    const Mat q = mat(nothing, n), out = mat(nothing, n);
    EXPECT_OK(ops_->run([&] {
      ops_->norm_qkv(x, Norm{}, w_, rope, segments, q);
      if (attend) ops_->attention(q, shape_.n_heads, segments, out);
    }));
    std::vector<Rows> results;
    for (const Segment& s : segments) results.push_back(result(s, q, out));
    held_.clear();
    return results;
  }
  Rows result(const Segment& s, Mat q, Mat out) {
    Rows values(static_cast<size_t>(2 * s.n_rows * q.cols));
    if (s.n_rows == 0) return values;
    ops_->download(q.row(s.first_row), s.n_rows * q.cols, values.data());
    ops_->download(out.row(s.first_row), s.n_rows * q.cols, values.data() + s.n_rows * q.cols);
    std::vector<float> key(static_cast<size_t>(shape_.head_dim)), value(key.size());
    for (int64_t i = 0; i < s.n_rows; ++i) {
      for (int64_t head = 0; head < shape_.n_kv_heads; ++head) {
        s.kv->read(head, s.n_past + i, key.data(), value.data());
        values.insert(values.end(), key.begin(), key.end());
        values.insert(values.end(), value.begin(), value.end());
      }
    }
    return values;
  }

  const std::unique_ptr<Ops> ops_;
  const Shape shape_;
  const KvElement element_;
  const bool int8_;
  QkvWeights w_;
  std::vector<std::unique_ptr<BackendBuffer>> held_;
};

std::string name_of(const ::testing::TestParamInfo<Place>& place) {
  return place.param.name;
}
class SegmentBits : public ::testing::TestWithParam<Place> {};
INSTANTIATE_TEST_SUITE_P(On, SegmentBits, ::testing::ValuesIn(places()), name_of);

#if defined(GLIMPSE_TEST_CUDA_HOST)  // threads one after another: little ones
constexpr Shape kShapes[] = {{2, 1, 16}};
#else
constexpr Shape kShapes[] = {{6, 1, 64}, {4, 2, 24}};
#endif

// The parts in this order, in one pass, against each alone.
void expect_the_same_together(Layer& layer, const std::vector<Part>& parts, const std::vector<Rows>& want,
                              const std::vector<size_t>& order) {
  std::vector<std::unique_ptr<KvStore>> stores;
  std::vector<Segment> segments;
  std::vector<const Part*> company;
  int64_t first_row = 0;
  for (const size_t i : order) {
    stores.push_back(layer.filled(parts[i]));
    company.push_back(&parts[i]);
    segments.push_back({stores.back().get(), first_row, parts[i].n_rows, parts[i].n_past});
    first_row += parts[i].n_rows;
  }
  const std::vector<Rows> got = layer.run(segments, company);
  for (size_t i = 0; i < order.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[order[i]])) << "part " << order[i];
}

// Conversations: steps of one row, drafts, prompts, with pasts in the first block of keys and in later ones.
TEST_P(SegmentBits, ConversationsHaveTheSameBitsAloneAndTogether) {
  const std::vector<Part> parts = {{0, 1, 10}, {257, 1, 11}, {520, 1, 12}, {31, 5, 13}, {250, 20, 14}, {0, 70, 15}};
  for (const Shape& shape : kShapes) {
    for (const KvElement element : kKvElements) {
      SCOPED_TRACE(std::string(kv_element_name(element)) + ", head_dim " + std::to_string(shape.head_dim));
      Layer layer(GetParam(), shape, element);
      std::vector<Rows> want;
      for (const Part& part : parts) want.push_back(layer.alone(part));
      // In order, backwards, and few short ones, whose keys the threads of a CPU share out.
      for (const std::vector<size_t>& order :
           {std::vector<size_t>{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {2, 1}, {1, 0, 2}}) {
        expect_the_same_together(layer, parts, want, order);
      }
    }
  }
}

// More steps than a launch of the CUDA backend takes, of heads whose halves are no whole tiles.
TEST_P(SegmentBits, ManyStepsHaveTheSameBitsAloneAndTogether) {
  const std::vector<Part> parts = {{3, 1, 50}, {9, 2, 51}, {0, 1, 52}, {130, 1, 53}, {1, 1, 54},
                                   {2, 0, 59}, {4, 1, 55}, {5, 1, 56}, {6, 1, 57},   {7, 2, 58}};
  for (const KvElement element : kKvElements) {
    SCOPED_TRACE(kv_element_name(element));
    Layer layer(GetParam(), {2, 1, 24}, element);
    std::vector<Rows> want;
    for (const Part& part : parts) want.push_back(layer.alone(part));
    expect_the_same_together(layer, parts, want, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    expect_the_same_together(layer, parts, want, {9, 5, 3, 1});
  }
}

// Windows of one store: they begin at any multiple of 16, the last one as late as possible, and see themselves alone.
TEST_P(SegmentBits, WindowsHaveTheBitsOfStoresOfTheirOwn) {
  const Part parts[] = {{0, 64, 20, false}, {0, 12, 21, false}, {0, 33, 22, false}, {0, 270, 23}, {0, 16, 24, false}};
  const int64_t starts[] = {0, 64, 80, 128, 448};
  for (const Shape& shape : kShapes) {
    for (const KvElement element : kKvElements) {
      Layer layer(GetParam(), shape, element);
      const auto kv = layer.store(512);
      std::vector<Segment> segments;
      std::vector<const Part*> company;
      int64_t first_row = 0;
      for (size_t i = 0; i < std::size(parts); ++i) {
        segments.push_back({kv.get(), first_row, parts[i].n_rows, starts[i], starts[i], parts[i].causal});
        company.push_back(&parts[i]);
        first_row += parts[i].n_rows;
      }
      const std::vector<Rows> got = layer.run(segments, company);
      for (size_t i = 0; i < std::size(parts); ++i) {
        EXPECT_TRUE(same_bits(got[i], layer.alone(parts[i])))
            << kv_element_name(element) << ", head_dim " << shape.head_dim << ", window " << i;
      }
    }
  }
}

TEST_P(SegmentBits, BesideRowsThatAreNotNumbersAreTheSame) {
  Part good(300, 3, 30), bad(255, 4, 31), later(255, 2, 32);
  std::fill(bad.x.begin(), bad.x.end(), kNan);
  for (const KvElement element : kKvElements) {
    Layer layer(GetParam(), kShapes[0], element);
    const auto good_store = layer.filled(good), bad_store = layer.filled(bad);
    const std::vector<Rows> got =
        layer.run({{bad_store.get(), 0, 4, 255}, {good_store.get(), 4, 3, 300}}, {&bad, &good});
    EXPECT_TRUE(same_bits(got[1], layer.alone(good))) << kv_element_name(element);
    // The pass is forgotten: two others take the first of its slots, and a NaN is left behind them.
    later.past = bad.past;
    const Rows after = layer.run({{bad_store.get(), 0, 2, 255}}, {&later})[0];
    EXPECT_TRUE(same_bits(after, layer.alone(later))) << kv_element_name(element);
  }
}

#if !defined(GLIMPSE_TEST_CUDA_HOST)
// Pictures of the vision encoder in one store: large ones turn into int8 where there are kernels for it.
TEST_P(SegmentBits, PicturesOfInt8InOneStoreAreTheSame) {
  const Part large(0, 1100, 40, false), small(0, 50, 41, false), other(0, 1030, 42, false);
  Layer layer(GetParam(), {2, 2, 24}, KvElement::kBf16, true);
  const auto kv = layer.store(3072);
  const Rows want_large = layer.alone(large), want_small = layer.alone(small), want_other = layer.alone(other);
  const auto at = [&](int64_t row, const Part& part, int64_t position) {
    return Segment{kv.get(), row, part.n_rows, position, position, false, true};
  };
  const auto first =
      layer.run({at(0, large, 0), at(1100, small, 1280), at(1150, other, 1536)}, {&large, &small, &other});
  EXPECT_TRUE(same_bits(first[0], want_large));
  EXPECT_TRUE(same_bits(first[1], want_small));
  EXPECT_TRUE(same_bits(first[2], want_other));
  // The same store again, cut otherwise: what lay there leaves no trace.
  const auto again = layer.run({at(0, small, 0), at(50, small, 64), at(100, large, 256)}, {&small, &small, &large});
  EXPECT_TRUE(same_bits(again[0], want_small));
  EXPECT_TRUE(same_bits(again[1], want_small));
  EXPECT_TRUE(same_bits(again[2], want_large));
}
#endif

}  // namespace
}  // namespace glimpse
