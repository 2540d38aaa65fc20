// Segments of int8: the conversion, its estimate, and the bits of the vector kernel.
#include "kernels/attention/attention_int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernels/attention_test_support.h"

namespace glimpse {
namespace {

using namespace attention_test;  // NOLINT
using row_test::nmse;
using row_test::same_bits;

std::vector<double> exact(const Head& head) {
  return naive_attention(head, std::vector<int64_t>(head.n_rows, head.n_keys), false);
}
std::vector<float> attended(const Head& head, const Panels& panels) {
  const AttentionKernel& kernel = select_attention_kernel(KvElement::kBf16, detect_isa(), true);
  return run_attention(kernel, head, panels, std::vector<int64_t>(head.n_rows, head.n_keys));
}

// The greatest error of a channel of the output, relative to that channel.
double worst_channel(const Head& head, const std::vector<float>& got) {
  const std::vector<double> want = exact(head);
  double worst = 0;
  for (int64_t c = 0; c < head.head_dim; ++c) {
    std::vector<float> a;
    std::vector<double> b;
    for (int64_t r = 0; r < head.n_rows; ++r) {
      a.push_back(got[r * head.head_dim + c]);
      b.push_back(want[r * head.head_dim + c]);
    }
    worst = std::max(worst, nmse(a, b));
  }
  return worst;
}

TEST(AttentionInt8, VectorKernelHasTheBitsOfTheReference) {
  if (!detect_isa().has(Isa::kAvx512Vnni)) GTEST_SKIP() << "this CPU has no VNNI";
  const AttentionKernel& vector = select_attention_kernel(KvElement::kBf16, Isa::kAvx512Vnni, true);
  const AttentionKernel& reference = select_attention_kernel(KvElement::kBf16, Isa::kRef, true);
  for (int64_t head_dim : {16, 24, 64, 80, 96, 128, 256}) {
    for (Scores scores : {Scores::kRealistic, Scores::kPeaked, Scores::kFlat}) {
      const int64_t n_rows = head_dim == 80 ? 37 : 13;
      const Head head(head_dim, n_rows, 3 * kKeyBlock - 21, scores, static_cast<uint32_t>(head_dim + 1));
      const Panels panels = int8_panels(Isa::kRef, head, 7.0f);
      for (int64_t block = 0; block < 3; ++block) {  // a block alone: merging has a precision per ISA
        std::vector<int64_t> n_visible(n_rows, head.n_keys);
        for (int64_t r = 0; r < n_rows; r += 3) n_visible[r] = block * kKeyBlock + (r * 29 + 1) % kKeyBlock;
        State got(n_rows, head_dim), want(n_rows, head_dim);
        attend(vector, head, panels, all_rows(n_rows), n_visible, block, block + 1, got.view());
        attend(reference, head, panels, all_rows(n_rows), n_visible, block, block + 1, want.view());
        ASSERT_TRUE(same_bits(got.all(), want.all())) << head_dim << " block " << block;
      }
      const std::vector<float> whole = attended(head, panels);
      const std::vector<float> want = run_attention(reference, head, panels, std::vector<int64_t>(n_rows, head.n_keys));
      EXPECT_LE(nmse(whole, std::vector<double>(want.begin(), want.end())), 1e-11) << head_dim;
    }
  }
}

TEST(AttentionInt8, ConversionIsTheSameWhateverStoredThePanels) {
  const Head head(80, 9, 700, Scores::kRealistic, 3);
  const Panels reference = int8_panels(Isa::kRef, head);
  for (const Isa isa : all_isas()) {
    if (!detect_isa().has(isa)) continue;
    const Panels panels = int8_panels(isa, head);
    const uint64_t bytes = 700 / kKeyBlock * static_cast<uint64_t>(int8_value_block_bytes(80));
    EXPECT_EQ(std::memcmp(panels.keys.data(), reference.keys.data(), bytes), 0) << isa_name(isa);
    EXPECT_EQ(std::memcmp(panels.values.data(), reference.values.data(), bytes), 0) << isa_name(isa);
    EXPECT_EQ(panels.estimate.score, reference.estimate.score) << isa_name(isa);
    EXPECT_EQ(panels.estimate.value, reference.estimate.value) << isa_name(isa);
  }
}

TEST(AttentionInt8, QueriesAreTheSameOnEveryInstructionSet) {
  for (const int64_t head_dim : {24, 72, 80, 128}) {
    Head head(head_dim, 6, 300, Scores::kRealistic, 5);
    std::fill_n(head.q.begin() + head_dim, head_dim, 0.0f);
    head.q[2 * static_cast<size_t>(head_dim)] = std::numeric_limits<float>::quiet_NaN();
    head.q[4 * static_cast<size_t>(head_dim) - 1] = -std::numeric_limits<float>::infinity();
    const Panels panels = int8_panels(Isa::kRef, Head(head_dim, 6, 300, Scores::kRealistic, 5));
    const auto rows = row_pointers(head.q, head_dim, {0, 1, 2, 3, 4, 5});
    const auto n_bytes = static_cast<size_t>(6 * int8_query_bytes(padded_head_dim(head_dim)));
    std::vector<std::byte> want(n_bytes), got(n_bytes);
    prepare_queries_int8(Isa::kRef, rows.data(), 6, head_dim, panels.keys.data(), want.data());
    for (const Isa isa : all_isas()) {
      if (!detect_isa().has(isa)) continue;
      prepare_queries_int8(isa, rows.data(), 6, head_dim, panels.keys.data(), got.data());
      EXPECT_EQ(got, want) << isa_name(isa) << " " << head_dim;
    }
  }
}

TEST(AttentionInt8, ValuesReadBackWithinHalfAStepOfTheirChannel) {
  Head head(24, 5, 600, Scores::kRealistic, 4);
  for (int64_t n = 0; n < 600; ++n) head.v[n * 24 + 3] = 1000 + 0.25f * static_cast<float>(n % 256 % 254);
  const Panels panels = int8_panels(detect_isa(), head);
  for (int64_t c = 0; c < 24; ++c) {
    for (int64_t first = 0; first < 600; first += kKeyBlock) {
      float low = 1e30f, high = -1e30f;
      const int64_t end = std::min<int64_t>(first + kKeyBlock, 600);
      for (int64_t n = first; n < end; ++n) {
        const float x = rounded_to_bf16(head.v[n * 24 + c]);
        low = std::min(low, x), high = std::max(high, x);
      }
      for (int64_t n = first; n < end; ++n) {
        std::vector<float> row(24);
        load_value_int8(panels.values.data(), 24, n, row.data());
        EXPECT_NEAR(row[c], rounded_to_bf16(head.v[n * 24 + c]), (high - low) / 254 * 0.501 + 1e-4) << n << " " << c;
      }
    }
  }
}

TEST(AttentionInt8, EstimateIsTheErrorOfTheScores) {
  for (const float spread : {1.0f, 10.0f, 50.0f}) {
    Head head(80, 64, 1024, Scores::kRealistic, 5);
    for (int64_t n = 0; n < head.n_keys; ++n) head.k[n * 80 + 7] *= spread;
    const Panels panels = int8_panels(detect_isa(), head);
    const Head seen = read_back_head(head, panels.keys.data(), panels.values.data());
    double squares = 0;
    for (int64_t r = 0; r < head.n_rows; ++r) {
      std::vector<double> error(head.n_keys);
      double mean = 0;  // the same for all keys of a row: a softmax does not see it
      for (int64_t n = 0; n < head.n_keys; ++n) {
        for (int64_t i = 0; i < 80; ++i) {
          error[n] += static_cast<double>(seen.q[r * 80 + i]) * seen.k[n * 80 + i] -
                      static_cast<double>(query_scale(80)) * head.q[r * 80 + i] * rounded_to_bf16(head.k[n * 80 + i]);
        }
        mean += error[n] / static_cast<double>(head.n_keys);
      }
      for (const double e : error) squares += (e - mean) * (e - mean);
    }
    const double rms = std::sqrt(squares / static_cast<double>(head.n_rows * head.n_keys));
    // Never much too low. Too high where a loud channel is the greatest number of most rows, which is not rounded.
    EXPECT_GE(panels.estimate.score / rms, 0.95) << spread << " rms " << rms;
    EXPECT_LE(panels.estimate.score / rms, spread == 1 ? 1.1 : 1.35) << spread << " rms " << rms;
  }
}

TEST(AttentionInt8, OrdinaryHeadsFit) {
  for (int64_t head_dim : {64, 80, 128}) {
    for (Scores scores : {Scores::kRealistic, Scores::kFlat}) {
      const Head head(head_dim, 64, 1500, scores, 6);
      const Panels panels = int8_panels(detect_isa(), head);
      EXPECT_TRUE(fits_int8(panels.estimate)) << panels.estimate.score << " " << panels.estimate.value;
      EXPECT_LE(nmse(attended(head, panels), exact(head)), 2e-4);
    }
  }
}

TEST(AttentionInt8, KeysFarFromZeroAndLoudChannelsFit) {
  Head head(80, 64, 1500, Scores::kRealistic, 7);
  for (int64_t n = 0; n < head.n_keys; ++n) {
    head.k[n * 80 + 5] += 50;   // the same for all keys, which the softmax does not see
    head.v[n * 80 + 9] *= 50;   // a channel of its own scale
    head.v[n * 80 + 11] += 50;  // centred
  }
  const Panels panels = int8_panels(detect_isa(), head);
  EXPECT_TRUE(fits_int8(panels.estimate)) << panels.estimate.score << " " << panels.estimate.value;
  EXPECT_LE(worst_channel(head, attended(head, panels)), 2e-3);
}

TEST(AttentionInt8, ALoudKeyChannelIsSharedWithItsQueriesOrRefused) {
  // Loud keys, quiet queries: the products are ordinary, and the factor levels both.
  Head balanced(80, 64, 1500, Scores::kRealistic, 8);
  for (int64_t n = 0; n < balanced.n_keys; ++n) balanced.k[n * 80 + 5] *= 50;
  for (int64_t r = 0; r < balanced.n_rows; ++r) balanced.q[r * 80 + 5] /= 50;
  const Panels level = int8_panels(detect_isa(), balanced);
  EXPECT_TRUE(fits_int8(level.estimate)) << level.estimate.score;
  EXPECT_LE(nmse(attended(balanced, level), exact(balanced)), 2e-4);
  // Loud keys alone: scores of a hundred bits, whose error int8 cannot keep small.
  Head loud = balanced;
  for (int64_t r = 0; r < loud.n_rows; ++r) loud.q[r * 80 + 5] *= 50;
  const Panels refused = int8_panels(detect_isa(), loud);
  EXPECT_TRUE(refused.estimate.finite);
  EXPECT_FALSE(fits_int8(refused.estimate)) << refused.estimate.score;
}

TEST(AttentionInt8, ValuesWithAFewHugeKeysAreRefused) {
  Head head(80, 64, 1500, Scores::kRealistic, 9);
  for (int64_t n = 17; n < head.n_keys; n += 200) {
    for (int64_t c = 0; c < 80; ++c) head.v[n * 80 + c] *= 50;
  }
  const Panels panels = int8_panels(detect_isa(), head);
  EXPECT_TRUE(panels.estimate.finite);
  EXPECT_FALSE(fits_int8(panels.estimate)) << panels.estimate.value;
}

TEST(AttentionInt8, NoNumbersAreRefused) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const int64_t at : {int64_t{0}, int64_t{301 * 24 + 23}, int64_t{600 * 24 + 5}}) {
      Head head(24, 5, 601, Scores::kRealistic, 10);
      head.k[at] = bad;
      EXPECT_FALSE(int8_panels(detect_isa(), head).estimate.finite) << bad << " key " << at;
      head.k[at] = 0;
      EXPECT_TRUE(int8_panels(detect_isa(), head).estimate.finite);
      head.v[at] = bad;
      EXPECT_FALSE(int8_panels(detect_isa(), head).estimate.finite) << bad << " value " << at;
    }
  }
}

TEST(AttentionInt8, ConstantsAndZerosStayWhatTheyAre) {
  Head head(80, 8, 300, Scores::kFlat, 11);
  std::fill(head.k.begin(), head.k.end(), 3.0f);
  for (int64_t n = 0; n < 300; ++n) {
    for (int64_t c = 0; c < 80; ++c) head.v[n * 80 + c] = static_cast<float>(c) - 40;  // exact in bfloat16
  }
  std::fill_n(head.q.begin(), 80, 0.0f);
  const Panels panels = int8_panels(detect_isa(), head);
  EXPECT_TRUE(fits_int8(panels.estimate)) << panels.estimate.score << " " << panels.estimate.value;
  const std::vector<float> got = attended(head, panels);
  for (int64_t i = 0; i < 8 * 80; ++i) EXPECT_NEAR(got[i], static_cast<float>(i % 80) - 40, 1e-5) << i;
}

}  // namespace
}  // namespace glimpse
