// Rows of a key/value cache: how attention reads them, and how those of kQ8_0 are written. Such a row needs the
// greatest of 32 values, which no thread of a matrix product has together: its keys and values are stored as floats
// first, and store_q8() rotates and quantises them.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/norm.cuh"

namespace glimpse::cuda {

/// Values of a cache.
struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};
struct Q8 {
  int8_t code;
};

/// Two values of a cache row: those in the halves of a word.
GLIMPSE_DEVICE void two_of(Bf16, uint32_t word, float& a, float& b) {
  a = bits_to_float(word << 16);
  b = bits_to_float(word & 0xffff0000u);
}
GLIMPSE_DEVICE void two_of(Half, uint32_t word, float& a, float& b) {
  a = half_bits_to_float(word & 0xffffu);
  b = half_bits_to_float(word >> 16);
}
/// Eight values of a cache row.
GLIMPSE_DEVICE void load_eight(const float* from, float (&out)[8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const Vec16 v = reinterpret_cast<const Vec16*>(from)[i];
    GLIMPSE_UNROLL
    for (int j = 0; j < 4; ++j) out[4 * i + j] = bits_to_float(v.w[j]);
  }
}
template <typename T>
GLIMPSE_DEVICE void eight_of(T, const Vec16& v, float (&out)[8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < 4; ++i) two_of(T{}, v.w[i], out[2 * i], out[2 * i + 1]);
}
template <typename T>
GLIMPSE_DEVICE void load_eight(const T* from, float (&out)[8]) {
  eight_of(T{}, *reinterpret_cast<const Vec16*>(from), out);
}
GLIMPSE_DEVICE void load_two(const float* from, float& a, float& b) {
  const Vec8 v = *reinterpret_cast<const Vec8*>(from);
  a = bits_to_float(v.w[0]);
  b = bits_to_float(v.w[1]);
}
template <typename T>
GLIMPSE_DEVICE void load_two(const T* from, float& a, float& b) {
  two_of(T{}, *reinterpret_cast<const uint32_t*>(from), a, b);
}
/// An int8 from the words of a cache, exactly; `flipped`: with the highest bit of each byte turned, so that it is the
/// code + 128, which or-ed to the bits of 2^23 adds to it.
constexpr uint32_t kFlip = 0x80808080u;
GLIMPSE_DEVICE float code_of(uint32_t flipped, int byte) {
  return bits_to_float(0x4b000000u | (flipped >> (8 * byte) & 0xffu)) - 8388736.0f;
}
/// Scale times code: eight values of a row of kQ8_0 of one block.
GLIMPSE_DEVICE void scale_eight(const Vec8& codes, float scale, float (&out)[8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) out[i] = scale * code_of(codes.w[i / 4] ^ kFlip, i % 4);
}

/// Walks over the positions of one head, from dimension d of `position` on, to the end of its page.
template <typename T>
struct CacheRow {
  const T* at;

  GLIMPSE_DEVICE CacheRow(const KvView& kv, const void* base, int head, int64_t position, int d) {
    const T* const page = page_of(kv, static_cast<const T*>(base), position);
    at = page + (head * kv.capacity + position) * kv.padded_dim + d;
  }
  /// Dimensions [i, i + 8).
  GLIMPSE_DEVICE void eight(int i, float (&out)[8]) const { load_eight(at + i, out); }
  GLIMPSE_DEVICE void two(float& a, float& b) const { load_two(at, a, b); }
  GLIMPSE_DEVICE void next(const KvView& kv) { at += kv.padded_dim; }
};
template <>
struct CacheRow<Q8> {
  const uint8_t* codes;
  const uint16_t* scales;

  GLIMPSE_DEVICE CacheRow(const KvView& kv, const void* base, int head, int64_t position, int d) {
    const uint8_t* const page = page_of(kv, static_cast<const uint8_t*>(base), position);
    const int64_t row = head * kv.capacity + position;
    codes = page + row * kv.padded_dim + d;
    scales = cache_scales(kv, page) + row * scale_blocks(kv.padded_dim) + d / kQ8Values;
  }
  GLIMPSE_DEVICE void eight(int i, float (&out)[8]) const {
    scale_eight(*reinterpret_cast<const Vec8*>(codes + i), half_bits_to_float(scales[i / kQ8Values]), out);
  }
  GLIMPSE_DEVICE void two(float& a, float& b) const {
    const float scale = half_bits_to_float(*scales);
    const uint32_t flipped = *reinterpret_cast<const uint16_t*>(codes) ^ kFlip;
    a = scale * code_of(flipped, 0);
    b = scale * code_of(flipped, 1);
  }
  GLIMPSE_DEVICE void next(const KvView& kv) {
    codes += kv.padded_dim;
    scales += scale_blocks(kv.padded_dim);
  }
};

constexpr int kMaxHeadDim = 128;

/// Values that one warp mixes: channel 32 b + lane in x[b].
constexpr int kMixedBlocks = kMaxHeadDim / kWarp;
/// Blocks of 32 channels that are mixed together, or of which each holds parts that are.
GLIMPSE_HD constexpr int mixed_blocks(int padded_dim) {
  const int n = mixed_channels(padded_dim);
  return n < kWarp ? 1 : n / kWarp;
}
/// mix_channels() of the CPU (kernels/attention/attention_q8.h) in mixed_blocks() blocks, with the same bits.
GLIMPSE_DEVICE void mix_blocks(float (&x)[kMixedBlocks], int padded_dim) {
  const int n = mixed_channels(padded_dim);
  for (int step = 1; step < kWarp && step < n; step *= 2) {
    GLIMPSE_UNROLL
    for (int b = 0; b < kMixedBlocks; ++b) {
      const float other = shuffle_xor(x[b], step);
      x[b] = (lane_index() & step) != 0 ? other - x[b] : x[b] + other;
    }
  }
  GLIMPSE_UNROLL
  for (int step = 1; step < kMixedBlocks; step *= 2) {
    if (step * kWarp >= n) continue;
    GLIMPSE_UNROLL
    for (int b = 0; b < kMixedBlocks; ++b) {
      if ((b & step) != 0) continue;
      const float a = x[b], c = x[b + step];
      x[b] = a + c;
      x[b + step] = a - c;
    }
  }
  float by = 1;
  for (int m = n; m >= 4; m /= 4) by *= 0.5f;
  GLIMPSE_UNROLL
  for (int b = 0; b < kMixedBlocks; ++b) x[b] *= by;
}
/// What makes up for mixing keys by mix_blocks() and queries by the sums and differences alone.
GLIMPSE_DEVICE float mixing_factor(int padded_dim) {
  float by = 1;
  for (int n = mixed_channels(padded_dim); n > 1; n /= 4) by *= 0.5f;
  return by;
}
/// What makes up for mixing both by mix_blocks(): 1 / mixing_gain() of the CPU.
GLIMPSE_DEVICE float mixing_loss(int padded_dim) {
  int n = mixed_channels(padded_dim);
  for (; n >= 4; n /= 4) {
  }
  return 1.0f / static_cast<float>(n);
}

/// One block of a row of kQ8_0, a value per lane: the scale as binary16, rounded up so that the greatest magnitude
/// fits, and the lane's code. A NaN or an infinity makes the scale NaN. The CPU's cache has the same bits
/// (kernels/attention/attention_q8.cpp).
struct Q8Code {
  uint16_t scale;
  int8_t code;
};
GLIMPSE_DEVICE Q8Code quantize_lane(float x) {
  uint32_t most = float_to_bits(x) & 0x7fffffffu;
  GLIMPSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t other = shuffle_xor(most, mask);
    most = most < other ? other : most;
  }
  if (most >= 0x7f800000u) return {0x7e00, 0};
  const float exact = bits_to_float(most) / 127.0f;
  auto scale = static_cast<uint16_t>(pack_half(exact, 0.0f));
  if (half_bits_to_float(scale) < exact && scale < 0x7bff) ++scale;
  const float inverse = scale == 0 ? 0.0f : 1.0f / half_bits_to_float(scale);
  // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the lowest bits.
  const float y = fminf(fmaxf(x * inverse, -127.0f), 127.0f);
  return {scale, static_cast<int8_t>(float_to_bits(y + 12582912.0f) & 0xffu)};
}

/// Heads of a row in place, a warp each: lanes ascending, then a tree.
GLIMPSE_DEVICE void normalize_heads(float* heads, int n_heads, int dim, const NormView& norm) {
  if (norm.kind == NormKind::kNone) return;
  for (int head = warp_index(); head < n_heads; head += n_threads() / kWarp) {
    float* const x = heads + head * dim;
    float square = 0;
    for (int i = lane_index(); i < dim; i += kWarp) square = fmaf(x[i], x[i], square);
    const Moments m{0.0f, 1.0f / sqrtf(warp_sum(square) / static_cast<float>(dim) + norm.eps)};
    for (int i = lane_index(); i < dim; i += kWarp) x[i] = normalized(x[i], norm, m, i);
  }
}
/// What is rotated next, by other threads.
GLIMPSE_DEVICE void normalize_heads(const RopeArgs& args, int row) {
  if (args.k_norm.kind == NormKind::kNone) return;
  normalize_heads(args.q + row * args.ld_q, args.n_heads, args.kv.head_dim, args.q_norm);
  normalize_heads(args.keys + row * args.ld_keys, args.kv.n_heads, args.kv.head_dim, args.k_norm);
  barrier();
}

GLIMPSE_DEVICE void rotate_queries(const RopeArgs& args, int row, const float* cosine, const float* sine) {
  const int half = args.kv.head_dim / 2;
  for (int i = thread_index(); i < args.n_heads * half; i += n_threads()) {
    float* const at = args.q + row * args.ld_q + i / half * 2 * half + i % half;
    rotate(cosine[i % half], sine[i % half], at[0], at[half]);
  }
}

GLIMPSE_DEVICE void store_q8_block(const KvView& kv, void* base, int head, int64_t position, int block, float x) {
  base = page_of(kv, base, position);
  const int64_t at = head * kv.capacity + position;
  const int d = block * kQ8Values + lane_index();
  const Q8Code q = quantize_lane(x);
  if (d < kv.padded_dim) static_cast<int8_t*>(base)[at * kv.padded_dim + d] = q.code;
  if (lane_index() == 0) cache_scales(kv, base)[at * scale_blocks(kv.padded_dim) + block] = q.scale;
}

/// Keys rotated and mixed, values as they are, both quantised into the cache; queries rotated in place, where they are
/// not yet (args.q is not null). A warp takes a block of 32 values, or the blocks that are mixed together.
GLIMPSE_DEVICE void store_q8_row(const RopeArgs& args, int row) {
  KvView kv;
  const int64_t slot = find_slot(args, args.at, row, kv), angle = rope_row_of(args.at, row);
  const int dim = kv.head_dim, half = dim / 2, blocks = scale_blocks(kv.padded_dim);
  const float* const cosine = args.cos + angle * args.ld_rope;
  const float* const sine = args.sin + angle * args.ld_rope;
  normalize_heads(args, row);
  if (args.q != nullptr) rotate_queries(args, row, cosine, sine);
  const int together = mixed_blocks(kv.padded_dim), parts = (blocks + together - 1) / together;
  for (int i = warp_index(); i < kv.n_heads * parts; i += n_threads() / kWarp) {
    const int head = i / parts, first = i % parts * together;
    float x[kMixedBlocks] = {};  // padding
    GLIMPSE_UNROLL
    for (int b = 0; b < kMixedBlocks; ++b) {
      const int d = (first + b) * kQ8Values + lane_index();
      if (b >= together || d >= dim) continue;
      const float* const key = args.keys + row * args.ld_keys + head * dim + d % half;
      float low = key[0], high = key[half];
      rotate(cosine[d % half], sine[d % half], low, high);
      x[b] = d < half ? low : high;
    }
    mix_blocks(x, kv.padded_dim);
    GLIMPSE_UNROLL
    for (int b = 0; b < kMixedBlocks; ++b) {
      if (b < together) store_q8_block(kv, kv.keys, head, slot, first + b, x[b]);
    }
  }
  for (int i = warp_index(); i < kv.n_heads * blocks; i += n_threads() / kWarp) {
    const int head = i / blocks, block = i % blocks, d = block * kQ8Values + lane_index();
    const float x = d < dim ? args.values[row * args.ld_keys + head * dim + d] : 0.0f;
    store_q8_block(kv, kv.values, head, slot, block, x);
  }
}

/// Grid: x: rows.
GLIMPSE_DEVICE void store_q8(const RopeArgs& args) {
  launch_dependents();
  dependency_wait();
  store_q8_row(args, block_x());
}

}  // namespace glimpse::cuda
