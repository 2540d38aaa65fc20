// Around the attention kernel: panels, prepared queries, merging and finishing of states, the exponential.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernels/attention_test_support.h"

namespace glimpse {
namespace {

using namespace attention_test;  // NOLINT
using row_test::Guarded;
using row_test::same_bits;

class AttentionRows : public row_test::PerIsa {};
GLIMPSE_INSTANTIATE_PER_ISA(AttentionRows, attention_kernels());

constexpr int64_t kHeadDims[] = {16, 24, 31, 64, 72, 80, 128, 256};

// Rows with everything that rounding can meet.
std::vector<float> special_rows(int64_t n) {
  const float inf = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f,   -0.0f,   inf,         -inf,        std::nanf("1"), std::numeric_limits<float>::max(),
                           1e-40f, -1e-42f, 1.00390625f, 1.01171875f, 0x1.fefffep0f,  0x1.ffp127f};
  std::vector<float> rows = row_test::normal_row(n, 11);
  for (int64_t i = 0; i < n; i += 7) rows[i] = special[i / 7 % 12];
  return rows;
}

TEST_P(AttentionRows, BulkStoresWriteTheBitsOfSingleStoresAndNothingElse) {
  for (KvElement element : kKvElements) {
    for (int64_t head_dim : kHeadDims) {
      const int64_t capacity = 256, ld = head_dim + 5;
      const std::vector<float> rows = special_rows(capacity * ld);
      const int64_t bytes = static_cast<int64_t>(kv_head_bytes(element, head_dim, capacity));
      for (const auto& [position, n] : {std::pair<int64_t, int64_t>{0, 256},
                                        {0, 16},
                                        {5, 1},
                                        {7, 60},
                                        {240, 16},
                                        {32, 33},
                                        {1, 2},
                                        {255, 1},
                                        {16, 0},
                                        {15, 2}}) {
        Guarded<std::byte> one(bytes), all(bytes), one_v(bytes), all_v(bytes);
        for (Guarded<std::byte>* panel : {&one, &all, &one_v, &all_v})
          std::fill_n(panel->data(), bytes, std::byte{0x5a});
        for (int64_t i = 0; i < n; ++i) {
          store_key(Isa::kRef, element, &rows[i * ld], head_dim, position + i, one.data());
          store_value(Isa::kRef, element, &rows[i * ld], head_dim, position + i, one_v.data());
        }
        store_keys(GetParam(), element, rows.data(), ld, n, head_dim, position, all.data());
        store_values(GetParam(), element, rows.data(), ld, n, head_dim, position, all_v.data());
        ASSERT_EQ(one.copy(), all.copy()) << "keys " << head_dim << " at " << position << " n " << n;
        ASSERT_EQ(one_v.copy(), all_v.copy()) << "values " << head_dim << " at " << position << " n " << n;
      }
    }
  }
}

TEST_P(AttentionRows, StoredRowsReadBackRounded) {
  const int64_t n = 40;
  for (KvElement element : kKvElements) {
    for (int64_t head_dim : kHeadDims) {
      const std::vector<float> rows = special_rows(n * head_dim);
      const int64_t bytes = static_cast<int64_t>(kv_head_bytes(element, head_dim, 256));
      Guarded<std::byte> keys(bytes), values(bytes);
      store_keys(GetParam(), element, rows.data(), head_dim, n, head_dim, 0, keys.data());
      store_values(GetParam(), element, rows.data(), head_dim, n, head_dim, 0, values.data());
      std::vector<float> want, want_v, got(n * head_dim), got_v(n * head_dim);
      for (int64_t i = 0; i < n; ++i) {
        const std::vector<float> row(rows.begin() + i * head_dim, rows.begin() + (i + 1) * head_dim);
        for (float x : stored_row(element, row, Part::kKey)) want.push_back(x);
        for (float x : stored_row(element, row, Part::kValue)) want_v.push_back(x);
      }
      for (int64_t i = 0; i < n; ++i) {
        load_key(element, keys.data(), head_dim, i, &got[i * head_dim]);
        load_value(element, values.data(), head_dim, i, &got_v[i * head_dim]);
      }
      ASSERT_TRUE(same_bits(got, want)) << head_dim;
      ASSERT_TRUE(same_bits(got_v, want_v)) << head_dim;
    }
  }
}

TEST_P(AttentionRows, LayoutIsTheDocumentedOne) {
  const int64_t d = 32;
  std::vector<float> rows(static_cast<size_t>(256 * d));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);  // exact in float
  Guarded<float> keys(256 * d), values(256 * d);
  auto* k = reinterpret_cast<std::byte*>(keys.data());
  auto* v = reinterpret_cast<std::byte*>(values.data());
  store_keys(GetParam(), KvElement::kF32, rows.data(), d, 256, d, 0, k);
  store_values(GetParam(), KvElement::kF32, rows.data(), d, 256, d, 0, v);
  EXPECT_EQ(keys[(2 * d + 7) * 16 + 3], static_cast<float>(35 * d + 7));
  EXPECT_EQ(values[35 * d + 7], static_cast<float>(35 * d + 7));
  for (float& x : rows) x = static_cast<float>(static_cast<int>(x) % 251);  // exact in bf16
  Guarded<uint16_t> keys16(256 * d), values16(256 * d);
  store_keys(GetParam(), KvElement::kBf16, rows.data(), d, 256, d, 0, reinterpret_cast<std::byte*>(keys16.data()));
  store_values(GetParam(), KvElement::kBf16, rows.data(), d, 256, d, 0, reinterpret_cast<std::byte*>(values16.data()));
  EXPECT_EQ(bf16_to_float(keys16[((2 * d / 2 + 3) * 16 + 3) * 2 + 1]), static_cast<float>((35 * d + 7) % 251));
  EXPECT_EQ(bf16_to_float(values16[(17 * d + 7) * 2 + 1]), static_cast<float>((35 * d + 7) % 251));
  store_keys(GetParam(), KvElement::kF16, rows.data(), d, 256, d, 0, reinterpret_cast<std::byte*>(keys16.data()));
  store_values(GetParam(), KvElement::kF16, rows.data(), d, 256, d, 0, reinterpret_cast<std::byte*>(values16.data()));
  EXPECT_EQ(half_to_float(keys16[(2 * d + 7) * 16 + 3]), static_cast<float>((35 * d + 7) % 251));
  EXPECT_EQ(half_to_float(values16[35 * d + 7]), static_cast<float>((35 * d + 7) % 251));
}

TEST_P(AttentionRows, Int8LayoutIsTheDocumentedOne) {
  const int64_t d = 48, group = 64 + 16 * d, bytes = 256 / 16 * group;  // two scales: 32 dimensions and 16
  ASSERT_EQ(kv_head_bytes(KvElement::kQ8_0, d, 256), static_cast<uint64_t>(bytes));
  EXPECT_EQ(kv_head_bytes(KvElement::kQ8_0, 128, 256), 256u * 128 * 17 / 16);  // 8.5 bits per value
  EXPECT_EQ(kv_head_bytes(KvElement::kF16, 128, 256), 256u * 128 * 2);
  std::vector<float> rows(static_cast<size_t>(256 * d));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i * 31 % 255) / 2 - 63.5f;
  for (int64_t n = 0; n < 256; ++n) rows[n * d + 1] = 63.5f, rows[n * d + 33] = -127.0f;  // scales 0.5 and 1
  std::vector<float> unmixed;  // 16 channels at a time, which twice is no change; few bits, so it is exact
  for (int64_t n = 0; n < 256; ++n) {
    for (float x : mixed(std::vector<float>(rows.begin() + n * d, rows.begin() + (n + 1) * d))) unmixed.push_back(x);
  }
  Guarded<std::byte> keys(bytes), values(bytes);
  store_keys(GetParam(), KvElement::kQ8_0, unmixed.data(), d, 256, d, 0, keys.data());
  store_values(GetParam(), KvElement::kQ8_0, rows.data(), d, 256, d, 0, values.data());
  for (int64_t n : {0, 35, 255}) {
    const int64_t lane = n % 16, base = n / 16 * group;
    for (Guarded<std::byte>* panel : {&keys, &values}) {
      uint16_t scales[2];
      std::memcpy(&scales[0], panel->data() + base + lane * 2, 2);
      std::memcpy(&scales[1], panel->data() + base + 32 + lane * 2, 2);
      EXPECT_EQ(half_to_float(scales[0]), 0.5f);
      EXPECT_EQ(half_to_float(scales[1]), 1.0f);
    }
    for (int64_t i = 0; i < d; ++i) {
      const double want = std::nearbyint(rows[n * d + i] * (i < 32 ? 2 : 1));
      const int64_t key = base + 64 + (i / 4 * 16 + lane) * 4 + i % 4;
      const int64_t value =
          base + 64 + (i < 32 ? (lane / 2 * 32 + i) * 2 : 512 + (lane / 2 * 16 + i - 32) * 2) + lane % 2;
      EXPECT_EQ(static_cast<int8_t>(keys[key]), want) << n << " " << i;
      EXPECT_EQ(static_cast<int8_t>(values[value]), want) << n << " " << i;
    }
  }
}

TEST_P(AttentionRows, WideChannelsAreHalvesBetweenTheScalesAndTheInt8OfTheOthers) {
  const int64_t d = 64, n = 40, wide_bytes = 4 * 32;
  const std::vector<int32_t> wide = {5, 37, 63, 31};
  const std::vector<float> rows = special_rows(n * d);
  std::vector<float> others = rows;
  for (int64_t i = 0; i < n; ++i) {
    for (const int32_t channel : wide) others[i * d + channel] = 0;
  }
  const auto bytes = static_cast<int64_t>(kv_head_bytes(KvElement::kQ8_0, d, 256));
  const auto all_bytes = static_cast<int64_t>(kv_head_bytes(KvElement::kQ8_0, d, 256, 4));
  ASSERT_EQ(all_bytes, bytes + 16 * wide_bytes);
  Guarded<std::byte> keys(all_bytes), narrow(bytes);
  std::fill_n(keys.data(), all_bytes, std::byte{0});
  std::fill_n(narrow.data(), bytes, std::byte{0});
  store_keys(GetParam(), KvElement::kQ8_0, rows.data(), d, n, d, 0, keys.data(), wide);
  store_keys(GetParam(), KvElement::kQ8_0, others.data(), d, n, d, 0, narrow.data());
  for (int64_t group = 0; group < 16; ++group) {
    const std::byte* const got = keys.data() + group * all_bytes / 16;
    const std::byte* const want = narrow.data() + group * bytes / 16;
    EXPECT_EQ(std::memcmp(got, want, 64), 0) << group;
    EXPECT_EQ(std::memcmp(got + 64 + wide_bytes, want + 64, 16 * d), 0) << group;
  }
  for (int64_t i = 0; i < n; ++i) {
    std::vector<float> got(d), want(d);
    load_key(KvElement::kQ8_0, keys.data(), d, i, got.data(), wide);
    load_key(KvElement::kQ8_0, narrow.data(), d, i, want.data());
    for (size_t w = 0; w < wide.size(); ++w) {
      want[wide[w]] = rounded_to_f16(rows[i * d + wide[w]]);
      uint16_t bits;
      std::memcpy(&bits, keys.data() + i / 16 * all_bytes / 16 + 64 + w * 32 + i % 16 * 2, 2);
      const float stored = half_to_float(bits);
      EXPECT_TRUE(same_bits({&stored, 1}, {&want[wide[w]], 1})) << i << " " << w;
    }
    EXPECT_TRUE(same_bits(got, want)) << i;
  }
}

TEST(WideKeyChannels, AreThePairsWithTheLargestBiasesUntilTheRestIsSmall) {
  const int64_t d = 8;  // the others may have a mean square of 1.5^2: a sum of 18
  EXPECT_TRUE(wide_key_channels({}, 2, d).empty());
  EXPECT_TRUE(wide_key_channels(std::vector<float>(2 * d, 1.5f), 2, d).empty());
  std::vector<float> bias(2 * d, 0.5f);
  bias[6] = -60;                                                                 // of pair 2, with channel 2
  EXPECT_EQ(wide_key_channels(bias, 2, d), (std::vector<int32_t>{2, 6, 0, 4}));  // a pair for the other head, too
  bias[d + 1] = 4, bias[d + 5] = 3, bias[d + 3] = 4.3f;                          // sums of squares of 25 and 18.7
  EXPECT_EQ(wide_key_channels(bias, 2, d), (std::vector<int32_t>{2, 6, 0, 4, 1, 5, 3, 7}));
}

TEST_P(AttentionRows, FiniteValuesBeyondBinary16Saturate) {
  const float inf = std::numeric_limits<float>::infinity();
  const float in[] = {65504, 65519, 65520, 1e30f, -65520, -3e38f, inf, -inf, std::nanf("")};
  const float want[] = {65504, 65504, 65504, 65504, -65504, -65504, inf, -inf, std::nanf("")};
  const int64_t d = 16;
  std::vector<float> rows(16 * d, 1.0f);
  for (int64_t i = 0; i < 9; ++i) rows[5 * d + i] = in[i];
  Guarded<std::byte> keys(256 * d * 2), values(256 * d * 2);
  store_keys(GetParam(), KvElement::kF16, rows.data(), d, 16, d, 0, keys.data());
  store_values(GetParam(), KvElement::kF16, rows.data(), d, 16, d, 0, values.data());
  float key[16], value[16];
  load_key(KvElement::kF16, keys.data(), d, 5, key);
  load_value(KvElement::kF16, values.data(), d, 5, value);
  for (int64_t i = 0; i < 9; ++i) {
    EXPECT_TRUE(key[i] == want[i] || (std::isnan(key[i]) && std::isnan(want[i]))) << i << " " << key[i];
    EXPECT_TRUE(value[i] == want[i] || (std::isnan(value[i]) && std::isnan(want[i]))) << i << " " << value[i];
  }
}

TEST_P(AttentionRows, Int8StoreKeepsTinyAndHugeBlocksFiniteAndSpreadsNan) {
  const int64_t d = 32;
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> row(d);
  Guarded<std::byte> keys(static_cast<int64_t>(kv_head_bytes(KvElement::kQ8_0, d, 256)));
  std::vector<float> got(d);
  const auto stored = [&](float first) {
    for (int64_t i = 0; i < d; ++i) row[i] = i == 0 ? first : first / static_cast<float>(i + 1);
    store_keys(GetParam(), KvElement::kQ8_0, row.data(), d, 1, d, 3, keys.data());
    load_key(KvElement::kQ8_0, keys.data(), d, 3, got.data());
    return got[0];
  };
  for (float x : {0.0f, 1e-42f, -1e-30f, 1e-9f}) EXPECT_LE(std::abs(stored(x)), 127 * 0x1p-24f) << x;
  // The greatest of the mixed channels is the sum of all, 4.06 x, a quarter of which has 127 steps; 32 errors of half a
  // step, divided by 8, go into a channel. Below 127 * 2^-14 the scale itself is coarse.
  for (float x : {1e-5f, 1e-3f, 1.0f, -1.0f, 1000.0f, 6e6f}) {
    EXPECT_NEAR(stored(x), x, std::max(std::abs(x) * 2 * 1.02f / 127, 127 * 0x1p-23f)) << x;
  }
  for (float x : {1e9f, -1e30f, 1e37f}) {
    stored(x);
    for (float y : got) EXPECT_TRUE(std::isfinite(y)) << x;
  }
  for (float x : {inf, -inf, std::nanf("")}) {
    stored(x);
    for (float y : got) EXPECT_TRUE(std::isnan(y));
  }
}

TEST_P(AttentionRows, PreparedQueriesAreScaledRoundedAndPadded) {
  for (int64_t head_dim : kHeadDims) {
    const int64_t d = padded_head_dim(head_dim), n = 5;
    const std::vector<float> q = special_rows(n * head_dim);
    const auto rows = row_pointers(q, head_dim, all_rows(n));
    Guarded<float> floats(n * d);
    Guarded<uint16_t> halves(n * d);
    prepare_queries(GetParam(), KvElement::kF32, rows.data(), n, head_dim, floats.data());
    prepare_queries(GetParam(), KvElement::kBf16, rows.data(), n, head_dim, halves.data());
    Guarded<float> floats_f16(n * d);
    prepare_queries(GetParam(), KvElement::kF16, rows.data(), n, head_dim, floats_f16.data());
    EXPECT_TRUE(same_bits(floats_f16.copy(), floats.copy()));
    for (int64_t i = 0; i < n * d; ++i) {
      const int64_t r = i / d, c = i % d;
      const float want = c < head_dim ? q[r * head_dim + c] * query_scale(head_dim) : 0.0f;
      ASSERT_TRUE(same_bits({&floats[i], 1}, {&want, 1})) << head_dim << " element " << i;
      const float got = bf16_to_float(halves[i]), rounded = rounded_to_bf16(want);
      ASSERT_TRUE(same_bits({&got, 1}, {&rounded, 1})) << head_dim << " element " << i;
    }
  }
}

TEST_P(AttentionRows, Int8QueriesAreScaledRoundedAndPadded) {
  for (int64_t head_dim : kHeadDims) {
    const int64_t d = padded_head_dim(head_dim), n = 5, blocks = (d + 31) / 32;
    const int64_t row_bytes = static_cast<int64_t>(query_row_bytes(KvElement::kQ8_0, d));
    ASSERT_EQ(row_bytes, 2 * d + 12 * blocks + 4);
    const std::vector<int32_t> wide = {0, 7, 3, static_cast<int32_t>(head_dim - 1)};
    ASSERT_EQ(query_row_bytes(KvElement::kQ8_0, d, 4), static_cast<uint64_t>(row_bytes + 16));
    ASSERT_LE(query_row_bytes(KvElement::kQ8_0, d, d), max_query_row_bytes(d));
    std::vector<float> q = row_test::normal_row(n * head_dim, 3);
    std::fill_n(q.begin() + head_dim, head_dim, 0.0f);        // a row of zeros,
    std::fill_n(q.begin() + 2 * head_dim, head_dim, 1e-36f);  // one next to nothing
    q[3 * head_dim + 1] = std::nanf("");
    const auto rows = row_pointers(q, head_dim, all_rows(n));
    Guarded<std::byte> out(n * row_bytes);
    prepare_queries(GetParam(), KvElement::kQ8_0, rows.data(), n, head_dim, out.data());
    Guarded<std::byte> with_wide(row_bytes + 16), without(row_bytes);
    std::vector<float> zeroed(q.begin(), q.begin() + head_dim);
    for (const int32_t channel : wide) zeroed[channel] = 0;
    const float* const narrow = zeroed.data();
    prepare_queries(GetParam(), KvElement::kQ8_0, rows.data(), 1, head_dim, with_wide.data(), wide);
    prepare_queries(GetParam(), KvElement::kQ8_0, &narrow, 1, head_dim, without.data());
    EXPECT_EQ(std::memcmp(with_wide.data(), without.data(), static_cast<size_t>(row_bytes - 4)), 0) << head_dim;
    int32_t counted;
    std::memcpy(&counted, with_wide.data() + row_bytes - 4, 4);
    EXPECT_EQ(counted, 4);
    for (size_t w = 0; w < wide.size(); ++w) {
      float x;
      std::memcpy(&x, with_wide.data() + row_bytes + 4 * w, 4);
      EXPECT_EQ(x, q[wide[w]] * query_scale(head_dim)) << head_dim << " " << w;
    }
    for (int64_t r = 0; r < n; ++r) {
      const std::byte* row = out.data() + r * row_bytes;
      std::vector<float> scaled(q.begin() + r * head_dim, q.begin() + (r + 1) * head_dim);
      for (float& x : scaled) x *= query_scale(head_dim) / mixed_gain(head_dim);
      scaled = mixed(scaled);
      for (int64_t block = 0; block < blocks; ++block) {
        float scale, max = 0;
        int32_t starts[2], high = 0, low = 0;
        std::memcpy(&scale, row + 2 * d + 4 * block, 4);
        std::memcpy(starts, row + 2 * d + 4 * (blocks + 2 * block), 8);
        const int64_t begin = block * 32, end = std::min(d, begin + 32);
        for (int64_t i = begin; i < end; ++i) max = std::max(max, std::abs(scaled[i]));
        for (int64_t i = begin; i < end; ++i) {
          const int32_t upper = static_cast<int8_t>(row[i]), lower = static_cast<int8_t>(row[d + i]);
          high += upper, low += lower;
          ASSERT_TRUE(upper >= -127 && lower >= -64 && lower < 64);
          if (r == 3 && block == 0) {
            ASSERT_TRUE(std::isnan(scale));
          } else if (r == 1 || r == 2) {
            ASSERT_EQ(128 * upper + lower, 0);
          } else if (r != 3) {
            ASSERT_NEAR(static_cast<float>(128 * upper + lower) * scale, scaled[i], max * 0.501f / 16256)
                << head_dim << " " << i;
          }
        }
        ASSERT_EQ(starts[0], -128 * high);
        ASSERT_EQ(starts[1], -128 * low);
      }
    }
  }
}

TEST_P(AttentionRows, MergeFollowsTheFormula) {
  for (int64_t n_rows : {1, 2, 15, 16, 17, 64}) {
    const int64_t d = 48;
    State a(n_rows, d), b(n_rows, d);
    const std::vector<float> noise = row_test::normal_row(2 * n_rows * d, 4);
    for (int64_t i = 0; i < n_rows * d; ++i) a.acc[i] = noise[i], b.acc[i] = noise[n_rows * d + i];
    for (int64_t r = 0; r < n_rows; ++r) {
      a.max[r] = 5 * noise[r], b.max[r] = 5 * noise[r + 7];
      a.sum[r] = 1 + std::abs(noise[r + 3]), b.sum[r] = 1 + std::abs(noise[r + 5]);
    }
    const auto acc = a.acc.copy(), sum = a.sum.copy(), max = a.max.copy();
    merge_attention_states(GetParam(), a.view(), b.view(), n_rows, d);
    for (int64_t r = 0; r < n_rows; ++r) {
      const double m = std::max(max[r], b.max[r]), wa = std::exp2(max[r] - m), wb = std::exp2(b.max[r] - m);
      EXPECT_EQ(a.max[r], static_cast<float>(m));
      const double want = wa * sum[r] + wb * b.sum[r];
      EXPECT_NEAR(a.sum[r], want, 5e-7 * want);
      for (int64_t i = r * d; i < (r + 1) * d; ++i) {
        ASSERT_NEAR(a.acc[i], wa * acc[i] + wb * b.acc[i], 5e-7 * (wa * std::abs(acc[i]) + wb * std::abs(b.acc[i])));
      }
    }
  }
}

TEST_P(AttentionRows, MergeWithAnEmptySideIsExact) {
  const int64_t n_rows = 18, d = 16;
  State full(n_rows, d), empty(n_rows, d);
  const std::vector<float> noise = row_test::normal_row(n_rows * d, 4);
  for (int64_t i = 0; i < n_rows * d; ++i) full.acc[i] = noise[i];
  full.acc[3] = -0.0f;
  for (int64_t r = 0; r < n_rows; ++r) full.max[r] = noise[r] * 1000, full.sum[r] = 1 + static_cast<float>(r);
  const std::vector<float> want = full.all();
  merge_attention_states(GetParam(), full.view(), empty.view(), n_rows, d);
  EXPECT_TRUE(same_bits(full.all(), want));
  for (int64_t i = 0; i < n_rows * d; ++i) empty.acc[i] = std::nanf("");  // an empty state's acc is not looked at
  merge_attention_states(GetParam(), empty.view(), full.view(), n_rows, d);
  EXPECT_TRUE(same_bits(empty.all(), want));
}

TEST_P(AttentionRows, MergeSpreadsNan) {
  const float nan = std::nanf("");
  for (bool in_block : {false, true}) {
    State a(2, 16), b(2, 16);
    for (State* s : {&a, &b}) {
      for (int64_t r = 0; r < 2; ++r) s->max[r] = 1, s->sum[r] = 1;
    }
    (in_block ? b : a).sum[1] = nan;
    (in_block ? b : a).max[1] = nan;
    merge_attention_states(GetParam(), a.view(), b.view(), 2, 16);
    EXPECT_EQ(a.sum[0], 2.0f);
    EXPECT_TRUE(std::isnan(a.sum[1]));
  }
}

// The weight of a state whose maximum lies x below the block's is 2^x: with an accumulator of 1 against 0 the merge
// shows the softmax's exponential as it is.
TEST_P(AttentionRows, ExponentialStaysWithinItsErrorBound) {
  const int64_t n_rows = kMaxQueryRows, d = 16;
  State a(n_rows, d), b(n_rows, d);
  double worst = 0, worst_x = 0;
  const auto check = [&](const std::vector<float>& x) {
    for (int64_t r = 0; r < n_rows; ++r) {
      a.max[r] = x[r], a.sum[r] = 1, a.acc[r * d] = 1;
      b.max[r] = 0, b.sum[r] = 1, b.acc[r * d] = 0;
    }
    merge_attention_states(GetParam(), a.view(), b.view(), n_rows, d);
    for (int64_t r = 0; r < n_rows; ++r) {
      const double want = std::exp2(static_cast<double>(x[r]));
      const double error = std::abs(a.acc[r * d] - want) / want;
      if (error > worst) worst = error, worst_x = x[r];
    }
  };
  std::vector<float> x(n_rows);
  const int64_t count = 126 * 4096;
  for (int64_t i = 0; i < count; i += n_rows) {
    for (int64_t r = 0; r < n_rows; ++r) x[r] = -static_cast<float>(126.0 * static_cast<double>(i + r) / count);
    check(x);
  }
  for (int e = -30; e < 0; ++e) {  // close to zero
    for (int64_t r = 0; r < n_rows; ++r) x[r] = -std::ldexp(1.0f + static_cast<float>(r) / 64, e);
    check(x);
  }
  EXPECT_LE(worst, 3e-7) << "at " << worst_x;  // the budget is 3e-6
  for (int64_t r = 0; r < n_rows; ++r) x[r] = r % 2 == 0 ? 0.0f : -126.0f;
  check(x);
  EXPECT_EQ(a.acc[0], 1.0f);  // exactly, so that merging with an equal maximum loses nothing
  EXPECT_EQ(a.acc[d], 0x1p-126f);
  for (float low : {-127.0f, -150.0f, -1e4f, -1e30f}) {
    std::fill(x.begin(), x.end(), low);
    check(x);
    EXPECT_LE(a.acc[0], 0x1p-126f);
    EXPECT_GE(a.acc[0], 0.0f);
  }
}

TEST_P(AttentionRows, FinishDividesAndWritesHeadDimValues) {
  for (int64_t head_dim : kHeadDims) {
    const int64_t d = padded_head_dim(head_dim), n_rows = 7;
    State state(n_rows, head_dim);
    const std::vector<float> noise = row_test::normal_row(n_rows * d, 9);
    for (int64_t i = 0; i < n_rows * d; ++i) state.acc[i] = noise[i];
    for (int64_t r = 0; r < n_rows; ++r) state.sum[r] = r == 3 ? 0.0f : 0.7f + static_cast<float>(r);
    const std::vector<float> got = finish(GetParam(), state, n_rows, head_dim);
    for (int64_t i = 0; i < n_rows * head_dim; ++i) {
      const int64_t r = i / head_dim;
      const double want = r == 3 ? 0.0 : static_cast<double>(noise[r * d + i % head_dim]) / state.sum[r];
      ASSERT_NEAR(got[i], want, 2e-7 * std::abs(want)) << head_dim << " element " << i;
    }
  }
}

}  // namespace
}  // namespace glimpse
