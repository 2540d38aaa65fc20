// The operations that the models are written in. One text of each forward pass (engine/model/text.cpp, vision.cpp) runs
// on any implementation: RefOps (scalar oracle), CpuOps (panels, SIMD, threads), CudaOps.
//
// The cut follows what a fast backend fuses: a norm belongs to the matrix product that consumes it, bias, rotary
// embedding and cache write to the product that makes them, a residual add to the product that feeds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/function_ref.h"
#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/runtime/kv_store.h"
#include "engine/runtime/mat.h"
#include "kernels/activation/activation.h"
#include "kernels/attention/attention.h"

namespace glimpse {

class ThreadTeam;

/// A weight matrix (out_features, in_features) in a backend's own layout. Immutable, shared between sessions.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  int64_t rows = 0;  // out_features
  int64_t cols = 0;  // in_features
  DType source_type = DType::kF32;
  uint64_t n_bytes = 0;  // memory it occupies
};

/// Where a weight comes from: rows of blocks that can be read piece by piece, so that a matrix is in memory once.
struct WeightSource {
  std::string name;  // for messages: "blk.3.attn_q.weight"
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  /// Matrices of this name, type and shape that are packed in all, this one among them: they may share their memory.
  int64_t n_alike = 1;
  /// Reads rows [first, first + count) as stored (dtype_row_bytes each) into out. Called from several threads.
  std::function<Status(int64_t first, int64_t count, std::span<std::byte> out)> read_rows;
};

/// How exactly a matrix is to be kept.
enum class WeightPrecision {
  kAsStored,  // the bits of the file
  kF32,       // dequantised to float
  kBf16,      // rounded to bfloat16 (float types only; quantised types stay as stored)
  kInt8,      // float types: mixed int8 (DType::kI8x32) where the backend has such kernels; otherwise as stored
};

/// Floats in the backend's memory: norm weights, biases, scratch. Move-only.
class BackendBuffer {
 public:
  virtual ~BackendBuffer() = default;
  float* data = nullptr;
  int64_t n_floats = 0;
};

/// y = W x + bias. bias may be nullptr.
struct Linear {
  std::shared_ptr<const PackedWeight> weight;
  std::shared_ptr<const BackendBuffer> bias;  // (weight->rows)
};

struct Norm {
  enum class Kind { kNone, kRms, kLayer };
  Kind kind = Kind::kNone;
  std::shared_ptr<const BackendBuffer> weight;  // (width)
  std::shared_ptr<const BackendBuffer> bias;    // (width), kLayer only
  float eps = 1e-6f;
  int64_t width = 0;  // length of the normalised vector; a row of several widths is normalised piece by piece
};

/// Projections of one attention layer. Query head i uses key/value head i / (n_heads / n_kv_heads).
struct QkvWeights {
  Linear q;  // (n_heads * head_dim, hidden_size)
  Linear k;  // (n_kv_heads * head_dim, hidden_size)
  Linear v;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  Norm q_norm = {};  // of each head's head_dim values, before they turn: kNone or kRms, the same kind for both
  Norm k_norm = {};
};

/// A feed-forward network of experts, of which each row goes through a few (Qwen2MoeSparseMoeBlock and
/// Qwen3MoeSparseMoeBlock in transformers). All experts have the same shapes and types; the shared one its own.
struct ExpertWeights {
  Linear router;                       // (n_experts, hidden_size)
  std::vector<Linear> gate, up, down;  // of each expert: (width, hidden_size) twice, (hidden_size, width)
  int64_t n_used = 0;                  // experts that a row goes through
  bool normalize = false;              // their weights are made to add up to 1
  // An expert that all rows go through, its weight sigmoid(shared_router h). Without weights: there is none.
  Linear shared_router;                        // (1, hidden_size)
  Linear shared_gate, shared_up;               // (shared_width, hidden_size)
  Linear shared_down;                          // (hidden_size, shared_width)
  std::shared_ptr<const BackendBuffer> index;  // Ops::index_experts() of all the others

  int64_t n_experts() const { return static_cast<int64_t>(gate.size()); }
  int64_t width() const { return gate[0].weight->rows; }
  bool has_shared() const { return shared_gate.weight != nullptr; }
  int64_t shared_width() const { return has_shared() ? shared_gate.weight->rows : 0; }
  /// Floats of a row of activations: those of its experts in ascending order, then the shared one's.
  int64_t row_width() const { return n_used * width() + shared_width(); }
  int64_t n_slots() const { return n_used + (has_shared() ? 1 : 0); }
};

/// Which experts each row goes through, and what each of them counts. In the backend's memory.
struct Routing {
  Mat scores;  // (n, n_experts), before the softmax
  Mat expert;  // (n, n_used): numbers of the chosen ones, as floats, ascending
  Mat weight;  // (n, n_slots): of the chosen ones, then of the shared one
};

/// Cosines and sines of every rotation pair of every row: (n, head_dim / 2) each, in the backend's memory.
struct RopeTable {
  Mat cos;
  Mat sin;
};

/// Rows of a pass that belong to one key/value store: a conversation, a still picture, a window of one, a slice of a
/// video. What a row becomes depends on its own segment alone: the same bits in any company and order.
struct Segment {
  KvStore* kv = nullptr;
  int64_t first_row = 0, n_rows = 0;  // rows of x
  int64_t n_past = 0;                 // row first_row + i stands at position n_past + i of the store
  /// Keys before this position are not seen. A multiple of kKeyAlign, <= n_past; the keys that are seen, rounded up to
  /// kKeyStep, lie within the store's capacity.
  int64_t first_key = 0;
  bool causal = true;  // row i sees keys up to its own position; otherwise up to that of the last row
  /// Whether the backend may keep the segment's keys and values as int8 where that costs little. Of segments that see
  /// themselves as a whole, first_key = n_past and not causal; those that begin at a multiple of kKeyBlock then have
  /// the rest of their last block to themselves.
  bool int8 = false;

  int64_t end_key() const { return n_past + n_rows; }
  /// Keys that row i of the segment sees, from first_key on.
  int64_t n_visible(int64_t i) const { return (causal ? n_past + i + 1 : end_key()) - first_key; }
};
/// What a pass runs over: segments in the order of their rows, which together are all rows, with stores of one shape.
/// Stores may repeat where positions do not. The position behind a segment's last may be overwritten with zeros.
using Segments = std::span<const Segment>;

/// How a step draws its token; as SamplerOptions.
struct DrawOptions {
  float temperature = 0;  // below 1e-5: greedy
  int32_t top_k = 0;      // 0: off
  float top_p = 1;
  float min_p = 0;
  bool operator==(const DrawOptions&) const = default;
};

/// Where a row of text stands.
struct StepStart {
  int32_t token = 0;
  int64_t n_past = 0;    // its cache slot
  int64_t rope_row = 0;  // its row of the rotation table
  bool operator==(const StepStart&) const = default;
};

/// A pass of one token each of some texts and the draws of the next, recorded by Ops::record_step() and played as often
/// as wanted: each step goes on from where the one before ended, without the host. Must not outlive its Ops.
class StepProgram {
 public:
  /// Steps that may be begun and not taken.
  static constexpr int64_t kMostAhead = 8;

  virtual ~StepProgram() = default;
  /// The next step begins here, row by row; what was begun and not taken is forgotten. Waits for it.
  virtual Status start(std::span<const StepStart> rows) = 0;
  /// Begins a step; returns before it is done. uniform: a number in [0, 1] per row, the luck of its draw. The caller
  /// keeps slots and rotation rows inside what was recorded.
  virtual Status play(std::span<const float> uniform) = 0;
  /// Waits for the oldest step that was begun and not taken, and gives what each row drew; -1 when its logits are not
  /// finite: later steps of that row are then worthless, and nothing but the slot of the failed one was written.
  virtual Status take(std::span<int32_t> tokens) = 0;
};

/// The operations of a pass on activations. Contexts (Ops) do what is called; recordings (StepOps) note it down. Rows
/// are those of x.
class PassOps {
 public:
  virtual ~PassOps() = default;

  /// h = norm(x); q = rope(q_norm(Wq h + bq)) into `q` (n, n_heads * head_dim); keys rope(k_norm(Wk h + bk)) and values
  /// Wv h + bv into the positions of the segments. rope: a row per row of x.
  virtual void norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments,
                        Mat q) = 0;
  /// out (n, n_heads * head_dim) = softmax(q k^T / sqrt(head_dim)) v, per head, over the keys that a row's segment
  /// lets it see.
  virtual void attention(Mat q, int64_t n_heads, Segments segments, Mat out) = 0;
  /// x += W in + b.
  virtual void linear_add(Mat in, const Linear& w, Mat x) = 0;
  /// out = silu(Wg h + bg) * (Wu h + bu), h = norm(x).
  virtual void norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) = 0;
  /// out = activation(W norm(x) + b). norm.kind may be kNone.
  virtual void norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) = 0;
  /// h = norm(x); `routing` gets the n_used experts of the greatest scores of each row (of equal ones, the lower
  /// numbers) and their weights softmax(scores), then sigmoid(shared_router h); out (n, row_width) = silu(Wg h) * (Wu
  /// h) of each of them, side by side.
  virtual void norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) = 0;
  /// x += the sum of weight * (Wd in) over the experts of a row, in ascending order, the shared one last.
  virtual void experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) = 0;
  /// x += in.
  virtual void add(Mat in, Mat x) = 0;
};

/// Records a step: a pass in which row i is one token of a text of its own, whose place is known to the device alone.
/// The segments have one row each, in the order of their rows, and the greatest n_past that a step may have; the
/// rotation table is that of all positions. The bits of a step are those of the same operations in a pass of Ops.
class StepOps : public virtual PassOps {
 public:
  /// x (rows, hidden_size) = the rows of the table that the step before drew, or start() named.
  virtual void embed_tokens(const PackedWeight& table, Mat x) = 0;
  /// Draws for rows [first_row, first_row + logits.rows) from logits (n, vocab_size). After all other operations, once
  /// for each row.
  virtual void draw(int64_t first_row, Mat logits, const DrawOptions& options) = 0;
};

/// One execution context: threads, scratch, a device stream. Not thread-safe; weights it packed are, and may be used by
/// any other context of the same backend. Operations report through the status of run().
class Ops : public virtual PassOps {
 public:
  /// "ref", "cpu avx512bf16, 2 threads", ...
  virtual std::string describe() const = 0;
  /// The threads of this context, for work on the host between passes; nullptr: it has none.
  virtual ThreadTeam* team() { return nullptr; }

  // -- weights and memory ------------------------------------------------------------------------------------------
  /// Reads and packs a matrix. Errors: those of read_rows; kNumeric names the tensor and row of a NaN or infinity;
  /// kUnsupported for a type this backend cannot multiply; kOutOfMemory.
  virtual Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision) = 0;
  /// Bytes that pack() would occupy.
  virtual uint64_t packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const = 0;
  /// Names the layout that pack() gives to a matrix's bytes, for files of packed weights: the same number and shape
  /// mean the same arrangement, on every CPU. nullopt: this backend's weights cannot be kept in files.
  virtual std::optional<uint32_t> packed_format(DType /*type*/, WeightPrecision /*precision*/) const {
    return std::nullopt;
  }
  /// The packed bytes of a weight (packed_bytes() of them), to be kept in a file. Precondition: packed_format() has a
  /// value for it.
  virtual std::span<const std::byte> packed_data(const PackedWeight& /*weight*/) const { return {}; }
  /// A weight over bytes that packed_data() gave for a matrix of the same type, shape and precision; `owner` keeps them
  /// in place. Any bytes are safe to multiply with. Errors: kInvalidArgument (another number of bytes, not 64-byte
  /// aligned), kUnsupported.
  virtual Result<std::shared_ptr<const PackedWeight>> adopt(const WeightSource& source, WeightPrecision /*precision*/,
                                                            std::span<const std::byte> /*bytes*/,
                                                            std::shared_ptr<const void> /*owner*/) {
    return make_error(ErrorCode::kUnsupported, "%s: packed weights cannot be taken from a file", source.name);
  }
  /// One row of a packed matrix as floats in host memory.
  virtual void unpack_row(const PackedWeight& weight, int64_t row, float* out) const = 0;
  /// Zeroed floats.
  virtual Result<std::unique_ptr<BackendBuffer>> allocate(int64_t n_floats, const char* purpose) = 0;
  /// Bytes that allocate() takes.
  virtual uint64_t buffer_bytes(int64_t n_floats) const { return static_cast<uint64_t>(n_floats) * sizeof(float); }
  virtual void upload(const float* host, int64_t n_floats, float* backend) = 0;
  /// Uploads n_floats values that are given by their bytes: value i is levels[i / run % 3 * 256 + bytes[i]], in the
  /// bits of the table. run: values of a channel in a row. levels: 3 x 256.
  virtual void upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels, float* backend);
  /// Whether upload_levels() sends the bytes, and so less than upload() of the values.
  virtual bool prefers_levels() const { return false; }
  /// Rows that an operation with wide results should see at once: their memory need not exist for more.
  virtual int64_t rows_at_once() const { return 1024; }
  virtual void download(const float* backend, int64_t n_floats, float* host) = 0;
  /// wide: (n_kv_heads, n_wide) channels of keys that kQ8_0 is to keep in 16 bits (wide_key_channels()); without
  /// meaning for other elements.
  virtual Result<std::unique_ptr<KvStore>> make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                                                   KvElement element, std::span<const int32_t> wide = {}) = 0;
  virtual uint64_t kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                            int64_t n_wide = 0) const = 0;
  /// Memory for n_pages pages of texts whose layers keep this. kUnsupported: as make_kv().
  virtual Result<std::unique_ptr<KvPool>> make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) = 0;
  /// Of all layers.
  virtual uint64_t kv_page_bytes(std::span<const KvShape> layers) const = 0;
  /// Prepares scratch for attention to up to `capacity` positions of stores of this shape, so that nothing is allocated
  /// later. make_kv() does it for its own.
  virtual Status reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) = 0;
  virtual uint64_t kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const = 0;
  /// Prepares scratch for operations on up to max_rows rows of up to max_cols inputs, so that nothing is allocated
  /// later.
  virtual Status reserve(int64_t max_rows, int64_t max_cols) = 0;
  virtual uint64_t reserve_bytes(int64_t max_rows, int64_t max_cols) const = 0;
  /// Passes of up to so many rows give a row the same bits; passes of more may give it others (engine/runtime/cuda).
  virtual int64_t most_rows_alike() const { return INT64_MAX; }
  /// What the backend's device finds the matrices of a network in; nullptr: it needs nothing. Errors: kOutOfMemory,
  /// kUnsupported.
  virtual Result<std::shared_ptr<const BackendBuffer>> index_experts(const ExpertWeights& /*w*/) {
    return std::shared_ptr<const BackendBuffer>();
  }
  virtual uint64_t expert_index_bytes(int64_t /*n_experts*/) const { return 0; }
  /// As reserve(), for operations with experts on top.
  virtual Status reserve_experts(int64_t /*max_rows*/, const ExpertWeights& /*w*/) { return {}; }
  virtual uint64_t reserve_experts_bytes(int64_t /*max_rows*/, const ExpertWeights& /*w*/) const { return 0; }
  /// Bytes that this backend could still allocate.
  virtual uint64_t available_bytes() const;

  // -- a forward pass ----------------------------------------------------------------------------------------------
  /// Runs `body`, which calls the operations below; returns the first error of any of them.
  virtual Status run(FunctionRef<void()> body) = 0;

  /// x[i] = row ids[i] of table; rows with ids[i] < 0 are left as they are (picture embeddings were put there).
  virtual void embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) = 0;

  /// True when every element of x is finite.
  virtual bool all_finite(Mat x) = 0;
  /// Waits for the operations so far, for clocks; nothing to do where they are done when they return.
  virtual void wait() {}

  /// Whether record_step() records.
  virtual bool records_steps() const { return false; }
  /// Records what `body` does, a step of n_rows rows. nullptr: this backend records nothing, or not so many rows.
  virtual Result<std::unique_ptr<StepProgram>> record_step(int64_t /*n_rows*/, FunctionRef<void(StepOps&)> /*body*/) {
    return std::unique_ptr<StepProgram>();
  }
};

/// The oracle: one scalar loop per equation, weights dequantised row by row, double accumulation.
std::unique_ptr<Ops> make_ref_ops();

struct CpuOpsOptions {
  int n_threads = 0;  // 0: available_cpus()
  LogSink log = {};   // told when not all threads can be had
};
/// Panels, SIMD and threads. Errors: kInvalidArgument (GLIMPSE_FORCE_ISA).
Result<std::unique_ptr<Ops>> make_cpu_ops(const CpuOpsOptions& options);

/// How a GPU decodes. kLaunches: launch by launch, the host draws. kGraph: the launches of a token are recorded once
/// and played, the device draws.
enum class CudaDecode { kGraph, kLaunches };

struct CudaOpsOptions {
  int n_threads = 0;  // that read and check weights while they are packed; 0: available_cpus()
  CudaDecode decode = CudaDecode::kGraph;
  LogSink log = {};  // told when not all threads can be had
};
/// Takes over what `text` says: "name=value", several separated by commas. cuda_decode: graph or launches. Errors:
/// kInvalidArgument for a name or a value that is unknown.
Status read_device_options(std::string_view text, CudaOpsOptions& options);
/// The first GPU. Errors: kUnsupported in a build without CUDA; kDevice when there is no GPU that it can use.
Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions& options);

}  // namespace glimpse
