// What the launcher hands to kernels: plain structs, passed by value. Pointers are device memory.
#pragma once

#include <cstdint>

#include "kernels/activation/activation_kind.h"
#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// Where a row of a recorded step stands, in device memory: so the same launches serve every token. The last launches
/// of a step draw the rows' tokens and move their states to the next one.
struct StepState {
  int32_t token = 0;     // its input
  int32_t n_past = 0;    // cache slots filled
  int32_t rope_row = 0;  // the row's place in the rotation table
  int32_t index = 0;     // steps since the start
};
/// Steps that may be under way or not yet looked at: places in the rings of drawn tokens and of random numbers.
constexpr int kStepRing = 16;

/// Where the rows of a launch stand: known to the host, row r at n_past + r (of the first store; KvPart::n_past of the
/// others), or in device memory, where row r is steps[r].
struct RowPositions {
  int64_t n_past = 0;
  const StepState* steps = nullptr;
};

enum class NormKind : int32_t { kNone, kRms, kLayer };
struct NormView {
  NormKind kind = NormKind::kNone;
  float eps = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;
  int32_t width = 0;  // a row of several widths is normalised piece by piece
};

/// What becomes of a product.
enum class Output : int32_t {
  kStore,      // out[column][row] = activation(y)
  kAdd,        // out[column][row] += y
  kSwiglu,     // out[column][row] = silu(gate) * up; w[0] gate, w[1] up
  kRopeQuery,  // rotated, to out
  kRopeKey,    // rotated, to the key cache
  kValue,      // to the value cache
};

/// (n, ld) values in bfloat16 as matrix-matrix kernels read them (operand.cuh): tiled, for warpgroups, or permuted.
struct OperandView {
  uint16_t* data = nullptr;
  int64_t n = 0;
  int64_t ld = 0;  // a multiple of 128; columns that the matrix does not have are zero
  bool tiled = false;
};

/// One matrix (or two of the same shape) and its output. Row tiles are taken in pairs, see pair_tiles().
struct Segment {
  WeightView w[2];
  const float* bias[2] = {nullptr, nullptr};
  Output output = Output::kStore;
  Activation activation = Activation::kNone;
  int32_t n_pairs = 0;
  int32_t half_tiles = 0;  // kRope*: row tiles in half a head
  float* out = nullptr;    // element (column, row) at out[column * ld + row]
  int64_t ld = 0;
  int64_t slot_ld = 0;  // of experts: at out[place.row * ld + place.slot * slot_ld + row]
  OperandView operand;  // when set, of matrix-matrix kernels, kStore and kSwiglu: column `column` of y goes to its row
};

/// A cached value.
enum class CacheType : int32_t { kBf16, kF16, kF32, kQ8_0 };

/// Keys and values of one layer: [head][position][padded_dim] each; padding is zero. kQ8_0: int8, and behind those of
/// all heads a binary16 scale for each 32 (cache_scales()): [head][position][scale_blocks()]. Their keys are
/// mixed before they are rounded, as on the CPU.
struct KvView {
  void* keys = nullptr;
  void* values = nullptr;
  CacheType type = CacheType::kBf16;
  int32_t head_dim = 0;
  int32_t padded_dim = 0;  // a multiple of 16
  int32_t n_heads = 0;
  int64_t capacity = 0;
  /// Over pages: position p lies in page pages[p / kPagePositions], where keys and values are page 0's, those of a
  /// later one page_bytes further on each, and capacity is kPagePositions. nullptr: one page of all positions.
  const int32_t* pages = nullptr;
  int64_t page_bytes = 0;
};
constexpr int kPagePositions = 256;

/// base: kv.keys or kv.values. The page of a position, which becomes its place in it.
template <typename T>
GLIMPSE_HD T* page_of(const KvView& kv, T* base, int64_t& position) {
  if (kv.pages == nullptr) return base;
  const int64_t bytes = kv.pages[position / kPagePositions] * kv.page_bytes;
  position %= kPagePositions;
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(base) + static_cast<uintptr_t>(bytes));
}

/// kQ8_0: values that share a scale; the last block of a row has 16 where padded_dim is an odd multiple of 16.
constexpr int kQ8Values = 32;
GLIMPSE_HD constexpr int scale_blocks(int padded_dim) {
  return (padded_dim + kQ8Values - 1) / kQ8Values;
}
/// kQ8_0: channels of a key that are mixed by a Hadamard matrix (mixed_channels() in kernels/attention/attention_q8.h).
GLIMPSE_HD constexpr int mixed_channels(int padded_dim) {
  return padded_dim & -padded_dim;
}
/// base: kv.keys or kv.values.
GLIMPSE_HD uint16_t* cache_scales(const KvView& kv, void* base) {
  return reinterpret_cast<uint16_t*>(static_cast<uint8_t*>(base) + kv.n_heads * kv.capacity * kv.padded_dim);
}
GLIMPSE_HD const uint16_t* cache_scales(const KvView& kv, const void* base) {
  return reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(base) +
                                           kv.n_heads * kv.capacity * kv.padded_dim);
}

/// Rows of a pass whose keys and values lie in another store than those of the rows ahead of them.
struct KvPart {
  void* keys = nullptr;
  void* values = nullptr;
  const int32_t* pages = nullptr;
  int64_t page_bytes = 0, capacity = 0;
  int64_t n_past = 0;                 // of the first row, as in the arguments of the launch
  int64_t n_keys = 0, first_key = 0;  // attention
  int32_t first_row = 0;
};
/// All of a launch but the first, which its other arguments describe; ascending.
constexpr int kMoreParts = 7;
struct KvParts {
  KvPart part[kMoreParts];
  int32_t n = 0;
};

constexpr int kMaxSegments = 3;

/// Columns [first, first + n) of a launch, n <= 0: none, all multiplied with the matrices of one expert.
struct ColumnGroup {
  int32_t expert = 0;
  int32_t first = 0, n = 0;
};
constexpr int kMostGroupColumns = 128;
/// What a column of a product of experts is: a row of the pass in one of its slots. row < 0: nothing.
struct ColumnPlace {
  int32_t row = 0, slot = 0;
};
/// Columns that go through different experts, as the device has sorted them (experts.cuh): the launch does not know
/// which. groups: nullptr where there are no experts, otherwise there is one segment, and WeightView::data is not used.
struct ExpertsView {
  const uint8_t* const* data[2] = {nullptr, nullptr};  // by expert, of w[0] and of w[1]
  const ColumnGroup* groups = nullptr;                 // (n_groups), of at most group_columns <= kMostGroupColumns
  const ColumnPlace* places = nullptr;                 // by column
  int32_t n_groups = 0, group_columns = 0;
  int64_t slot_ld_x = 0;  // of LinearArgs::x: floats from one slot of a row to the next; 0: all slots read the row
};

/// Weights of a later launch. data: a multiple of 16, as n_bytes.
struct AheadView {
  const uint8_t* data = nullptr;
  int64_t n_bytes = 0;
};

/// Products of the same columns with up to three matrices of one format, or of one column with those of two.
struct LinearArgs {
  Segment segment[kMaxSegments];
  int32_t n_segments = 0;
  // Of kernels of two formats: the segments of the first one, and the blocks that take them.
  int32_t n_first = 0, first_blocks = 0;
  int32_t n = 0;             // columns: tokens, patches
  int32_t k = 0;             // inputs per column
  NormView norm;             // matrix-vector kernels normalise themselves
  const float* x = nullptr;  // (n, k), row stride ld_x; matrix-vector kernels
  int64_t ld_x = 0;
  // Matrix-matrix kernels: bfloat16 (n, ld_act), permuted or tiled (operand.cuh).
  const uint16_t* act = nullptr;
  int64_t ld_act = 0;
  // Of warpgroups: gemm_chunk_tiles(), 0: all of k is one chunk; and how many blocks share the chunks of an output, all
  // or one.
  int32_t chunk_tiles = 0, n_splits = 1;
  float* partial = nullptr;    // n_splits > 1: (blocks of one split, n_splits, kGemmBlockResults)
  int32_t* tickets = nullptr;  // n_splits > 1: (blocks of one split), zero; left zero
  const float* cos = nullptr;  // (n, head_dim / 2), row stride ld_rope
  const float* sin = nullptr;
  int64_t ld_rope = 0;
  RowPositions at;
  KvView kv;
  KvParts more;
  ExpertsView experts;
  /// Of one row in a recorded step: weights that this launch asks for, because the next product of the step reads them,
  /// and whether the one ahead has asked for its own.
  AheadView ahead[kMaxSegments];
  int32_t asked = 0;
  uint64_t* best = nullptr;  // when set: n is 1, kStore; becomes the greatest of itself and ranked(output, row)
};

/// The two row tiles that pair p of a segment multiplies, and of which of its matrices. A thread gets row g of both:
/// what SwiGLU (gate and up) and the rotation (halves of a head) combine.
struct PairTiles {
  int tile[2];
  int matrix[2];
};
GLIMPSE_HD PairTiles pair_tiles(const Segment& s, int p) {
  if (s.output == Output::kSwiglu) return {{p, p}, {0, 1}};
  if (s.output == Output::kRopeQuery || s.output == Output::kRopeKey) {
    const int first = p / s.half_tiles * 2 * s.half_tiles + p % s.half_tiles;
    return {{first, first + s.half_tiles}, {0, 0}};
  }
  return {{2 * p, 2 * p + 1}, {0, 0}};
}
/// Pairs that cover all rows of a segment; `half_tiles` must be set.
inline int count_pairs(const Segment& s) {
  const int row_tiles = (s.w[0].rows + kTileRows - 1) / kTileRows;
  if (s.output == Output::kSwiglu) return row_tiles;
  return (row_tiles + 1) / 2;
}

struct PackArgs {
  const uint8_t* from = nullptr;  // rows [first_row, first_row + n_rows) as in the file
  int64_t row_bytes = 0;
  int32_t first_row = 0, n_rows = 0;
  int32_t padded_rows = 0;  // rows written: n_rows, and at the end of the matrix the padding
  WeightView w;
  uint8_t* to = nullptr;
};

struct EmbedArgs {
  WeightView table;
  const int32_t* ids = nullptr;  // (n), id_stride apart; negative: the row is left as it is
  int32_t id_stride = 1;
  int32_t n = 0;
  float* x = nullptr;
  int64_t ld = 0;
};

/// Rows as the matrix-matrix kernels read them (operand.cuh): norm(x) in bfloat16.
struct RowsArgs {
  const float* x = nullptr;
  int64_t ld_x = 0;
  const ColumnPlace* places = nullptr;  // when set: row i is that of places[i], at x[row * ld_x + slot * slot_ld_x]
  int64_t slot_ld_x = 0;
  int32_t n = 0, k = 0;
  NormView norm;
  uint16_t* out = nullptr;
  int64_t ld_out = 0;  // a multiple of 128, at least k
};

/// Rotation where head halves are no whole tiles, heads are normalised before, or a step has several rows: q in place,
/// keys (n, n_kv_heads * head_dim), and values where there are any, into the cache. With a cache of kQ8_0 always, for
/// keys and values; q is null where the product rotated it.
struct RopeArgs {
  float* q = nullptr;
  int64_t ld_q = 0;
  int32_t n_heads = 0;
  float* keys = nullptr;          // normalised in place
  const float* values = nullptr;  // as keys; null where the product stored them
  int64_t ld_keys = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t ld_rope = 0;
  int32_t n = 0;
  RowPositions at;
  KvView kv;
  KvParts more;
  NormView q_norm, k_norm;  // of each head; kNone or kRms
};

/// out[i] = levels[i / run % 3 * 256 + bytes[i]]: normalised pixels.
struct LevelArgs {
  const float* levels = nullptr;  // 3 x 256
  const uint8_t* bytes = nullptr;
  int64_t n = 0;
  int32_t run = 0;
  float* out = nullptr;
};

/// Rows into others: add_rows adds them, or the sum of n_slots neighbouring pieces times their weights; swiglu_rows
/// makes silu(from) * to of gates and what holds up.
struct IntoRowsArgs {
  const float* from = nullptr;
  int64_t ld_from = 0;
  float* to = nullptr;
  int64_t ld_to = 0;
  int32_t n = 0, width = 0;
  const float* weights = nullptr;  // add_rows: (n, n_slots)
  int64_t ld_weights = 0;
  int32_t n_slots = 0;
};

/// Which experts each row goes through (Routing in engine/runtime/ops.h), and the columns that makes.
struct RouteArgs {
  const float* scores = nullptr;  // (n, n_experts)
  int64_t ld_scores = 0;
  float* expert = nullptr;  // (n, n_used)
  int64_t ld_expert = 0;
  float* weight = nullptr;  // (n, n_used), and where `shared` the score of the shared expert, which becomes its weight
  int64_t ld_weight = 0;
  int32_t n = 0, n_experts = 0, n_used = 0;
  int32_t normalize = 0, shared = 0;
  ColumnGroup* groups = nullptr;  // (n_groups): room for those of any choice
  ColumnPlace* places = nullptr;  // (n_columns)
  int32_t n_groups = 0, n_columns = 0;
  int32_t group_columns = 0, align = 1;  // the columns of an expert begin at a multiple of align
};

struct AttentionArgs {
  const float* q = nullptr;
  int64_t ld_q = 0;
  float* out = nullptr;
  int64_t ld_out = 0;
  OperandView operand;      // when set, of kernels for many rows: instead of out
  int32_t operand_row = 0;  // that of the first row
  KvView kv;
  KvParts more;
  int32_t n_heads = 0, group = 0;  // query heads; query heads per key/value head
  int32_t n = 0;                   // query rows
  int32_t causal = 0;
  RowPositions at;             // counts from first_key
  int64_t n_keys = 0;          // causal: a row sees the keys up to its own slot, otherwise n_keys
  int64_t first_key = 0;       // where the keys that are seen begin: a multiple of 8; n_past and n_keys count from it
  float scale = 0;             // log2(e) / sqrt(head_dim)
  int32_t n_splits = 1;        // blocks that share the keys of one row: at least its chunks, or 1
  float* partial = nullptr;    // n_splits > 1: (n, n_heads, n_splits, padded_dim + 2)
  int32_t* tickets = nullptr;  // n_splits > 1: (n, n_kv_heads), zero; left zero
};

struct FiniteArgs {
  const float* x = nullptr;
  int64_t ld = 0;
  int64_t rows = 0, cols = 0;
  int32_t* flag = nullptr;  // becomes non-zero when an element is not finite
};

/// Draws a token from each row of logits.
struct SampleArgs {
  const float* logits = nullptr;  // (n, vocab), row stride ld
  int64_t ld = 0;
  int32_t n = 0, vocab = 0;
  float temperature = 0;  // below 1e-5: greedy
  int32_t top_k = 0;      // 0: off
  float top_p = 1;
  float min_p = 0;
  const float* uniform = nullptr;  // (n) numbers in [0, 1]; greedy: not read
  int32_t* ids = nullptr;          // (n); -1 where a row holds a NaN or nothing can be drawn
  /// When set: (n) states; uniform and ids are (n) rings of kStepRing, the step's place is its index. The token drawn
  /// and the slot and position after it become the row's state. A row that is not finite gives -1, and its state stays,
  /// so that steps that were begun already write nothing but the same slot.
  StepState* step = nullptr;
  uint64_t* best =
      nullptr;  // when set: n is 1; LinearArgs::best of the logits, of which greedy reads no more; becomes 0
};

}  // namespace glimpse::cuda
