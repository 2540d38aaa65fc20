// CpuOps: the operations on packed panels, SIMD kernels and one thread team. Private to engine/runtime.
//
// Rows of x are columns of a product (tokens, patches). They are taken kChunk at a time: the threads normalise and
// quantise the chunk, then multiply panels with it, so that the quantised chunk stays in cache.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/base/thread_team.h"
#include "engine/runtime/cpu_kv.h"
#include "engine/runtime/ops.h"
#include "kernels/matmul/matmul.h"

namespace glimpse {

struct CpuWeight final : PackedWeight {
  PanelMatrix panels;
  const PanelKernel* kernel = nullptr;
  AlignedBuffer storage;              // empty when the panels lie in somebody else's memory
  std::shared_ptr<const void> owner;  // of that memory
};

struct CpuBuffer final : BackendBuffer {
  AlignedBuffer storage;
};

/// Rows of one thread on their way from a file into panels. Kept from matrix to matrix: fresh memory costs more than
/// the packing. Each grows to what the largest matrix needs.
struct PackBuffers {
  std::vector<std::byte> raw, converted, scratch;
  std::vector<float> floats;
};

/// Panels that one kernel call takes when there are many columns.
inline constexpr int64_t kTilePanels = 4;

class CpuOps final : public Ops {
 public:
  CpuOps(Isa isa, int n_threads, const LogSink& log = {});

  std::string describe() const override;
  ThreadTeam* team() override { return &team_; }
  Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision) override;
  uint64_t packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const override;
  std::optional<uint32_t> packed_format(DType type, WeightPrecision precision) const override;
  std::span<const std::byte> packed_data(const PackedWeight& weight) const override;
  Result<std::shared_ptr<const PackedWeight>> adopt(const WeightSource& source, WeightPrecision precision,
                                                    std::span<const std::byte> bytes,
                                                    std::shared_ptr<const void> owner) override;
  void unpack_row(const PackedWeight& weight, int64_t row, float* out) const override;
  Result<std::unique_ptr<BackendBuffer>> allocate(int64_t n_floats, const char* purpose) override;
  uint64_t buffer_bytes(int64_t n_floats) const override {
    return AlignedBuffer::memory_bytes(Ops::buffer_bytes(n_floats));
  }
  void upload(const float* host, int64_t n_floats, float* backend) override;
  void download(const float* backend, int64_t n_floats, float* host) override;
  Result<std::unique_ptr<KvStore>> make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                                           std::span<const int32_t> wide = {}) override;
  uint64_t kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                    int64_t n_wide = 0) const override;
  Result<std::unique_ptr<KvPool>> make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) override {
    return make_cpu_pool(layers, n_pages);
  }
  uint64_t kv_page_bytes(std::span<const KvShape> layers) const override { return cpu_page_bytes(layers); }
  Status reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) override;
  uint64_t kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const override;
  Status reserve(int64_t max_rows, int64_t max_cols) override;
  uint64_t reserve_bytes(int64_t max_rows, int64_t max_cols) const override;

  Status run(FunctionRef<void()> body) override;
  void embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) override;
  void norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q) override;
  void attention(Mat q, int64_t n_heads, Segments segments, Mat out) override;
  void linear_add(Mat in, const Linear& w, Mat x) override;
  void norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) override;
  void norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) override;
  Status reserve_experts(int64_t max_rows, const ExpertWeights& w) override;
  uint64_t reserve_experts_bytes(int64_t max_rows, const ExpertWeights& w) const override;
  void norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) override;
  void experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) override;
  void add(Mat in, Mat x) override;
  bool all_finite(Mat x) override;

 private:
  /// A weight without its panels. Errors: kUnsupported.
  Result<std::shared_ptr<CpuWeight>> outline(const WeightSource& source, WeightPrecision precision) const;

  static constexpr int64_t kChunk = 512;  // rows of x per pass over the weights
  /// Fewer keys are attended to in bfloat16: int8 saves next to nothing then, and every key weighs more.
  static constexpr int64_t kMinInt8Keys = 1024;
  static constexpr int kMaxFormats = 3;  // q, k and v of one layer may each want another
  static constexpr int64_t kTileFloats = 2 * kTilePanels * kChunk * kPanelRows;  // gate and up

  /// Scratch of one thread; sized by grow_linear and grow_attention.
  struct Worker {
    AlignedBuffer row;      // one normalised row
    AlignedBuffer expand;   // a kernel's expanded panel
    AlignedBuffer tile;     // kTileFloats floats
    AlignedBuffer queries;  // kMaxQueryRows prepared query rows
    AlignedBuffer state;    // running softmax state: acc, max, sum
    AlignedBuffer scores;   // attention scratch
  };

  /// The chunk at hand in each format that its consumers want.
  struct Acts {
    std::array<ActView, kMaxFormats> views;
    int count = 0;
    /// Precondition: the format is among those asked for.
    const ActView& get(ActFormat format) const {
      size_t i = 0;
      while (views[i].format != format) ++i;
      return views[i];
    }
  };
  struct FormatList {
    std::array<ActFormat, kMaxFormats> formats{};
    int count = 0;
    void add(ActFormat format);
  };

  /// The inputs of a chunk's experts: a column for each row and expert that it goes through, ascending by expert, then
  /// by row, so that an expert multiplies neighbouring columns. Sized by reserve_experts().
  struct ExpertColumns {
    std::vector<int32_t> begin;   // (n_experts + 1): an expert's first column
    std::vector<int32_t> active;  // experts that have columns
    std::vector<int32_t> row;     // (n): of the chunk
    std::vector<int32_t> slot;    // (n): which of the row's experts it is
    std::vector<int32_t> column;  // (n): of a row's slot, row after row
    int64_t most = 0;             // columns of one expert
    AlignedBuffer acts[2];        // their values, in the formats that gate and up want; of down in the first
  };

  /// body(first_row, acts) for each chunk of norm(x).
  void for_each_chunk(Mat x, const Norm& norm, const FormatList& formats,
                      FunctionRef<void(int64_t first, const Acts& acts)> body);
  Worker& worker(int thread) { return workers_[static_cast<size_t>(thread)]; }
  void normalize(const Norm& norm, const float* x, int64_t cols, float* out) const;

  void sort_columns(const ExpertWeights& w, Mat expert);
  void quantize_columns(Mat x, const Norm& norm, int64_t n_used, std::span<const ActView> views);
  Status grow_linear(int64_t max_rows, int64_t max_cols);
  static uint64_t attention_state_bytes(int64_t d);
  Status grow_attention(int64_t d, int64_t n_partials);
  void store_rows(Segments segments, int64_t first, WorkRange rows, Mat keys, Mat values, Worker& worker) const;
  void quantize_segment_heads(Mat q, int64_t n_heads, Segments segments);
  void attend_items(Mat q, int64_t n_heads, Segments segments, int64_t n_items, Grain grain, Mat out);
  void attend_split(Mat q, int64_t n_heads, Segments segments, Mat out);

  const Isa isa_;
  ThreadTeam team_;
  std::vector<Worker> workers_;
  std::vector<PackBuffers> pack_buffers_;  // one per thread, from the first pack() on
  AlignedBuffer acts_[kMaxFormats];        // shared: a whole chunk
  AlignedBuffer kv_rows_;                  // keys and values of a chunk before rotation
  ExpertColumns experts_;
  AlignedBuffer partials_;     // softmax states of key blocks that threads share
  int64_t reserved_cols_ = 0;  // whose rows and expanded panels there is room for
  Status status_;              // the first error of the pass at hand
};

}  // namespace glimpse
