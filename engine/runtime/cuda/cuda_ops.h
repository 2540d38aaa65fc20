// CudaOps: the operations on a device, over the small interface of device.h. Private to engine/runtime/cuda and tests.
//
// Two arithmetics, chosen by the number of rows of a pass and documented in kernels/cuda/README.md: up to kFewRows rows
// go through integer dot products (gemv) and row-wise attention, more through bfloat16 matrix fragments. Within each, a
// row's result does not depend on how a prompt was cut into passes. F32 weights and float caches have one path only.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/thread_team.h"
#include "engine/runtime/cuda/device.h"
#include "engine/runtime/ops.h"

namespace glimpse::cuda {

struct CudaWeight final : PackedWeight {
  Format format = Format::kF32;
  WeightView view;
  std::shared_ptr<const Memory> memory;  // around view.data: of all matrices that are alike
};

struct CudaBuffer final : BackendBuffer {
  Memory memory;
};

/// In each page the keys, then the values: [head][position][padded head_dim] each. A store of its own is one page.
struct CudaKv final : KvStore {
  Memory memory;                    // of a store of its own
  std::byte* first_page = nullptr;  // of this layer
  int64_t page_positions = 0;
  uint64_t page_bytes = 0;                           // from one page to the next, of all layers
  const int32_t* pages = nullptr;                    // by block, on the device; nullptr: one page
  const std::vector<int32_t>* host_pages = nullptr;  // the same
  std::shared_ptr<Stream> stream;                    // of the context that writes it

  KvView view() const;
  /// Whether attention may begin at first_key. Errors: kUnsupported.
  Status check_window(int64_t first_key) const;
  uint64_t layer_bytes() const;  // of this layer in one page
  void read(int64_t kv_head, int64_t position, float* key, float* value) const override;
};

inline const CudaWeight& cuda_weight(const Linear& linear) {
  return static_cast<const CudaWeight&>(*linear.weight);
}
NormView norm_view(const Norm& norm);

/// The memory of networks of experts for some rows: what the choice makes of them, and values on their way.
struct ExpertRoom {
  ColumnGroup* groups = nullptr;
  ColumnPlace* places = nullptr;
  uint16_t* act = nullptr;    // inputs of the columns, for matrix-matrix kernels
  float* products = nullptr;  // (rows, n_slots * hidden_size)
  int64_t n_groups = 0, n_columns = 0;
  int group_columns = 0, align = 0;
  uint64_t n_bytes = 0;
};

/// Segments from the first on that go into one launch: their rows follow one another, and none meets other kernels
/// than it would alone.
Segments taken_together(Segments segments);
/// All but the first, as kernels that write to their stores take them.
KvParts more_parts(Segments segments);

/// What the passes of one context share: the device, the stream, scratch memory, the first error.
class CudaContext {
 protected:
  friend class CudaPass;
  CudaContext(std::shared_ptr<Device> device, std::shared_ptr<Stream> stream)
      : device_(std::move(device)), stream_(std::move(stream)) {}
  void fail(Status status);
  Status grow(Memory& memory, uint64_t n_bytes, const char* purpose);

  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Stream> stream_;
  Memory act_, spare_, ids_;     // of reserve(): bfloat16 rows, unfused products, token ids
  Memory partials_, tickets_;    // of reserve_attention(): attention, and products whose chunks are shared out
  Memory experts_;               // of reserve_experts()
  std::vector<Memory> retired_;  // was too small for a later user, but recordings point at it
  bool recorded_ = false;
  Status status_;
};

/// The operations of a pass as launches, for a stream or a recorder.
class CudaPass : public virtual PassOps {
 public:
  /// Rows of a pass up to which the kernels for few columns are used.
  static constexpr int64_t kFewRows = 8;

  void norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q) override;
  void attention(Mat q, int64_t n_heads, Segments segments, Mat out) override;
  void linear_add(Mat in, const Linear& w, Mat x) override;
  void norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) override;
  void norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) override;
  void norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) override;
  void experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) override;
  void add(Mat in, Mat x) override;

 protected:
  /// steps: where the rows stand, of a recorded step; nullptr: the segments say it. The context and the launcher
  /// outlive the pass.
  CudaPass(CudaContext& context, Launcher& launcher, const StepState* steps = nullptr)
      : context_(context), launcher_(launcher), steps_(steps) {}
  void launch(Kernel kernel, const LaunchShape& shape, const void* args);
  static IntoRowsArgs into_rows(Mat from, Mat to);
  void launch_add(const IntoRowsArgs& args);
  void launch_embed(const CudaWeight& table, const int32_t* ids, int32_t id_stride, Mat x);
  void launch_sample(Mat logits, const DrawOptions& options, SampleArgs args);
  /// Where a product of one row leaves its greatest value, for a draw; nullptr: nowhere.
  virtual uint64_t* rank(Mat /*out*/) { return nullptr; }

 private:
  /// A product that one launch may share with others of the same columns.
  struct Product {
    const CudaWeight* weights[2] = {nullptr, nullptr};
    const BackendBuffer* bias[2] = {nullptr, nullptr};
    Output output = Output::kStore;
    Activation activation = Activation::kNone;
    int32_t half_tiles = 0;
    Mat out;
  };
  /// A product with the matrices of all experts, of which those of the first are named.
  struct ExpertProduct {
    const Linear* first[2] = {nullptr, nullptr};
    int matrix[2] = {0, 0};  // their places in ExpertWeights::index
    Output output = Output::kStore;
    Mat out;
    int64_t slot_ld = 0;  // from one slot of a row of out to the next
  };
  void multiply(Mat x, const Norm& norm, std::span<const Product> products, LinearArgs common);
  void multiply_experts(const ExpertWeights& w, const ExpertRoom& room, Mat in, int64_t slot_ld, const Norm& norm,
                        std::span<const ExpertProduct> products);
  ExpertRoom expert_room(const ExpertWeights& w, int64_t n);
  void launch_route(Kernel kernel, int64_t blocks, const ExpertWeights& w, const Routing& routing,
                    const ExpertRoom& room);
  void sort_columns(const ExpertWeights& w, const Routing& routing, const ExpertRoom& room);
  void gate_experts(const ExpertWeights& w, const ExpertRoom& room, Mat x, const Norm& norm, Mat out);
  void multiply_group(Format format, LinearArgs& args);
  void multiply_pair(Kernel kernel, const FormatPair& formats, LinearArgs& args);
  int share_out(Format format, LinearArgs& args, int64_t n_groups);
  void qkv_together(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q);
  void attend_together(Mat q, int64_t n_heads, Segments segments, Mat out, const OperandView& operand,
                       int64_t operand_row);
  /// Whether a Mat of one reader (Mat::read_by) is left as that reads it: what makes it and what reads it both ask.
  bool is_operand(const Mat& m) const;
  /// The memory of such a Mat, and its padding zeroed.
  OperandView start_operand(const Mat& m);
  /// values, which are floats, become such a Mat. operand.n: rows of it. places: where each of them is; nullptr: as
  /// they come.
  void make_operand(Mat values, const Norm& norm, const OperandView& operand, const ColumnPlace* places = nullptr,
                    int64_t slot_ld = 0);
  Mat spare(int64_t rows, int64_t cols);

  CudaContext& context_;
  Launcher& launcher_;
  const StepState* const steps_;
  const float* sorted_ = nullptr;  // the choice whose columns are in the room of experts
};

class CudaOps final : private CudaContext, public Ops, public CudaPass {
 public:
  static Result<std::unique_ptr<CudaOps>> create(std::shared_ptr<Device> device, int n_threads,
                                                 CudaDecode decode = CudaDecode::kGraph, const LogSink& log = {});

  std::string describe() const override;
  ThreadTeam* team() override { return &team_; }
  Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision) override;
  uint64_t packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const override;
  void unpack_row(const PackedWeight& weight, int64_t row, float* out) const override;
  Result<std::unique_ptr<BackendBuffer>> allocate(int64_t n_floats, const char* purpose) override;
  void upload(const float* host, int64_t n_floats, float* backend) override;
  void upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels, float* backend) override;
  bool prefers_levels() const override { return true; }
  /// A thousand would leave most multiprocessors without a block.
  int64_t rows_at_once() const override { return 8192; }
  void download(const float* backend, int64_t n_floats, float* host) override;
  Result<std::unique_ptr<KvStore>> make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                                           std::span<const int32_t> wide = {}) override;
  uint64_t kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                    int64_t n_wide = 0) const override;
  Result<std::unique_ptr<KvPool>> make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) override;
  uint64_t kv_page_bytes(std::span<const KvShape> layers) const override;
  Status reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) override;
  uint64_t kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const override;
  Status reserve(int64_t max_rows, int64_t max_cols) override;
  uint64_t reserve_bytes(int64_t max_rows, int64_t max_cols) const override;
  int64_t most_rows_alike() const override { return kFewRows; }
  uint64_t available_bytes() const override { return device_->free_bytes(); }

  Status run(FunctionRef<void()> body) override;
  void embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) override;
  Result<std::shared_ptr<const BackendBuffer>> index_experts(const ExpertWeights& w) override;
  uint64_t expert_index_bytes(int64_t n_experts) const override;
  Status reserve_experts(int64_t max_rows, const ExpertWeights& w) override;
  uint64_t reserve_experts_bytes(int64_t max_rows, const ExpertWeights& w) const override;
  bool all_finite(Mat x) override;
  void wait() override { fail(stream_->synchronize()); }
  bool records_steps() const override { return decode_ != CudaDecode::kLaunches; }
  Result<std::unique_ptr<StepProgram>> record_step(int64_t n_rows, FunctionRef<void(StepOps&)> body) override;

  /// Draws a token from each row of logits on the device. uniform: a number in [0, 1] per row. ids: -1 where a row
  /// holds a NaN or no token can be drawn.
  void sample(Mat logits, const DrawOptions& sampling, std::span<const float> uniform, std::span<int32_t> ids);

  /// The first error since the last run() began; for operations outside of run().
  const Status& status() const { return status_; }

 private:
  CudaOps(std::shared_ptr<Device> device, std::shared_ptr<Stream> stream, int n_threads, CudaDecode decode,
          const LogSink& log);
  /// Device memory for a matrix of n_bytes. Those that are alike share one piece: a driver gives whole megabytes, and a
  /// model may have thousands of experts.
  Status place_weight(const WeightSource& source, CudaWeight& weight);
  Status pack_slot(const WeightSource& source, DType stored, int64_t first, int64_t count, std::byte* to);
  const void* stage(const void* host, uint64_t n_bytes);
  void copy_in(void* device, const void* host, uint64_t n_bytes);
  void copy_out(void* host, const void* device, uint64_t n_bytes);

  const CudaDecode decode_;
  ThreadTeam team_;
  Memory staging_;  // pinned, in both directions
  uint64_t staged_ = 0;
  Memory ring_[2], raw_;  // packing: pinned, on the device
  /// Memory of matrices that are alike, of which some have not come yet. It is the matrices'.
  struct Shared {
    std::string name;
    uint64_t matrix_bytes = 0, used = 0;
    std::weak_ptr<const Memory> memory;
  };
  std::vector<Shared> shared_;
  Memory flag_;
};

}  // namespace glimpse::cuda
