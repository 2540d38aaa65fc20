// What a row's bits may depend on: its query, its keys and values, its state. Nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/kernels/attention_test_support.h"

namespace glimpse {
namespace {

using namespace attention_test;  // NOLINT
using row_test::same_bits;

class AttentionBits : public PerKernel {};
INSTANTIATE_TEST_SUITE_P(Kernel, AttentionBits, testing::ValuesIn(attention_kernels()), kernel_param_name);

// Not for segments of int8, whose every number depends on all keys.
class AttentionBitsByPosition : public PerKernel {};
INSTANTIATE_TEST_SUITE_P(Kernel, AttentionBitsByPosition, testing::ValuesIn(position_kernels()), kernel_param_name);

constexpr int64_t kHeadDims[] = {24, 64, 80, 96, 128};

std::vector<int64_t> causal(int64_t n_rows, int64_t first) {
  std::vector<int64_t> n_visible;
  for (int64_t r = 0; r < n_rows; ++r) n_visible.push_back(first + r / 3);
  return n_visible;
}

TEST_P(AttentionBits, AreTheSameForEveryCutOfTheRows) {
  for (int64_t head_dim : kHeadDims) {
    const Head head(head_dim, 64, 530, Scores::kRealistic, 1);
    const Panels panels(GetParam(), head, 3.0f);
    const std::vector<int64_t> n_visible = causal(64, 500);  // straddles a block's end
    const std::vector<float> want = run_attention(GetParam(), head, panels, n_visible);
    for (int64_t size = 1; size <= 19; ++size) {
      State state(64, head_dim);
      for (int64_t r = 0; r < 64; r += size) {
        std::vector<int64_t> order;
        for (int64_t i = r; i < std::min<int64_t>(r + size, 64); ++i) order.push_back(i);
        attend(GetParam(), head, panels, order, n_visible, 0, 3, state.view(r));
      }
      ASSERT_TRUE(same_bits(finish(GetParam().isa, state, 64, head_dim), want)) << head_dim << " by " << size;
    }
  }
}

TEST_P(AttentionBits, AreTheSameForEveryOrderOfTheRows) {
  const Head head(128, 64, 300, Scores::kRealistic, 2);
  const Panels panels(GetParam(), head);
  std::vector<int64_t> n_visible = causal(64, 3);
  n_visible[5] = 0;
  const std::vector<float> want = run_attention(GetParam(), head, panels, n_visible);
  std::vector<int64_t> order = all_rows(64);
  std::mt19937 generator(3);
  for (int round = 0; round < 4; ++round) {
    std::shuffle(order.begin(), order.end(), generator);
    State state(64, 128);
    attend(GetParam(), head, panels, order, n_visible, 0, 2, state.view());
    const std::vector<float> got = finish(GetParam().isa, state, 64, 128);
    for (int64_t i = 0; i < 64; ++i) {
      ASSERT_TRUE(same_bits(std::span(got).subspan(i * 128, 128), std::span(want).subspan(order[i] * 128, 128)));
    }
  }
}

TEST_P(AttentionBits, IgnoreWhatLiesBehindTheVisibleKeys) {
  for (int64_t head_dim : kHeadDims) {
    for (int64_t n : {1, 15, 16, 17, 100, 255, 256, 300}) {
      const Head head(head_dim, 13, n, Scores::kRealistic, 4);
      const std::vector<int64_t> n_visible(13, n);
      const Panels zero(GetParam(), head, 0.0f);
      const std::vector<float> want = run_attention(GetParam(), head, zero, n_visible);
      for (float stale : {-0.0f, 1.0f, -3e38f, 3e38f, 1e-40f}) {  // finite, as the contract demands
        const Panels other(GetParam(), head, stale);
        ASSERT_TRUE(same_bits(run_attention(GetParam(), head, other, n_visible), want))
            << head_dim << " visible " << n << " stale " << stale;
      }
    }
  }
}

TEST_P(AttentionBitsByPosition, TakeNoSignOfZeroFromKeysThatOtherRowsSee) {
  // Rows that see two keys: weights 0.88 and 1, values the smallest normal number below zero and 0. vdpbf16ps flushes
  // the product to -0; whether that becomes +0 must not hang on the sign of the next keys, which other rows see.
  Head head(64, 8, 4, Scores::kFlat, 5);
  std::fill(head.q.begin(), head.q.end(), 0.0f);
  std::fill(head.k.begin(), head.k.end(), 0.0f);
  for (int64_t r = 0; r < 8; ++r) head.q[r * 64] = 1;
  head.k[64] = 1;
  std::fill_n(head.v.begin(), 64, -0x1p-126f);
  std::fill_n(head.v.begin() + 64, 64, 0.0f);
  const std::vector<int64_t> n_visible = {2, 4, 2, 4, 2, 2, 4, 2};
  std::vector<float> seen[2];
  for (int sign = 0; sign < 2; ++sign) {
    std::fill_n(head.v.begin() + 128, 128, sign == 0 ? 1.0f : -1.0f);
    const Panels panels(GetParam(), head);
    const std::vector<float> got = run_attention(GetParam(), head, panels, n_visible);
    for (int64_t r = 0; r < 8; ++r) {
      if (n_visible[r] == 2) seen[sign].insert(seen[sign].end(), got.begin() + r * 64, got.begin() + (r + 1) * 64);
    }
  }
  EXPECT_TRUE(same_bits(seen[0], seen[1]));
}

TEST_P(AttentionBits, AreTheSameWhenBlocksAreMergedFromSeparateStates) {
  for (int64_t head_dim : {24, 128}) {
    const int64_t n_rows = 21, d = padded_head_dim(head_dim);
    const Head head(head_dim, n_rows, 1000, Scores::kRealistic, 6);
    const Panels panels(GetParam(), head);
    std::vector<int64_t> n_visible;  // some rows see nothing of the later blocks, one nothing at all
    for (int64_t r = 0; r < n_rows; ++r) n_visible.push_back(r * 50);
    State whole(n_rows, head_dim);
    attend(GetParam(), head, panels, all_rows(n_rows), n_visible, 0, 4, whole.view());
    State merged(n_rows, head_dim);
    for (int64_t b = 0; b < 4; ++b) {
      State part(n_rows, head_dim);
      attend(GetParam(), head, panels, all_rows(n_rows), n_visible, b, b + 1, part.view());
      merge_attention_states(GetParam().isa, merged.view(), part.view(), n_rows, d);
    }
    EXPECT_TRUE(same_bits(merged.all(), whole.all())) << head_dim;
  }
}

TEST_P(AttentionBitsByPosition, OfDecodingEqualThoseOfPrefill) {
  const int64_t head_dim = 128, n = 275;
  const Head head(head_dim, 64, n, Scores::kRealistic, 7);
  std::vector<int64_t> n_visible;
  for (int64_t r = 0; r < 64; ++r) n_visible.push_back(n - 63 + r);
  const Panels filled(GetParam(), head);
  const std::vector<float> prefill = run_attention(GetParam(), head, filled, n_visible);
  Head past = head;  // the cache before the first decoded row, then grown position by position
  past.n_keys = n - 64;
  Panels grown(GetParam(), past, -2.0f, n);
  for (int64_t r = 0; r < 64; ++r) {
    const int64_t position = n - 64 + r;
    store_key(GetParam().isa, GetParam().element, &head.k[position * head_dim], head_dim, position, grown.keys.data());
    store_value(GetParam().isa, GetParam().element, &head.v[position * head_dim], head_dim, position,
                grown.values.data());
    State state(1, head_dim);
    attend(GetParam(), head, grown, {r}, n_visible, 0, grown.capacity / kKeyBlock, state.view());
    ASSERT_TRUE(same_bits(finish(GetParam().isa, state, 1, head_dim), std::span(prefill).subspan(r * 128, 128))) << r;
  }
}

}  // namespace
}  // namespace glimpse
