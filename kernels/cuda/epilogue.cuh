// What happens to a product before it is stored: bias, activation, SwiGLU, residual, rotation, cache write.
#pragma once

#include "kernels/cuda/args.h"

namespace glimpse::cuda {

GLIMPSE_DEVICE float silu(float z) {
  return z / (1.0f + expf(-z));
}

GLIMPSE_DEVICE float activate(Act act, float z) {
  switch (act) {
    case Act::kNone:
      return z;
    case Act::kQuickGelu:
      return z / (1.0f + expf(-1.702f * z));
    case Act::kGeluErf:
      return 0.5f * z * (1.0f + erff(z * 0.70710678118654752f));
    case Act::kGeluTanh:
      return 0.5f * z * (1.0f + tanhf(0.79788456080286536f * (z + 0.044715f * z * z * z)));
    case Act::kSilu:
      return silu(z);
  }
  return z;
}

GLIMPSE_DEVICE void store_kv(const KvView& kv, void* base, int head, int64_t position, int dim, float value) {
  const int64_t at = (static_cast<int64_t>(head) * kv.capacity + position) * kv.padded_dim + dim;
  switch (kv.type) {
    case CacheType::kF32:
      static_cast<float*>(base)[at] = value;
      return;
    case CacheType::kBf16:
      static_cast<uint16_t*>(base)[at] = static_cast<uint16_t>(pack_bf16(value, 0.0f));
      return;
    case CacheType::kF16:
      static_cast<uint16_t*>(base)[at] = static_cast<uint16_t>(pack_half(value, 0.0f));
      return;
  }
}

/// The slot of row 0 of a pass, and its row of the rotation table.
GLIMPSE_DEVICE int64_t first_slot(const StepState* step, int64_t n_past) {
  return step != nullptr ? step->n_past : n_past;
}
GLIMPSE_DEVICE int64_t first_rope_row(const StepState* step) {
  return step != nullptr ? step->rope_row : 0;
}

/// a and b turned by one angle.
GLIMPSE_DEVICE void rotate(float cosine, float sine, float& a, float& b) {
  const float turned = fmaf(a, cosine, -(b * sine));
  b = fmaf(b, cosine, a * sine);
  a = turned;
}

/// values: row g of the two tiles of pair p, for one column. step: args.step, or null in kernels that no step runs.
GLIMPSE_DEVICE void finish(const LinearArgs& args, const StepState* step, const Segment& s, int p, int g, int column,
                           float a, float b) {
  const PairTiles pair = pair_tiles(s, p);
  const int row_a = pair.tile[0] * kTileRows + g, row_b = pair.tile[1] * kTileRows + g;
  const bool has_a = row_a < s.w[0].rows, has_b = row_b < s.w[0].rows;
  if (s.bias[0] != nullptr && has_a) a += s.bias[0][row_a];
  const float* bias_b = s.bias[pair.matrix[1]];
  if (bias_b != nullptr && has_b) b += bias_b[row_b];
  float* const out = s.out + column * s.ld;
  switch (s.output) {
    case Output::kStore:
      if (has_a) out[row_a] = activate(s.act, a);
      if (has_b) out[row_b] = activate(s.act, b);
      return;
    case Output::kAdd:
      if (has_a) out[row_a] += a;
      if (has_b) out[row_b] += b;
      return;
    case Output::kSwiglu:
      if (has_a) out[row_a] = silu(a) * b;
      return;
    case Output::kRopeQuery:
    case Output::kRopeKey: {
      const int half = s.half_tiles * kTileRows;
      const int head = row_a / (2 * half), dim = row_a % (2 * half);
      const int64_t angle = (first_rope_row(step) + column) * args.ld_rope + dim;
      rotate(args.cos[angle], args.sin[angle], a, b);
      if (s.output == Output::kRopeQuery) {
        out[row_a] = a;
        out[row_b] = b;
      } else {
        const int64_t slot = first_slot(step, args.n_past) + column;
        store_kv(args.kv, args.kv.keys, head, slot, dim, a);
        store_kv(args.kv, args.kv.keys, head, slot, dim + half, b);
      }
      return;
    }
    case Output::kValue: {
      const int d = args.kv.head_dim;
      const int64_t slot = first_slot(step, args.n_past) + column;
      if (has_a) store_kv(args.kv, args.kv.values, row_a / d, slot, row_a % d, a);
      if (has_b) store_kv(args.kv, args.kv.values, row_b / d, slot, row_b % d, b);
      return;
    }
  }
}

/// Which segment and which of its pairs a running number of pairs means.
struct PairPlace {
  int segment, pair;
};
GLIMPSE_DEVICE PairPlace find_pair(const LinearArgs& args, int index) {
  int s = 0;
  while (s + 1 < args.n_segments && index >= args.segment[s].n_pairs) index -= args.segment[s++].n_pairs;
  return {s, index};
}

}  // namespace glimpse::cuda
