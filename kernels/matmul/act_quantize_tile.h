// Conversion of activations, for 512-bit and 256-bit vectors alike: the arithmetic of quantize_act_ref (act.cpp), so
// the same bits. Q adds to Vec512 or Vec256 what is needed here. Included only by ISA-specific files; internal linkage.
#pragma once

#include "kernels/matmul/act_mix.h"
#include "kernels/matmul/act_view.h"
#include "kernels/simd/inline.h"

namespace glimpse {
namespace {

template <class Q>
GLIMPSE_INLINE void convert_f32(const ActView& view, std::byte* record, const float* x) {
  __builtin_memcpy(record, x, static_cast<uint64_t>(view.k) * 4);
  __builtin_memset(record + view.k * 4, 0, static_cast<uint64_t>(view.k_padded - view.k) * 4);
}

/// The first `have` of n floats; the others are zero.
GLIMPSE_INLINE const float* padded(const float* x, int64_t have, int64_t n, float* buffer) {
  if (have >= n) return x;
  for (int64_t i = 0; i < n; ++i) buffer[i] = i < have ? x[i] : 0.0f;
  return buffer;
}

template <class Q>
GLIMPSE_INLINE void convert_bf16(const ActView& view, std::byte* record, const float* x) {
  float buffer[32];
  for (int64_t i = 0; i < view.k_padded; i += 32) {
    const float* from = padded(x + (i < view.k ? i : 0), view.k - i, 32, buffer);
    for (int j = 0; j < 32; j += Q::kLanes) Q::store_bf16(record + 2 * (i + j), Q::load(from + j));
  }
}

/// mix_block(): from 32 floats to 32 others, which may be the same.
template <class Q>
GLIMPSE_INLINE void mix32(const float* x, float* to) {
  using F = typename Q::F;
  constexpr int n = 32 / Q::kLanes;
  F v[n];
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    v[i] = Q::mul(Q::load_f(x + Q::kLanes * i), Q::load_f(kMixFirst + Q::kLanes * i % 16));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[0]), Q::template partner<1>(v[i]));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[1]), Q::template partner<2>(v[i]));
    v[i] = Q::fma(v[i], Q::load_f(kMixStep[2]), Q::template partner<4>(v[i]));
    if constexpr (Q::kLanes == 16) v[i] = Q::fma(v[i], Q::load_f(kMixStep[3]), Q::template partner<8>(v[i]));
  }
#pragma GCC unroll 2
  for (int step = 1; step < n; step *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
      if ((i & step) != 0) continue;
      const F a = v[i], b = v[i + step];
      v[i] = Q::add(a, b);
      v[i + step] = Q::sub(a, b);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) Q::store_f(to + Q::kLanes * i, v[i]);
}

/// 32 floats to int8 and the sums of each 16, or the sum of all.
template <class Q>
GLIMPSE_INLINE void quantize32(std::byte* to, const float* x, typename Q::F inverse, int32_t* sums) {
  for (int h = 0; h < 2; ++h) sums[h] = Q::sum_of(Q::quantize16(to + 16 * h, x + 16 * h, inverse));
}
template <class Q>
GLIMPSE_INLINE int32_t quantize32(std::byte* to, const float* x, typename Q::F inverse) {
  return Q::sum_of(Q::add_sums(Q::quantize16(to, x, inverse), Q::quantize16(to + 16, x + 16, inverse)));
}

/// One block of `length` values (32 or 128) at value `first` of the record.
template <class Q, ActFormat format, int length>
GLIMPSE_INLINE void convert_int8_block(const ActView& view, std::byte* record, int64_t first, const float* x) {
  typename Q::I largest = Q::zero();
  for (int i = 0; i < length; i += Q::kLanes) {
    largest = Q::max32(largest, Q::and_(Q::load(x + i), Q::set32(0x7fffffff)));
  }
  const int32_t max_bits = Q::reduce_max(largest);
  float max;
  __builtin_memcpy(&max, &max_bits, 4);
  const bool usable = max_bits >= (27 << 23) && max_bits < 0x7f800000;
  const float scale = usable ? max / 127.0f : max_bits >= 0x7f800000 ? __builtin_nanf("") : 0.0f;
  __builtin_memcpy(record + view.scales_at + first / length * 4, &scale, 4);
  const typename Q::F inverse = Q::set_f(usable ? 127.0f / max : 0.0f);
  for (int i = 0; i < length; i += 32) {
    const int64_t at = first + i;
    int32_t sums[2] = {0, 0};  // kInt8x128K: of 16 each, otherwise of all
    if (!usable) {
      __builtin_memset(record + at, 0, 32);
    } else if constexpr (format == ActFormat::kInt8x128K) {
      quantize32<Q>(record + at, x + i, inverse, sums);
    } else {
      sums[0] = quantize32<Q>(record + at, x + i, inverse);
    }
    const int32_t sum = sums[0] + sums[1], bias = -128 * sum;
    __builtin_memcpy(record + view.bias32_at + at / 32 * 4, &bias, 4);
    if constexpr (format == ActFormat::kInt8x128K) {
      const auto sum32 = static_cast<int16_t>(sum);
      __builtin_memcpy(record + view.sums32_at + at / 32 * 2, &sum32, 2);
      const int32_t biases[2] = {-128 * sums[0], -128 * sums[1]};
      const int16_t sums16[2] = {static_cast<int16_t>(sums[0]), static_cast<int16_t>(sums[1])};
      __builtin_memcpy(record + view.bias16_at + at / 16 * 4, biases, 8);
      __builtin_memcpy(record + view.sums16_at + at / 16 * 2, sums16, 4);
    }
  }
}

template <class Q, ActFormat format>
GLIMPSE_INLINE void convert_int8(const ActView& view, std::byte* record, const float* x) {
  constexpr int length = format == ActFormat::kInt8x128K ? 128 : 32;
  alignas(64) float buffer[length];
  for (int64_t i = 0; i < view.k_padded; i += length) {
    const float* from = padded(x + (i < view.k ? i : 0), view.k - i, length, buffer);
    if constexpr (format == ActFormat::kInt8x32Mixed) {
      mix32<Q>(from, buffer);
      from = buffer;
    }
    convert_int8_block<Q, format, length>(view, record, i, from);
  }
}

template <class Q>
GLIMPSE_INLINE void convert_row(const ActView& view, int64_t column, const float* x) {
  std::byte* record = view.data + column * view.row_bytes;
  switch (view.format) {
    case ActFormat::kF32:
      return convert_f32<Q>(view, record, x);
    case ActFormat::kBf16:
      return convert_bf16<Q>(view, record, x);
    case ActFormat::kInt8x32:
      return convert_int8<Q, ActFormat::kInt8x32>(view, record, x);
    case ActFormat::kInt8x32Mixed:
      return convert_int8<Q, ActFormat::kInt8x32Mixed>(view, record, x);
    case ActFormat::kInt8x128K:
      return convert_int8<Q, ActFormat::kInt8x128K>(view, record, x);
  }
}

}  // namespace
}  // namespace glimpse
