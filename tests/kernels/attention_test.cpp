// Every attention kernel against naive attention in double.
#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>

#include "tests/kernels/attention_test_support.h"

namespace glimpse {
namespace {

using namespace attention_test;  // NOLINT
using row_test::nmse;

class Attention : public PerKernel {};
INSTANTIATE_TEST_SUITE_P(Kernel, Attention, testing::ValuesIn(attention_kernels()), kernel_param_name);

// What holds where every position is stored for itself. A segment of int8 takes no NaN (attention_int8_test.cpp).
class AttentionByPosition : public PerKernel {};
INSTANTIATE_TEST_SUITE_P(Kernel, AttentionByPosition, testing::ValuesIn(position_kernels()), kernel_param_name);

constexpr int64_t kHeadDims[] = {16, 24, 64, 72, 80, 128, 256};

// The limit for the whole operation, storage included. Rounding to binary16 is off by 2^-11 at most, uniformly, so by
// 2^-22 / 3 in the mean square, once for the keys and once for the values; queries and probabilities stay floats.
double budget(const AttentionKernel& kernel) {
  if (kernel.int8) return 1e-3;
  switch (kernel.element) {
    case KvElement::kBf16:
      return 5e-5;
    case KvElement::kF16:
      return 2 * 0x1p-22 / 3;
    case KvElement::kQ8_0:
      return 1e-4;
    case KvElement::kF32:
      break;
  }
  return 1e-10;
}

// The limit of a kernel against exact attention on what it gets to see. What is left:
// bf16: the rounding of the probabilities, relative errors of at most 2^-9, uniform, so 1.3e-6 in the mean square when
//   the values are independent and nothing averages out, less when they have a mean.
// q8_0: the rounding of the weights, uniform in 1/32767 of the greatest, of up to 256 keys: 256 / 32767^2 / 12 = 2e-8
// of
//   the greatest contribution squared.
// int8: the same in 1/255 of the greatest, in the reference too, which has the same integers.
// f16, f32: float arithmetic. The reference rounds its float results and states only.
double budget_on_rounded(const AttentionKernel& kernel) {
  if (kernel.int8) return 256.0 / (255 * 255 * 12);
  if (kernel.isa == Isa::kRef) return 1e-13;
  return kernel.element == KvElement::kBf16 ? 2e-6 : kernel.element == KvElement::kQ8_0 ? 2e-7 : 1e-11;
}

void expect_within_budget(const AttentionKernel& kernel, const Head& head, const std::vector<int64_t>& n_visible,
                          const std::string& what) {
  const Panels panels(kernel, head, 1e4f);
  const std::vector<float> got = run_attention(kernel, head, panels, n_visible);
  EXPECT_LE(nmse(got, naive_attention(head, n_visible, false)), budget(kernel)) << what;
  const Head seen =
      kernel.int8 ? read_back_head(head, panels.keys.data(), panels.values.data()) : rounded_head(kernel.element, head);
  EXPECT_LE(nmse(got, naive_attention(seen, n_visible, true)), budget_on_rounded(kernel)) << what << ", rounded inputs";
}

TEST_P(Attention, MatchesNaiveAttentionForAllHeadDimsAndScores) {
  for (int64_t head_dim : kHeadDims) {
    for (Scores scores : {Scores::kRealistic, Scores::kPeaked, Scores::kFlat}) {
      const Head head(head_dim, 64, 2 * kKeyBlock + 37, scores, static_cast<uint32_t>(head_dim));
      const std::vector<int64_t> n_visible(64, head.n_keys);
      expect_within_budget(GetParam(), head, n_visible,
                           "head_dim " + std::to_string(head_dim) + " scores " + std::to_string(int(scores)));
    }
  }
}

TEST_P(Attention, MatchesNaiveAttentionForAllRowCounts) {
  for (int64_t head_dim : {24, 64, 80, 128}) {
    for (int64_t n_rows = 1; n_rows <= kMaxQueryRows; n_rows += n_rows < 18 ? 1 : 23) {
      const Head head(head_dim, n_rows, 300, Scores::kPeaked, static_cast<uint32_t>(n_rows));
      expect_within_budget(GetParam(), head, std::vector<int64_t>(n_rows, 300),
                           "head_dim " + std::to_string(head_dim) + " rows " + std::to_string(n_rows));
    }
  }
}

TEST_P(Attention, MatchesNaiveAttentionForAllVisibleCounts) {
  for (int64_t head_dim : {16, 80, 128}) {
    for (int64_t n : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 511, 512, 513}) {
      const Head head(head_dim, 9, n, Scores::kPeaked, static_cast<uint32_t>(n));
      expect_within_budget(GetParam(), head, std::vector<int64_t>(9, n),
                           "head_dim " + std::to_string(head_dim) + " visible " + std::to_string(n));
    }
  }
}

TEST_P(Attention, MatchesNaiveCausalAttention) {
  const Head head(128, 64, 600, Scores::kRealistic, 7);
  std::vector<int64_t> n_visible;  // groups of 6 query heads, as stacked for grouped-query attention
  for (int64_t r = 0; r < 64; ++r) n_visible.push_back(505 + r / 6);
  expect_within_budget(GetParam(), head, n_visible, "grouped");
  for (int64_t r = 0; r < 64; ++r) n_visible[r] = 1 + (r * 131) % 600;  // rows of one tile far apart
  expect_within_budget(GetParam(), head, n_visible, "mixed");
}

// Both channels of a pair carry a bias after the rotation, of an angle that differs from key to key.
TEST_P(AttentionByPosition, BiasesInAFewChannelsCostNothingWhereTheyAreWide) {
  for (const int64_t head_dim : {24, 64, 80, 128}) {
    for (const float bias : {0.0f, 20.0f, 60.0f, 350.0f}) {
      Head head(head_dim, 21, 300, Scores::kRealistic, static_cast<uint32_t>(head_dim));
      std::vector<float> biases(static_cast<size_t>(head_dim));
      biases[5] = bias;
      const auto pair = static_cast<int64_t>(5 + head_dim / 2);
      for (int64_t n = 0; n < head.n_keys; ++n) {
        const double angle = 0.7 * static_cast<double>(n);
        head.k[n * head_dim + 5] += static_cast<float>(bias * std::cos(angle));
        head.k[n * head_dim + pair] += static_cast<float>(bias * std::sin(angle));
      }
      for (int64_t r = 0; r < head.n_rows; ++r) {  // scores as before
        for (const int64_t channel : {int64_t{5}, pair}) head.q[r * head_dim + channel] *= 1 / (1 + bias);
      }
      const std::vector<int32_t> wide =
          GetParam().element == KvElement::kQ8_0 ? wide_key_channels(biases, 1, head_dim) : std::vector<int32_t>();
      const std::vector<int64_t> n_visible(21, head.n_keys);
      const std::vector<double> want = naive_attention(head, n_visible, false);
      const Panels panels(GetParam(), head, 1e4f, 0, wide);
      const double error = nmse(run_attention(GetParam(), head, panels, n_visible), want);
      EXPECT_LE(error, budget(GetParam())) << head_dim << " bias " << bias;
      if (bias < 60 || GetParam().element != KvElement::kQ8_0) continue;
      const Panels narrow(GetParam(), head, 1e4f);
      EXPECT_GT(nmse(run_attention(GetParam(), head, narrow, n_visible), want), 3 * error) << head_dim;
    }
  }
}

TEST_P(Attention, RowThatSeesNothingKeepsItsState) {
  const Head head(80, 11, 256, Scores::kRealistic, 3);
  const Panels panels(GetParam(), head);
  for (bool others_see : {false, true}) {
    State state(11, 80);
    for (int64_t i = 0; i < state.acc.size(); ++i) state.acc[i] = static_cast<float>(i) - 400;
    for (int64_t r = 0; r < 11; ++r) state.max[r] = static_cast<float>(r), state.sum[r] = 2;
    const std::vector<float> before = state.all();
    std::vector<int64_t> n_visible(11, 0);
    if (others_see) n_visible[1] = 17, n_visible[8] = 256;
    attend(GetParam(), head, panels, all_rows(11), n_visible, 0, 1, state.view());
    for (int64_t r = 0; r < 11; ++r) {
      if (n_visible[r] != 0) {
        EXPECT_NE(state.acc[r * 80], before[r * 80]) << r;
        continue;
      }
      EXPECT_EQ(state.max[r], static_cast<float>(r));
      EXPECT_EQ(state.sum[r], 2);
      for (int64_t i = r * 80; i < (r + 1) * 80; ++i) ASSERT_EQ(state.acc[i], before[i]);
    }
  }
}

TEST_P(Attention, RowWithoutKeysFinishesAsZero) {
  const Head head(72, 3, 40, Scores::kRealistic, 3);
  const Panels panels(GetParam(), head);
  const std::vector<float> got = run_attention(GetParam(), head, panels, {40, 0, 40});
  for (int64_t i = 72; i < 144; ++i) EXPECT_EQ(got[i], 0.0f);
  EXPECT_NE(got[0], 0.0f);
  EXPECT_NE(got[144], 0.0f);
}

TEST_P(AttentionByPosition, NanInAKeyReachesExactlyTheRowsThatSeeIt) {
  Head head(64, 16, 256, Scores::kRealistic, 5);
  std::vector<int64_t> n_visible;
  for (int64_t r = 0; r < 16; ++r) n_visible.push_back(95 + r);
  const Panels clean(GetParam(), head);
  const std::vector<float> want = run_attention(GetParam(), head, clean, n_visible);
  head.k[100 * 64 + 9] = std::numeric_limits<float>::quiet_NaN();
  const Panels broken(GetParam(), head);
  const std::vector<float> got = run_attention(GetParam(), head, broken, n_visible);
  for (int64_t i = 0; i < 16 * 64; ++i) {
    if (n_visible[i / 64] > 100) {
      ASSERT_TRUE(std::isnan(got[i])) << i;
    } else {
      ASSERT_EQ(got[i], want[i]) << i;
    }
  }
}

TEST_P(AttentionByPosition, NanInAValueReachesExactlyTheRowsThatSeeIt) {
  Head head(64, 16, 256, Scores::kRealistic, 5);
  std::vector<int64_t> n_visible(8, 100);
  n_visible.insert(n_visible.end(), 8, 101);  // groups of 8 rows: weights of zero are not multiplied by the NaN
  const Panels clean(GetParam(), head);
  const std::vector<float> want = run_attention(GetParam(), head, clean, n_visible);
  head.v[100 * 64 + 9] = std::numeric_limits<float>::quiet_NaN();
  const Panels broken(GetParam(), head);
  const std::vector<float> got = run_attention(GetParam(), head, broken, n_visible);
  for (int64_t i = 0; i < 8 * 64; ++i) ASSERT_EQ(got[i], want[i]) << i;
  for (int64_t r = 8; r < 16; ++r) ASSERT_TRUE(std::isnan(got[r * 64 + 9])) << r;
}

TEST_P(Attention, InfiniteScoresGiveNanAndNothingElse) {
  Head head(64, 8, 300, Scores::kRealistic, 6);
  head.q[2 * 64] = std::numeric_limits<float>::infinity();
  for (int64_t n = 0; n < 300; ++n) head.k[n * 64] = n == 150 ? 2.0f : -1.0f;  // scores of row 2: infinities
  const Panels panels(GetParam(), head);
  const std::vector<float> got = run_attention(GetParam(), head, panels, std::vector<int64_t>(8, 300));
  for (int64_t i = 0; i < 8 * 64; ++i) ASSERT_EQ(std::isnan(got[i]), i / 64 == 2) << i;
}

TEST_P(Attention, HugeScoreRangesStayFinite) {
  Head head(128, 8, 400, Scores::kRealistic, 8);
  for (float& x : head.q) x *= 1000;
  expect_within_budget(GetParam(), Head(128, 8, 400, Scores::kPeaked, 8), std::vector<int64_t>(8, 400), "peaked");
  const Panels panels(GetParam(), head);
  for (float x : run_attention(GetParam(), head, panels, std::vector<int64_t>(8, 400))) ASSERT_TRUE(std::isfinite(x));
}

TEST(AttentionKernels, EveryElementHasANameAndAKernelOnEveryLevel) {
  std::set<std::string> names;
  for (const KvElement element : kKvElements) {
    names.insert(kv_element_name(element));
    for (const Isa isa : all_isas()) {
      const AttentionKernel& kernel = select_attention_kernel(element, isa);
      EXPECT_EQ(kernel.element, element) << kernel.name;
      EXPECT_TRUE(isa.has(kernel.isa)) << kernel.name;
    }
  }
  EXPECT_EQ(names, (std::set<std::string>{"bf16", "f16", "f32", "q8_0"}));
}

TEST(AttentionKernels, SelectTakesTheBestThatTheLevelAllows) {
  const auto expect = [](KvElement element, bool int8, std::initializer_list<std::pair<Isa, const char*>> names) {
    for (const auto& [isa, name] : names) EXPECT_STREQ(select_attention_kernel(element, isa, int8).name, name);
  };
  expect(KvElement::kBf16, false,
         {{Isa::kAvx512Bf16, "attention_bf16_avx512bf16"},
          {Isa::kAvx512Vnni, "attention_bf16_avx512"},
          {Isa::kRef, "attention_bf16_ref"}});
  expect(KvElement::kF32, false, {{Isa::kAvx512Bf16, "attention_f32_avx512"}, {Isa::kAvx2, "attention_f32_avx2"}});
  expect(KvElement::kF16, false,
         {{Isa::kAvx512Bf16, "attention_f16_avx512"},
          {Isa::kAvx2, "attention_f16_avx2"},
          {Isa::kRef, "attention_f16_ref"}});
  expect(KvElement::kQ8_0, false,
         {{Isa::kAvx512Bf16, "attention_q8_avx512vnni"},
          {Isa::kAvx512, "attention_q8_avx512"},
          {Isa::kAvx2, "attention_q8_avx2"},
          {Isa::kRef, "attention_q8_ref"}});
  expect(KvElement::kBf16, true,
         {{Isa::kAvx512Vnni, "attention_int8_avx512vnni"}, {Isa::kAvx512, "attention_int8_ref"}});
}

}  // namespace
}  // namespace glimpse
