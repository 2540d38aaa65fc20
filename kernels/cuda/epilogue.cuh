// What happens to a product before it is stored: bias, activation, SwiGLU, residual, rotation, cache write.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/operand.cuh"

namespace glimpse::cuda {

GLIMPSE_DEVICE float silu(float z) {
  return z / (1.0f + expf(-z));
}

GLIMPSE_DEVICE float activate(Activation activation, float z) {
  switch (activation) {
    case Activation::kNone:
      return z;
    case Activation::kQuickGelu:
      return z / (1.0f + expf(-1.702f * z));
    case Activation::kGeluErf:
      return 0.5f * z * (1.0f + erff(z * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * z * (1.0f + tanhf(0.79788456080286536f * (z + 0.044715f * z * z * z)));
    case Activation::kSilu:
      return silu(z);
  }
  return z;
}

/// Where dimension dim of a head's key or value lies. T: a stored value.
template <typename T>
GLIMPSE_DEVICE T* kv_place(const KvView& kv, void* base, int head, int64_t position, int dim) {
  T* const page = page_of(kv, static_cast<T*>(base), position);
  return page + (static_cast<int64_t>(head) * kv.capacity + position) * kv.padded_dim + dim;
}

GLIMPSE_DEVICE void store_kv(const KvView& kv, void* base, int head, int64_t position, int dim, float value) {
  switch (kv.type) {
    case CacheType::kF32:
      *kv_place<float>(kv, base, head, position, dim) = value;
      return;
    case CacheType::kBf16:
      *kv_place<uint16_t>(kv, base, head, position, dim) = static_cast<uint16_t>(pack_bf16(value, 0.0f));
      return;
    case CacheType::kF16:
      *kv_place<uint16_t>(kv, base, head, position, dim) = static_cast<uint16_t>(pack_half(value, 0.0f));
      return;
    case CacheType::kQ8_0:  // store_q8() writes those
      return;
  }
}

/// The slot of a row in the first store, and the row's place in the rotation table.
GLIMPSE_DEVICE int64_t slot_of(const RowPositions& at, int row) {
  return at.steps != nullptr ? at.steps[row].n_past : at.n_past + row;
}
GLIMPSE_DEVICE int64_t rope_row_of(const RowPositions& at, int row) {
  return at.steps != nullptr ? at.steps[row].rope_row : row;
}

/// The store of a row of a pass.
GLIMPSE_DEVICE KvView of_part(KvView kv, const KvPart& part) {
  kv.keys = part.keys;
  kv.values = part.values;
  kv.pages = part.pages;
  kv.page_bytes = part.page_bytes;
  kv.capacity = part.capacity;
  return kv;
}
/// Where keys and values of a row go: its slot; kv becomes its store. Args: LinearArgs, RopeArgs.
template <typename Args>
GLIMPSE_DEVICE int64_t find_slot(const Args& args, const RowPositions& at, int row, KvView& kv) {
  kv = args.kv;
  int64_t slot = slot_of(at, row);
  GLIMPSE_NO_UNROLL
  for (int i = 0; i < args.more.n && row >= args.more.part[i].first_row; ++i) {
    const KvPart& part = args.more.part[i];
    kv = of_part(kv, part);
    if (at.steps == nullptr) slot = part.n_past + row - part.first_row;
  }
  return slot;
}

/// a and b turned by one angle.
GLIMPSE_DEVICE void rotate(float cosine, float sine, float& a, float& b) {
  const float turned = fmaf(a, cosine, -(b * sine));
  b = fmaf(b, cosine, a * sine);
  a = turned;
}

/// Larger numbers have larger keys.
GLIMPSE_DEVICE uint32_t sort_key(float x) {
  const uint32_t bits = float_to_bits(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
/// A logit and its id as a number: the greatest is that of the greatest logit, of equal ones (0 and -0 are, hence the
/// addition) the lowest id. What is not finite is greater than all. None of them is 0.
constexpr uint64_t kNotFinite = ~uint64_t{0};
GLIMPSE_DEVICE uint64_t ranked(float logit, int id) {
  if ((float_to_bits(logit) & 0x7f800000u) == 0x7f800000u) return kNotFinite;
  return static_cast<uint64_t>(sort_key(logit + 0.0f)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
/// The id, or -1 where something is not finite or nothing was there.
GLIMPSE_DEVICE int ranked_id(uint64_t ranked) {
  if (ranked == kNotFinite || ranked == 0) return -1;
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(ranked));
}

/// The segment that a block of kPairs pairs works for; group: its number among all, becomes that in the segment.
template <int kPairs>
GLIMPSE_DEVICE const Segment& find_segment(const LinearArgs& args, int& group) {
  int segment = 0;
  while (segment + 1 < args.n_segments) {
    const int groups = (args.segment[segment].n_pairs + kPairs - 1) / kPairs;
    if (group < groups) break;
    group -= groups;
    ++segment;
  }
  return args.segment[segment];
}

/// Whether blocks of so many columns multiply with experts. The widest have no registers for it.
template <int kColumns>
constexpr bool kTakesExperts = kColumns <= kMostGroupColumns;
/// The columns of block `index` of those that take kColumns each.
template <int kColumns>
GLIMPSE_DEVICE ColumnGroup group_of(const LinearArgs& args, int index) {
  ColumnGroup group{0, index * kColumns, args.n - index * kColumns};
  if (kTakesExperts<kColumns> && args.experts.groups != nullptr) {
    const int parts = args.experts.group_columns / kColumns, part = index % parts * kColumns;
    group = args.experts.groups[index / parts];
    group.first += part;
    group.n -= part;
  }
  if (group.n > kColumns) group.n = kColumns;
  return group;
}
GLIMPSE_DEVICE ColumnPlace place_of(const LinearArgs& args, int column) {
  return args.experts.groups != nullptr ? args.experts.places[column] : ColumnPlace{column, 0};
}
/// A matrix of a segment, of one expert where there are experts.
template <bool kExperts = true>
GLIMPSE_DEVICE WeightView weight_of(const LinearArgs& args, const Segment& s, int matrix, int expert) {
  WeightView w = s.w[matrix];
  if (kExperts && args.experts.groups != nullptr) w.data = in_global(args.experts.data[matrix][expert], w.data);
  return w;
}
/// Where the outputs of a column begin.
GLIMPSE_DEVICE float* out_of(const Segment& s, const ColumnPlace& column) {
  return s.out + column.row * s.ld + column.slot * s.slot_ld;
}

/// What a product is combined with, of kRows neighbouring rows of both tiles of a pair: loaded before the product is
/// known, so that the loads are under way together and nobody waits for them one after another.
template <int kRows>
struct Companions {
  float bias[2][kRows];
  float other[2][kRows];  // kAdd: what is added to; kRope*: cosines and sines
};

/// Values of dimensions [dim, dim + kRows) of a head, `left` of which exist.
template <int kRows>
GLIMPSE_DEVICE void store_kv_rows(const KvView& kv, void* base, int head, int64_t position, int dim, int left,
                                  const float (&values)[kRows]) {
  if constexpr (kRows == 4) {
    const bool half = kv.type == CacheType::kF16;
    if (left >= 4 && dim % 4 == 0 && (half || kv.type == CacheType::kBf16)) {
      Vec8 v;
      v.w[0] = half ? pack_half(values[0], values[1]) : pack_bf16(values[0], values[1]);
      v.w[1] = half ? pack_half(values[2], values[3]) : pack_bf16(values[2], values[3]);
      *reinterpret_cast<Vec8*>(kv_place<uint16_t>(kv, base, head, position, dim)) = v;
      return;
    }
  }
  GLIMPSE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    if (i < left) store_kv(kv, base, head, position, dim + i, values[i]);
  }
}

/// Rows g .. g + kRows - 1 of the two tiles of pair p, for one column. at: args.at, without
/// steps in kernels that no step runs fused.
template <int kRows>
GLIMPSE_DEVICE Companions<kRows> load_companions(const LinearArgs& args, const RowPositions& at, const Segment& s,
                                                 int p, int g, const ColumnPlace& column) {
  const PairTiles pair = pair_tiles(s, p);
  Companions<kRows> with;
  int row[2], left[2];
  GLIMPSE_UNROLL
  for (int h = 0; h < 2; ++h) {
    row[h] = pair.tile[h] * kTileRows + g, left[h] = s.w[0].rows - row[h];
    const float* const bias = s.bias[pair.matrix[h]];
    load_rows<kRows>(bias != nullptr ? bias + row[h] : nullptr, bias != nullptr ? left[h] : 0, with.bias[h]);
  }
  if (s.output == Output::kAdd) {
    GLIMPSE_UNROLL
    for (int h = 0; h < 2; ++h) load_rows<kRows>(out_of(s, column) + row[h], left[h], with.other[h]);
  } else if (s.output == Output::kRopeQuery || s.output == Output::kRopeKey) {
    const int dim = p % s.half_tiles * kTileRows + g;
    const int64_t angle = rope_row_of(at, column.row) * args.ld_rope + dim;
    load_rows<kRows>(args.cos + angle, kRows, with.other[0]);
    load_rows<kRows>(args.sin + angle, kRows, with.other[1]);
  }
  return with;
}

/// Rows [row, row + kRows) of an output of kStore or kSwiglu, `left` of which exist.
template <int kRows>
GLIMPSE_DEVICE void store_product(const Segment& s, const ColumnPlace& column, int row, int left,
                                  const float (&values)[kRows]) {
  if constexpr (kRows == 4) {  // matrix-matrix kernels
    if (s.operand.data != nullptr) return store_operand<kRows>(s.operand, column.row, row, left, values);
  }
  store_rows<kRows>(out_of(s, column) + row, left, values);
}

/// a, b: the products of these rows of the first and of the second tile.
template <int kRows>
GLIMPSE_DEVICE void finish(const LinearArgs& args, const RowPositions& at, const Segment& s, int p, int g,
                           const ColumnPlace& column, const Companions<kRows>& with, float (&a)[kRows],
                           float (&b)[kRows]) {
  const PairTiles pair = pair_tiles(s, p);
  const int row_a = pair.tile[0] * kTileRows + g, row_b = pair.tile[1] * kTileRows + g;
  const int left_a = s.w[0].rows - row_a, left_b = s.w[0].rows - row_b;
  // Without a bias nothing is added, not even 0: it would turn -0 into 0.
  if (s.bias[0] != nullptr) {
    GLIMPSE_UNROLL
    for (int i = 0; i < kRows; ++i) a[i] += with.bias[0][i];
  }
  if (s.bias[pair.matrix[1]] != nullptr) {
    GLIMPSE_UNROLL
    for (int i = 0; i < kRows; ++i) b[i] += with.bias[1][i];
  }
  float* const out = out_of(s, column);
  switch (s.output) {
    case Output::kStore:
      GLIMPSE_UNROLL
      for (int i = 0; i < kRows; ++i) a[i] = activate(s.activation, a[i]), b[i] = activate(s.activation, b[i]);
      store_product<kRows>(s, column, row_a, left_a, a);
      store_product<kRows>(s, column, row_b, left_b, b);
      return;
    case Output::kAdd:
      GLIMPSE_UNROLL
      for (int i = 0; i < kRows; ++i) a[i] = with.other[0][i] + a[i], b[i] = with.other[1][i] + b[i];
      store_rows<kRows>(out + row_a, left_a, a);
      store_rows<kRows>(out + row_b, left_b, b);
      return;
    case Output::kSwiglu:
      GLIMPSE_UNROLL
      for (int i = 0; i < kRows; ++i) a[i] = silu(a[i]) * b[i];
      store_product<kRows>(s, column, row_a, left_a, a);
      return;
    case Output::kRopeQuery:
    case Output::kRopeKey: {
      GLIMPSE_UNROLL
      for (int i = 0; i < kRows; ++i) rotate(with.other[0][i], with.other[1][i], a[i], b[i]);
      if (s.output == Output::kRopeQuery) {
        store_rows<kRows>(out + row_a, kRows, a);
        store_rows<kRows>(out + row_b, kRows, b);
      } else {
        const int half = s.half_tiles * kTileRows, head = p / s.half_tiles, dim = p % s.half_tiles * kTileRows + g;
        KvView kv;
        const int64_t slot = find_slot(args, at, column.row, kv);
        store_kv_rows<kRows>(kv, kv.keys, head, slot, dim, kRows, a);
        store_kv_rows<kRows>(kv, kv.keys, head, slot, dim + half, kRows, b);
      }
      return;
    }
    case Output::kValue: {
      const int d = args.kv.head_dim;
      KvView kv;
      const int64_t slot = find_slot(args, at, column.row, kv);
      if (d % kTileRows == 0) {  // a tile is of one head
        if (left_a > 0) store_kv_rows<kRows>(kv, kv.values, row_a / d, slot, row_a % d, left_a, a);
        if (left_b > 0) store_kv_rows<kRows>(kv, kv.values, row_b / d, slot, row_b % d, left_b, b);
        return;
      }
      GLIMPSE_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if (i < left_a) store_kv(kv, kv.values, (row_a + i) / d, slot, (row_a + i) % d, a[i]);
        if (i < left_b) store_kv(kv, kv.values, (row_b + i) / d, slot, (row_b + i) % d, b[i]);
      }
      return;
    }
  }
}

/// Results of a block of a matrix product, in shared memory as [column][pair of the block][tile][row], to where they
/// belong. Columns lie `stride` floats apart (a multiple of 4). A thread takes four rows of both tiles of a pair, for
/// two columns at a time (four would save round trips of residuals, and make kernels twice as large).
template <int kPairs, int kThreads>
GLIMPSE_DEVICE void finish_block(const LinearArgs& args, const Segment& s, int first_pair, const ColumnGroup& columns,
                                 const float* results, int stride) {
  constexpr int kQuads = kPairs * 2, kTogether = 2;
  GLIMPSE_NO_UNROLL
  for (int first = thread_index(); first < columns.n * kQuads; first += kTogether * kThreads) {
    Companions<4> with[kTogether];
    ColumnPlace place[kTogether];
    GLIMPSE_UNROLL
    for (int u = 0; u < kTogether; ++u) {
      const int i = first + u * kThreads, pair = first_pair + i % kQuads / 2;
      if (i >= columns.n * kQuads || pair >= s.n_pairs) continue;
      place[u] = place_of(args, columns.first + i / kQuads);
      with[u] = load_companions<4>(args, RowPositions{args.at.n_past}, s, pair, i % 2 * 4, place[u]);
    }
    GLIMPSE_UNROLL
    for (int u = 0; u < kTogether; ++u) {
      const int i = first + u * kThreads, column = i / kQuads, pair = i % kQuads / 2, row = i % 2 * 4;
      if (i >= columns.n * kQuads || first_pair + pair >= s.n_pairs) continue;
      const float* const from = results + column * stride + pair * 16 + row;
      float a[4], b[4];
      load_rows<4>(from, 4, a);
      load_rows<4>(from + kTileRows, 4, b);
      finish<4>(args, RowPositions{args.at.n_past}, s, first_pair + pair, row, place[u], with[u], a, b);
    }
  }
}

/// A pair of a segment; all pairs are numbered from the first segment's on.
struct PairPlace {
  int segment = 0, pair = 0;
};
/// The pair whose number is `ahead` more than that of `from`.
GLIMPSE_DEVICE PairPlace find_pair(const LinearArgs& args, int ahead, PairPlace from = {}) {
  from.pair += ahead;
  GLIMPSE_UNROLL
  for (int s = 0; s + 1 < kMaxSegments; ++s) {  // by constants: a loop over memory would be slow
    const int n_pairs = args.segment[s].n_pairs;
    if (from.segment != s || s + 1 >= args.n_segments || from.pair < n_pairs) continue;
    from = {s + 1, from.pair - n_pairs};
  }
  return from;
}

}  // namespace glimpse::cuda
