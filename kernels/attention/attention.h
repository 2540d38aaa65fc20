// Softmax attention over key/value panels. The building block handles one block of at most 256 keys for a few query
// rows; blocks are merged in ascending order, always the same way, so that the result depends neither on the number of
// threads nor on how a prompt was cut into batches, and decode equals prefill bit for bit (per ISA).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/cpu_features.h"

namespace glimpse {

constexpr int64_t kKeyBlock = 256;     // keys per block; block b covers keys [256 b, 256 b + 256)
constexpr int64_t kKeyAlign = 16;      // keys that a panel holds side by side: where panels may be cut
constexpr int64_t kKeyStep = 64;       // scores are computed for so many keys at a time, whether they exist or not
constexpr int64_t kMaxQueryRows = 64;  // query rows per call

/// Element type of a key/value store: 2, 4, 2 and about 1 bytes per value.
enum class KvElement { kBf16, kF32, kF16, kQ8_0 };
/// All of them, what sessions use first.
constexpr KvElement kKvElements[] = {KvElement::kF16, KvElement::kBf16, KvElement::kF32, KvElement::kQ8_0};
/// "bf16", "f32", "f16", "q8_0".
const char* kv_element_name(KvElement element);

/// head_dim rounded up to a multiple of 16; the padding is zero.
constexpr int64_t padded_head_dim(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

/// Layout of one head's keys and values for `capacity` positions (a multiple of 256), d = padded_head_dim:
///   keys   kBf16: [capacity / 16][d / 2][16 positions][2]   kF16, kF32: [capacity / 16][d][16 positions]
///   values kBf16: [capacity / 2][d][2 positions]            kF16, kF32: [capacity][d]
/// kQ8_0 (attention_q8.h) stores int8 with a binary16 scale per position and 32 dimensions, in groups of 16 positions;
/// channels of keys that the caller names, `wide`, in binary16.
/// All start at a 64-byte boundary, and so do the panels from any multiple of kKeyAlign positions on: these are panels
/// themselves, whose first key has the number 0 below. The value behind an odd number of values of kBf16 is multiplied
/// by a probability of zero and must be finite; what else lies behind the visible keys may be anything, but has to be
/// readable up to a multiple of kKeyStep keys. Panels of kBf16 may be turned into int8 as a whole: attention_int8.h.
///
/// Rounding is to nearest even. A finite value beyond the range of binary16 becomes +-65504; NaN and infinities stay
/// what they are, so that the engine's check of its results finds them. kQ8_0 rounds to multiples of a scale that fits
/// the greatest magnitude of the 32 dimensions; a NaN or an infinity makes all 32 of them NaN. Its keys are mixed
/// before: a NaN or an infinity may make all channels but the wide ones NaN.
///
/// The bytes are those of keys with n_wide wide channels, an even number; values take those without.
uint64_t kv_head_bytes(KvElement element, int64_t head_dim, int64_t capacity, int64_t n_wide = 0);

/// The channels of one head's keys that kQ8_0 is to keep in binary16; empty with every other element.
using WideChannels = std::span<const int32_t>;
/// Those that would cost the others their precision: biases are added to keys before both channels of a pair, i and
/// i + head_dim / 2, are rotated into each other, so that a large one is in every key. bias: (n_heads, head_dim), or
/// empty. Returns (n_heads, n_wide): as many pairs for each head as the worst one needs, its largest.
std::vector<int32_t> wide_key_channels(std::span<const float> bias, int64_t n_heads, int64_t head_dim);

/// Stores the keys or values of n positions from `position` on into the panels of a head. Row i (head_dim floats) lies
/// at rows + i * ld. Writes nothing outside of these positions and the same bits whatever the ISA and the batching.
void store_keys(Isa isa, KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,
                int64_t position, std::byte* keys, WideChannels wide = {});
void store_values(Isa isa, KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,
                  int64_t position, std::byte* values);
/// Stores one position's key and value (head_dim floats each).
void store_key(Isa isa, KvElement element, const float* key, int64_t head_dim, int64_t position, std::byte* keys,
               WideChannels wide = {});
void store_value(Isa isa, KvElement element, const float* value, int64_t head_dim, int64_t position, std::byte* values);
/// Reads them back as floats (tests, taps).
void load_key(KvElement element, const std::byte* keys, int64_t head_dim, int64_t position, float* key,
              WideChannels wide = {});
void load_value(KvElement element, const std::byte* values, int64_t head_dim, int64_t position, float* value);

/// Running softmax state of up to kMaxQueryRows rows: maxima and sums in base 2, and the unnormalised output.
/// A row that has seen no key has sum 0.
struct AttentionState {
  float* max = nullptr;  // (rows)
  float* sum = nullptr;  // (rows)
  float* acc = nullptr;  // (rows, d)
};
void reset_attention_state(const AttentionState& state, int64_t n_rows, int64_t d);
/// state := state + block, in this fixed arithmetic (also used inside attend_block). Rows whose block is empty stay as
/// they are; an empty state becomes a copy of the block.
void merge_attention_states(Isa isa, const AttentionState& state, const AttentionState& block, int64_t n_rows,
                            int64_t d);
/// out rows (head_dim floats each) = acc / sum; zero for a row that has seen no key.
void finish_attention(Isa isa, const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows);

/// Query rows prepared for attend_block: multiplied by log2(e) / sqrt(head_dim); kBf16: rounded to bf16, kF16 and kF32:
/// as floats, kQ8_0: as 15 bits with scales and wide channels as floats. out: n_rows times query_row_bytes(), at most
/// max_query_row_bytes(), 64-byte aligned; the same bits whatever the ISA. Those of int8: prepare_queries_int8().
uint64_t query_row_bytes(KvElement element, int64_t d, int64_t n_wide = 0);
uint64_t max_query_row_bytes(int64_t d);
void prepare_queries(Isa isa, KvElement element, const float* const* q_rows, int64_t n_rows, int64_t head_dim,
                     void* out, WideChannels wide = {});

/// Merges one block of keys into the state of each query row. A row's result depends on its query, the keys and values
/// it sees and its state, down to the last bit, and on nothing else: not on n_rows, its place or what other rows see.
/// queries: from prepare_queries, n_rows rows, n_rows <= kMaxQueryRows. keys, values: the head's panels.
/// key_begin: a multiple of 256, counted from where the panels given begin. n_visible[r]: number of keys of this block
/// that row r attends to (0..256, the first ones); rows with 0 are left unchanged. scratch: attention_scratch_bytes(),
/// 64-byte aligned. NaN and infinite scores give NaN.
using AttendBlockFn = void (*)(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                               const std::byte* values, int64_t key_begin, const int32_t* n_visible,
                               const AttentionState& state, std::byte* scratch);

struct AttentionKernel {
  const char* name;  // "attention_bf16_avx512bf16"
  KvElement element;
  Isa isa;  // what it needs
  AttendBlockFn run;
  bool int8 = false;  // reads kBf16 panels that were turned into int8
};
/// All compiled kernels, in the order of attention_kernels.inc.
std::span<const AttentionKernel> attention_kernels();
/// The best kernel on an ISA for panels of an element type, as they are stored or turned into int8.
const AttentionKernel& select_attention_kernel(KvElement element, Isa isa, bool int8 = false);
uint64_t attention_scratch_bytes(int64_t d);

}  // namespace glimpse
