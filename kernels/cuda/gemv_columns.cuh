// The columns of products of few columns (gemv.cuh) in shared memory: normalised, and for integer formats quantised. A
// record per column: values, scales, sums.
//
// A lane prepares eight neighbouring elements at a time, a block kGemvTurn. Sums of a row, whatever the number of
// columns: each lane ascending over its elements, warps as warp_sum(), then ascending.
#pragma once

#include "kernels/cuda/cache.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/operand.cuh"

namespace glimpse::cuda {

constexpr int kGemvThreads = 256;
constexpr int kGemvWarps = kGemvThreads / kWarp;
constexpr int kMaxNormPieces = 16;

/// Columns that share a scale of the quantised activations: as the CPU kernels have it. To be called, as planes_of(),
/// for constants alone: nvcc leaves the search through the table of formats to run time.
GLIMPSE_HD constexpr int act_block(Format format) {
  return planes_of(format).super ? 256 : 32;
}

/// Byte offsets in shared memory. One record per column: values, scales, sums.
struct GemvShared {
  int scales_at = 0, sums_at = 0, record = 0;  // in a record
  int partials_at = 0, scratch_at = 0, total = 0;
};
GLIMPSE_HD GemvShared gemv_shared(const Planes& p, int n_columns, int column_tiles) {
  const int k = column_tiles * kTileColumns;
  GemvShared s;
  s.scales_at = p.integer() ? k : 4 * k;
  s.sums_at = s.scales_at + (p.integer() ? k / 32 * 4 : 0);
  s.record = s.sums_at + (p.integer() ? k / p.sub * 4 : 0);
  s.partials_at = n_columns * s.record;
  s.scratch_at = s.partials_at + 2 * kGemvWarps * 2 * kTileRows * n_columns * 4;
  const int pieces = 32 + 2 * kMaxNormPieces, sums = (2 * kGemvWarps + 2) * n_columns;
  s.total = s.scratch_at + (pieces > sums ? pieces : sums) * 4;
  return s;
}

/// A lane prepares eight neighbouring columns at a time, a block kGemvTurn; so many turns of a row are loaded together.
constexpr int kGemvTurn = kGemvThreads * 8;
constexpr int kGemvTurns = 5;
/// Elements [at, at + 8) of a row of k floats; zeros from k on. at: a multiple of 8. For integer formats k is one, too,
/// and rows are aligned to 16 bytes.
template <Format format>
GLIMPSE_DEVICE void load_eight_of(const float* row, int at, int k, float (&out)[8]) {
  constexpr bool integer = planes_of(format).integer();
  if (at + 8 <= k && (integer || reinterpret_cast<uintptr_t>(row) % sizeof(Vec16) == 0)) {
    load_eight(row + at, out);
    return;
  }
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) out[i] = !integer && at + i < k ? row[at + i] : 0.0f;
}

GLIMPSE_DEVICE bool norm_in_pieces(const LinearArgs& args) {
  return norm_width(args.norm, args.k) < args.k;
}
/// Weights of the norm of a lane's eight columns from `at` on.
struct NormEight {
  float weight[8];
};
template <Format format>
GLIMPSE_DEVICE NormEight load_norm(const LinearArgs& args, int at) {
  NormEight n{};
  if (args.norm.kind != NormKind::kNone && !norm_in_pieces(args)) {
    load_eight_of<format>(args.norm.weight, at, args.k, n.weight);
  }
  return n;
}

/// A lane's elements of kGemvTurns turns, the first of them `turn`.
template <Format format>
GLIMPSE_DEVICE void load_turns(const float* x, int turn, int k, float (&v)[kGemvTurns][8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < kGemvTurns; ++i) {
    load_eight_of<format>(x, (turn + i) * kGemvTurn + 8 * thread_index(), k, v[i]);
  }
}

/// The sums of a block's warps, each in a slot of its own, leave them in ascending order.
GLIMPSE_DEVICE void leave_sum(float value, float* slots) {
  const float sum = warp_sum(value);
  if (lane_index() == 0) slots[warp_index()] = sum;
}
GLIMPSE_DEVICE float sum_of_slots(const float* slots) {
  float total = 0;
  GLIMPSE_UNROLL
  for (int w = 0; w < kGemvWarps; ++w) total += slots[w];
  return total;
}
GLIMPSE_DEVICE float add_value(float value, float sum) {
  return sum + value;
}
GLIMPSE_DEVICE float add_square(float value, float mean, float sum) {
  return fmaf(value - mean, value - mean, sum);
}
GLIMPSE_DEVICE float inverse_deviation(const LinearArgs& args, float squares) {
  return 1.0f / sqrtf(squares / static_cast<float>(args.k) + args.norm.eps);
}

/// Mean and reciprocal deviation of a row in one piece. v: its first turns. Sums: each lane ascending over its
/// elements, then the slots of the warps.
template <Format format>
GLIMPSE_DEVICE Moments row_moments(const float* x, const LinearArgs& args, const float (&v)[kGemvTurns][8],
                                   float* scratch) {
  const auto sum_over = [&](const auto& term, float* slots) {
    float sum = 0;
    GLIMPSE_UNROLL
    for (int turn = 0; turn < kGemvTurns; ++turn) {
      const int at = turn * kGemvTurn + 8 * thread_index();
      if (at >= args.k) break;
      GLIMPSE_UNROLL
      for (int i = 0; i < 8; ++i) sum = term(v[turn][i], at + i, sum);
    }
    GLIMPSE_NO_UNROLL
    for (int at = kGemvTurns * kGemvTurn + 8 * thread_index(); at < args.k; at += kGemvTurn) {
      float more[8];
      load_eight_of<format>(x, at, args.k, more);
      GLIMPSE_UNROLL
      for (int i = 0; i < 8; ++i) sum = term(more[i], at + i, sum);
    }
    leave_sum(sum, slots);
    barrier();
    return sum_of_slots(slots);
  };
  Moments m{0.0f, 1.0f};
  if (args.norm.kind == NormKind::kLayer) {
    m.mean = sum_over([](float value, int, float sum) { return add_value(value, sum); }, scratch) /
             static_cast<float>(args.k);
  }
  const float squares =
      sum_over([&](float value, int i, float sum) { return i < args.k ? add_square(value, m.mean, sum) : sum; },
               scratch + kGemvWarps);
  m.inverse = inverse_deviation(args, squares);
  return m;
}

/// Eight floats of a lane as int8 with a scale per block of activations, into a record.
template <Format format>
GLIMPSE_DEVICE void quantize_eight(const float (&v)[8], int at, int k_padded, const GemvShared& layout,
                                   uint8_t* record) {
  constexpr Planes p = planes_of(format);
  constexpr int block = act_block(format);
  constexpr uint32_t tiny_bits = 27u << 23;  // 2^-100: below it 127 / max could overflow
  constexpr uint32_t infinity_bits = 0x7f800000u;
  uint32_t max_bits = 0;  // magnitudes compare like their bits, NaN above infinity
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) {
    const uint32_t bits = float_to_bits(v[i]) & 0x7fffffffu;
    max_bits = bits > max_bits ? bits : max_bits;
  }
  GLIMPSE_UNROLL
  for (int mask = 1; mask < block / 8; mask *= 2) {
    const uint32_t other = shuffle_xor(max_bits, mask);
    max_bits = other > max_bits ? other : max_bits;
  }
  const float max = bits_to_float(max_bits);
  const bool usable = max_bits >= tiny_bits && max_bits < infinity_bits;
  const float scale = usable ? max / 127.0f : max_bits >= infinity_bits ? bits_to_float(0x7fc00000u) : 0.0f;
  const float inverse = usable ? 127.0f / max : 0.0f;
  // 1.5 * 2^23 and a small number: its bits end with the number, rounded to an integer.
  uint32_t q[8];
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) q[i] = float_to_bits(v[i] * inverse + 12582912.0f);
  uint32_t words[2];
  GLIMPSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t low = select_bytes(q[4 * i], q[4 * i + 1], 0x0040),
                   high = select_bytes(q[4 * i + 2], q[4 * i + 3], 0x0040);
    words[i] = usable ? select_bytes(low, high, 0x5410) : 0u;
  }
  int sum = dp4a(words[0], 0x01010101u, dp4a(words[1], 0x01010101u, 0));
  GLIMPSE_UNROLL
  for (int mask = 1; mask < p.sub / 8; mask *= 2) sum += shuffle_xor(sum, mask);
  if (at >= k_padded) return;
  *reinterpret_cast<Vec8*>(record + at) = Vec8{{words[0], words[1]}};
  if (at % block == 0) {
    reinterpret_cast<float*>(record + layout.scales_at)[at / block] = scale;
  }
  if (at % p.sub == 0) reinterpret_cast<int*>(record + layout.sums_at)[at / p.sub] = sum;
}

/// Eight columns of a lane into a record.
template <Format format>
GLIMPSE_DEVICE void store_eight(const float (&v)[8], int at, int k_padded, const GemvShared& layout, uint8_t* record) {
  if constexpr (planes_of(format).integer()) {
    quantize_eight<format>(v, at, k_padded, layout, record);
  } else if (at < k_padded) {
    GLIMPSE_UNROLL
    for (int half = 0; half < 2; ++half) {
      Vec16 four;
      GLIMPSE_UNROLL
      for (int i = 0; i < 4; ++i) four.w[i] = float_to_bits(v[4 * half + i]);
      *reinterpret_cast<Vec16*>(reinterpret_cast<float*>(record) + permuted(at + 4 * half)) = four;
    }
  }
}

/// A row that is normalised in several pieces.
template <Format format>
GLIMPSE_DEVICE void prepare_pieces(const LinearArgs& args, const float* x, int k_padded, const GemvShared& layout,
                                   uint8_t* record, float* scratch) {
  const int width = args.norm.width;
  float* const pieces = scratch + 32;  // mean and inverse deviation of each
  for (int piece = 0; piece * width < args.k; ++piece) {
    const Moments m = moments(x + piece * width, args.norm, width, scratch);
    if (thread_index() == 0) pieces[2 * piece] = m.mean, pieces[2 * piece + 1] = m.inverse;
  }
  barrier();
  for (int turn = warp_index() * 256; turn < k_padded; turn += kGemvTurn) {
    float v[8];
    for (int i = 0; i < 8; ++i) {
      const int at = turn + 8 * lane_index() + i, piece = at / width;
      v[i] = at < args.k
                 ? normalized(x[at], args.norm, Moments{pieces[2 * piece], pieces[2 * piece + 1]}, at - piece * width)
                 : 0.0f;
    }
    store_eight<format>(v, turn + 8 * lane_index(), k_padded, layout, record);
  }
}

/// A lane's eight columns from `at` on, normalised.
template <Format format>
GLIMPSE_DEVICE void apply_norm(const LinearArgs& args, const Moments& m, const NormEight& norm, int at, float (&v)[8]) {
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) v[i] = (v[i] - m.mean) * m.inverse * norm.weight[i];  // beyond k: zero
  if (args.norm.bias == nullptr) return;
  float bias[8];
  load_eight_of<format>(args.norm.bias, at, args.k, bias);
  GLIMPSE_UNROLL
  for (int i = 0; i < 8; ++i) v[i] += bias[i];
}

/// norm(x) of one column into a record of shared memory. All threads take part; a barrier must follow. first: of
/// load_norm() for this lane; v: the first of load_turns(), changed.
template <Format format>
GLIMPSE_DEVICE void prepare_column(const LinearArgs& args, const float* x, int k_padded, const NormEight& first,
                                   const GemvShared& layout, float (&v)[kGemvTurns][8], uint8_t* record,
                                   float* scratch) {
  if (norm_in_pieces(args)) {
    prepare_pieces<format>(args, x, k_padded, layout, record, scratch);
    return;
  }
  const bool has_norm = args.norm.kind != NormKind::kNone;
  const Moments m = has_norm ? row_moments<format>(x, args, v, scratch) : Moments{0.0f, 1.0f};
  GLIMPSE_NO_UNROLL
  for (int turn = 0; turn * kGemvTurn < k_padded; turn += kGemvTurns) {
    if (turn > 0) load_turns<format>(x, turn, args.k, v);
    GLIMPSE_UNROLL
    for (int t = 0; t < kGemvTurns; ++t) {
      const int at = (turn + t) * kGemvTurn + 8 * thread_index();
      if (at - 8 * lane_index() >= k_padded) break;  // whole warps: their lanes look for the greatest together
      if (has_norm) apply_norm<format>(args, m, turn + t == 0 ? first : load_norm<format>(args, at), at, v[t]);
      store_eight<format>(v[t], at, k_padded, layout, record);
    }
  }
}

/// Where a column's elements are.
GLIMPSE_DEVICE const float* elements_of(const LinearArgs& args, int column) {
  const ColumnPlace from = place_of(args, column);
  return args.x + from.row * args.ld_x + from.slot * args.experts.slot_ld_x;
}

/// Mean and reciprocal deviation of each column of a group, as of row_moments(): all columns' sums behind one barrier.
/// slots: 2 * kGemvWarps floats per column. A barrier must follow.
template <Format format, int kColumns>
GLIMPSE_DEVICE void group_moments(const LinearArgs& args, const ColumnGroup& group, float* slots, Moments* moments) {
  constexpr int kTogether = kColumns < 4 ? kColumns : 4;  // whose loads are under way at once
  const bool is_layer = args.norm.kind == NormKind::kLayer;
  const auto mean_of = [&](int c) {
    return is_layer ? sum_of_slots(slots + c * kGemvWarps) / static_cast<float>(args.k) : 0.0f;
  };
  const auto leave_sums = [&](bool squares, float* to) {
    GLIMPSE_NO_UNROLL
    for (int first = 0; first < group.n; first += kTogether) {
      float sum[kTogether] = {}, mean[kTogether] = {};
      GLIMPSE_UNROLL
      for (int c = 0; c < kTogether; ++c) mean[c] = squares ? mean_of(first + c) : 0.0f;
      GLIMPSE_NO_UNROLL
      for (int at = 8 * thread_index(); at < args.k; at += kGemvTurn) {
        GLIMPSE_UNROLL
        for (int c = 0; c < kTogether; ++c) {
          if (first + c >= group.n) break;
          float v[8];
          load_eight_of<format>(elements_of(args, group.first + first + c), at, args.k, v);
          GLIMPSE_UNROLL
          for (int i = 0; i < 8; ++i) {
            const float with = squares ? add_square(v[i], mean[c], sum[c]) : add_value(v[i], sum[c]);
            sum[c] = at + i < args.k ? with : sum[c];
          }
        }
      }
      GLIMPSE_UNROLL
      for (int c = 0; c < kTogether; ++c) leave_sum(sum[c], to + (first + c) * kGemvWarps);
    }
    barrier();
  };
  float* const squares = slots + kColumns * kGemvWarps;
  if (is_layer) leave_sums(false, slots);
  leave_sums(true, squares);
  const int c = thread_index();
  if (c < group.n) moments[c] = {mean_of(c), inverse_deviation(args, sum_of_slots(squares + c * kGemvWarps))};
}

/// norm(x) of the columns of a group into their records; those that the group does not have are left as they are, and
/// what is made of them is not stored. Ends with a barrier.
template <Format format, int kColumns>
GLIMPSE_DEVICE void prepare_columns(const LinearArgs& args, const ColumnGroup& group, int k_padded,
                                    const GemvShared& layout, uint8_t* columns, float* scratch) {
  if (norm_in_pieces(args)) {
    GLIMPSE_NO_UNROLL
    for (int c = 0; c < group.n; ++c) {
      prepare_pieces<format>(args, elements_of(args, group.first + c), k_padded, layout, columns + c * layout.record,
                             scratch);
      barrier();
    }
    return;
  }
  auto* const moments = reinterpret_cast<Moments*>(scratch + 2 * kGemvWarps * kColumns);
  const bool has_norm = args.norm.kind != NormKind::kNone;
  if (has_norm) {
    group_moments<format, kColumns>(args, group, scratch, moments);
    barrier();
  }
  GLIMPSE_NO_UNROLL
  for (int at = 8 * thread_index(); at - 8 * lane_index() < k_padded; at += kGemvTurn) {
    const NormEight norm = load_norm<format>(args, at);
    GLIMPSE_UNROLL_BY(4)
    for (int c = 0; c < group.n; ++c) {
      float v[8];
      load_eight_of<format>(elements_of(args, group.first + c), at, args.k, v);
      if (has_norm) apply_norm<format>(args, moments[c], norm, at, v);
      store_eight<format>(v, at, k_padded, layout, columns + c * layout.record);
    }
  }
  barrier();
}

}  // namespace glimpse::cuda
