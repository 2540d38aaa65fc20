// For the attention tests: a head's queries, keys and values, their panels, and naive attention in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <utility>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/base/half.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_int8.h"
#include "tests/kernels/row_test_support.h"

namespace glimpse {
inline void PrintTo(const AttentionKernel& kernel, std::ostream* out) {
  *out << kernel.name;
}  // for test names
}  // namespace glimpse

namespace glimpse::attention_test {

enum class Scores { kRealistic, kPeaked, kFlat };

/// One head: q (n_rows, head_dim), k and v (n_keys, head_dim).
struct Head {
  int64_t head_dim, n_rows, n_keys;
  std::vector<float> q, k, v;

  /// Values have a mean per dimension, as those of trained models do: without it flat scores average them to nothing.
  /// kRealistic: scores of deviation about 1.5. kPeaked: every query is close to three times some key, which takes
  /// almost all the weight. kFlat: scores near zero.
  Head(int64_t head_dim_, int64_t n_rows_, int64_t n_keys_, Scores scores, uint32_t seed)
      : head_dim(head_dim_),
        n_rows(n_rows_),
        n_keys(n_keys_),
        q(row_test::normal_row(n_rows * head_dim, seed, scores == Scores::kFlat ? 0.01f : 1.5f)),
        k(row_test::normal_row(n_keys * head_dim, seed + 1)),
        v(row_test::normal_row(n_keys * head_dim, seed + 2)) {
    const std::vector<float> mean = row_test::normal_row(head_dim, seed + 3);
    for (int64_t i = 0; i < n_keys * head_dim; ++i) v[i] += mean[i % head_dim];
    if (scores != Scores::kPeaked) return;
    for (int64_t r = 0; r < n_rows; ++r) {
      const int64_t key = (r * 37 + 5) % n_keys;
      for (int64_t i = 0; i < head_dim; ++i) q[r * head_dim + i] = q[r * head_dim + i] / 3 + 3 * k[key * head_dim + i];
    }
  }
};

inline float rounded_to_bf16(float x) {
  return bf16_to_float(float_to_bf16(x));
}

/// To binary16 as the stores do: finite numbers stay finite.
inline float rounded_to_f16(float x) {
  return half_to_float(float_to_half(std::isfinite(x) ? std::clamp(x, -65504.0f, 65504.0f) : x));
}

/// A row as the int8 store holds it: per 32 values round(x / scale) * scale, where the scale is the greatest magnitude
/// / 127, rounded up to binary16. With a NaN or an infinity all 32 are NaN.
inline std::vector<float> rounded_to_q8(const std::vector<float>& row) {
  std::vector<float> out(row.size());
  for (size_t begin = 0; begin < row.size(); begin += 32) {
    const size_t end = std::min(begin + 32, row.size());
    float max = 0;
    bool finite = true;
    for (size_t i = begin; i < end; ++i)
      max = std::max(max, std::abs(row[i])), finite = finite && std::isfinite(row[i]);
    float scale = max / 127.0f;
    uint16_t half = float_to_half(std::min(scale, 65504.0f));
    while (half_to_float(half) < scale && half < 0x7bff) ++half;
    scale = half_to_float(half);
    const float inverse = 1.0f / scale;
    for (size_t i = begin; i < end; ++i) {
      const float q = scale == 0 ? 0 : std::clamp(std::nearbyint(row[i] * inverse), -127.0f, 127.0f);
      out[i] = finite ? q * scale + 0.0f : std::nanf("");  // an integer zero has no sign
    }
  }
  return out;
}

/// Channels of a part of a head that the int8 store mixes, and the gain of mixing twice.
inline int64_t mixed_part(int64_t head_dim) {
  int64_t n = 16;
  while (padded_head_dim(head_dim) % (2 * n) == 0) n *= 2;
  return n;
}
inline float mixed_gain(int64_t head_dim) {
  const double root = std::floor(std::log2(static_cast<double>(mixed_part(head_dim))) / 2);
  return static_cast<float>(static_cast<double>(mixed_part(head_dim)) / std::exp2(2 * root));
}
inline void hadamard(float* x, int64_t n) {
  if (n == 1) return;
  hadamard(x, n / 2);
  hadamard(x + n / 2, n / 2);
  for (int64_t i = 0; i < n / 2; ++i) {
    const float a = x[i], b = x[i + n / 2];
    x[i] = a + b;
    x[i + n / 2] = a - b;
  }
}
/// A row (head_dim) padded with zeros and multiplied by a Hadamard matrix, part by part, and by a power of two.
inline std::vector<float> mixed(std::vector<float> row) {
  const auto head_dim = static_cast<int64_t>(row.size()), n = mixed_part(head_dim);
  row.resize(static_cast<size_t>(padded_head_dim(head_dim)));
  for (size_t i = 0; i < row.size(); i += static_cast<size_t>(n)) hadamard(row.data() + i, n);
  const double root = std::floor(std::log2(static_cast<double>(n)) / 2);
  for (float& x : row) x *= static_cast<float>(std::exp2(-root));
  return row;
}
/// A query (head_dim) as the int8 store's kernels multiply it: times `scale`, mixed, and per 32 values rounded to
/// multiples of the greatest magnitude / 16256; in the channels of the head again.
inline std::vector<float> rounded_query_q8(std::vector<float> row, float scale) {
  const auto head_dim = static_cast<int64_t>(row.size());
  for (float& x : row) x *= scale / mixed_gain(head_dim);
  row = mixed(row);
  for (size_t begin = 0; begin < row.size(); begin += 32) {
    const size_t end = std::min(begin + 32, row.size());
    float max = 0;
    for (size_t i = begin; i < end; ++i) max = std::max(max, std::abs(row[i]));
    for (size_t i = begin; i < end && max > 0; ++i) row[i] = std::nearbyint(row[i] * (16256 / max)) * (max / 16256);
  }
  row = mixed(row);
  row.resize(static_cast<size_t>(head_dim));
  return row;
}

enum class Part { kKey, kValue };

/// A row of keys or values as a store of this element holds it; no channel is wide.
inline std::vector<float> stored_row(KvElement element, std::vector<float> row, Part part) {
  if (element == KvElement::kQ8_0) {
    if (part == Part::kValue) return rounded_to_q8(row);
    const size_t n = row.size();
    row = mixed(rounded_to_q8(mixed(row)));
    row.resize(n);
    for (float& x : row) x /= mixed_gain(static_cast<int64_t>(n));
    return row;
  }
  for (float& x : row) {
    if (element == KvElement::kBf16) x = rounded_to_bf16(x);
    if (element == KvElement::kF16) x = rounded_to_f16(x);
  }
  return row;
}

/// The scale that prepare_queries multiplies by.
inline float query_scale(int64_t head_dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

/// The head as a kernel gets to see it: queries scaled and converted, keys and values as they read back.
inline Head rounded_head(KvElement element, const Head& head) {
  Head out = head;
  const int64_t d = head.head_dim;
  const auto round_rows = [&](std::vector<float>& rows, const auto& rounded) {
    for (size_t i = 0; i < rows.size(); i += d) {
      const std::vector<float> row = rounded(std::vector<float>(rows.begin() + i, rows.begin() + i + d));
      std::copy(row.begin(), row.end(), rows.begin() + i);
    }
  };
  round_rows(out.k, [&](std::vector<float> row) { return stored_row(element, std::move(row), Part::kKey); });
  round_rows(out.v, [&](std::vector<float> row) { return stored_row(element, std::move(row), Part::kValue); });
  round_rows(out.q, [&](std::vector<float> row) {
    if (element == KvElement::kQ8_0) return rounded_query_q8(std::move(row), query_scale(d));
    for (float& x : row) x *= query_scale(d);
    return element == KvElement::kBf16 ? stored_row(element, std::move(row), Part::kKey) : row;
  });
  return out;
}

/// The same for int8, whose panels say it themselves: keys and values as they read back, queries rounded to 127 steps
/// per row after the keys' factors have been applied.
inline Head read_back_head(const Head& head, const std::byte* keys, const std::byte* values) {
  Head out = head;
  const int64_t d = head.head_dim;
  for (int64_t n = 0; n < head.n_keys; ++n) {
    load_key_int8(keys, d, n, &out.k[n * d]);
    load_value_int8(values, d, n, &out.v[n * d]);
  }
  const auto* factor = reinterpret_cast<const float*>(keys);
  for (int64_t r = 0; r < head.n_rows; ++r) {
    float max = 0;
    for (int64_t i = 0; i < d; ++i) max = std::max(max, std::abs(head.q[r * d + i] * query_scale(d) * factor[i]));
    for (int64_t i = 0; i < d; ++i) {
      const float x = head.q[r * d + i] * query_scale(d) * factor[i];
      out.q[r * d + i] = max == 0 ? 0.0f : std::nearbyint(x * (127 / max)) * (max / 127) / factor[i];
    }
  }
  return out;
}

/// softmax(q k^T / sqrt(head_dim)) v in double; row r sees its first n_visible[r] keys. scaled: the queries already
/// are, by log2(e), too, as those of rounded_head().
inline std::vector<double> naive_attention(const Head& head, const std::vector<int64_t>& n_visible, bool scaled) {
  const int64_t d = head.head_dim;
  const double scale = scaled ? 1.0 : 1.4426950408889634 / std::sqrt(static_cast<double>(d));
  std::vector<double> out(head.q.size(), 0.0), p(head.n_keys);
  for (int64_t r = 0; r < head.n_rows; ++r) {
    double max = -1e300, sum = 0;
    for (int64_t n = 0; n < n_visible[r]; ++n) {
      p[n] = 0;
      for (int64_t i = 0; i < d; ++i) p[n] += scale * head.q[r * d + i] * head.k[n * d + i];
      max = std::max(max, p[n]);
    }
    for (int64_t n = 0; n < n_visible[r]; ++n) sum += p[n] = std::exp2(p[n] - max);
    for (int64_t n = 0; n < n_visible[r]; ++n) {
      for (int64_t i = 0; i < d; ++i) out[r * d + i] += p[n] / sum * head.v[n * d + i];
    }
  }
  return out;
}

/// A head's panels for its keys (room for `positions` if that is more), filled with `stale` where there is no key.
struct Panels {
  KvElement element;
  int64_t head_dim, capacity;
  std::vector<int32_t> wide;
  AlignedBuffer keys, values;
  Int8Estimate estimate;  // of to_int8(), which turns them whatever it says

  Panels(Isa isa, KvElement element_, const Head& head, float stale = 0.0f, int64_t positions = 0,
         std::vector<int32_t> wide_ = {})
      : element(element_),
        head_dim(head.head_dim),
        capacity((std::max(head.n_keys, positions) + kKeyBlock - 1) / kKeyBlock * kKeyBlock),
        wide(std::move(wide_)) {
    const auto n_wide = static_cast<int64_t>(wide.size());
    keys = AlignedBuffer::allocate(kv_head_bytes(element, head_dim, capacity, n_wide), "keys").value();
    values = AlignedBuffer::allocate(kv_head_bytes(element, head_dim, capacity), "values").value();
    store_keys(isa, element, head.k.data(), head_dim, head.n_keys, head_dim, 0, keys.data(), wide);
    store_values(isa, element, head.v.data(), head_dim, head.n_keys, head_dim, 0, values.data());
    const std::vector<float> row(static_cast<size_t>(head_dim), stale);
    store_keys(isa, element, row.data(), 0, capacity - head.n_keys, head_dim, head.n_keys, keys.data(), wide);
    store_values(isa, element, row.data(), 0, capacity - head.n_keys, head_dim, head.n_keys, values.data());
  }
  /// What a kernel reads.
  Panels(const AttentionKernel& kernel, const Head& head, float stale = 0.0f, int64_t positions = 0,
         std::vector<int32_t> wide_ = {})
      : Panels(kernel.isa, kernel.element, head, stale, positions, std::move(wide_)) {
    if (kernel.int8) to_int8(kernel.isa, head);
  }
  void to_int8(Isa isa, const Head& head) {
    const SegmentQueries queries{head.q.data(), head_dim, head.n_rows, 1};
    const int64_t d = padded_head_dim(head_dim);
    row_test::Guarded<std::byte> scratch(static_cast<int64_t>(int8_scratch_bytes(d)));
    estimate = estimate_int8(isa, queries, head_dim, head.n_keys, keys.data(), values.data(), scratch.data());
    if (estimate.finite) quantize_segment(isa, head_dim, head.n_keys, keys.data(), values.data(), scratch.data());
  }
};

inline Panels int8_panels(Isa isa, const Head& head, float stale = 0.0f) {
  Panels panels(isa, KvElement::kBf16, head, stale);
  panels.to_int8(isa, head);
  return panels;
}

/// A state with its memory; guards around every part.
struct State {
  int64_t d;
  row_test::Guarded<float> max, sum, acc;
  State(int64_t n_rows, int64_t head_dim) : d(padded_head_dim(head_dim)), max(n_rows), sum(n_rows), acc(n_rows * d) {
    reset_attention_state(view(), n_rows, d);
  }
  AttentionState view(int64_t row = 0) { return {max.data() + row, sum.data() + row, acc.data() + row * d}; }
  std::vector<float> all() {
    std::vector<float> out = acc.copy();
    for (int64_t i = 0; i < max.size(); ++i) out.push_back(max[i]), out.push_back(sum[i]);
    return out;
  }
};

/// How many of the keys of block b a row sees that sees the first n.
inline int32_t visible_in_block(int64_t n, int64_t block) {
  return static_cast<int32_t>(std::clamp<int64_t>(n - block * kKeyBlock, 0, kKeyBlock));
}

inline std::vector<const float*> row_pointers(const std::vector<float>& rows, int64_t head_dim,
                                              const std::vector<int64_t>& order) {
  std::vector<const float*> out;
  for (int64_t r : order) out.push_back(rows.data() + r * head_dim);
  return out;
}

/// Attends the rows `order` of the head, all in one call per block, to the first n_visible[r] keys each, and adds the
/// blocks [first_block, end_block) to the state.
inline void attend(const AttentionKernel& kernel, const Head& head, const Panels& panels,
                   const std::vector<int64_t>& order, const std::vector<int64_t>& n_visible, int64_t first_block,
                   int64_t end_block, const AttentionState& state) {
  const int64_t n = static_cast<int64_t>(order.size()), d = padded_head_dim(head.head_dim);
  const auto row_bytes =
      kernel.int8 ? int8_query_bytes(d)
                  : static_cast<int64_t>(query_row_bytes(kernel.element, d, static_cast<int64_t>(panels.wide.size())));
  row_test::Guarded<std::byte> queries(n * row_bytes);
  row_test::Guarded<std::byte> scratch(static_cast<int64_t>(attention_scratch_bytes(d)));
  const auto rows = row_pointers(head.q, head.head_dim, order);
  if (kernel.int8) {
    prepare_queries_int8(kernel.isa, rows.data(), n, head.head_dim, panels.keys.data(), queries.data());
  } else {
    prepare_queries(kernel.isa, kernel.element, rows.data(), n, head.head_dim, queries.data(), panels.wide);
  }
  std::vector<int32_t> visible(order.size());
  for (int64_t b = first_block; b < end_block; ++b) {
    for (int64_t i = 0; i < n; ++i) visible[i] = visible_in_block(n_visible[order[i]], b);
    kernel.run(queries.data(), n, d, panels.keys.data(), panels.values.data(), b * kKeyBlock, visible.data(), state,
               scratch.data());
  }
}

inline std::vector<int64_t> all_rows(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  return order;
}

/// The finished rows (n_rows, head_dim).
inline std::vector<float> finish(Isa isa, State& state, int64_t n_rows, int64_t head_dim) {
  row_test::Guarded<float> out(n_rows * head_dim, 3);
  std::vector<float*> rows;
  for (int64_t r = 0; r < n_rows; ++r) rows.push_back(out.data() + r * head_dim);
  finish_attention(isa, state.view(), n_rows, head_dim, rows.data());
  return out.copy();
}

/// All rows against all blocks, start to end.
inline std::vector<float> run_attention(const AttentionKernel& kernel, const Head& head, const Panels& panels,
                                        const std::vector<int64_t>& n_visible) {
  State state(head.n_rows, head.head_dim);
  attend(kernel, head, panels, all_rows(head.n_rows), n_visible, 0, panels.capacity / kKeyBlock, state.view());
  return finish(kernel.isa, state, head.n_rows, head.head_dim);
}

/// Runs a test once per line of attention_kernels.inc; a kernel that this CPU cannot run is skipped visibly.
class PerKernel : public testing::TestWithParam<AttentionKernel> {
 protected:
  void SetUp() override {
    if (!detect_isa().has(GetParam().isa)) GTEST_SKIP() << "this CPU cannot run " << GetParam().name;
  }
};
/// The kernels whose keys and values are stored position by position, each for itself.
inline std::vector<AttentionKernel> position_kernels() {
  std::vector<AttentionKernel> out;
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (!kernel.int8) out.push_back(kernel);
  }
  return out;
}
inline std::string kernel_param_name(const testing::TestParamInfo<AttentionKernel>& info) {
  return info.param.name;
}

}  // namespace glimpse::attention_test
