// A decorator of any Ops that reports every operation: what it did, how long it took, how many bytes and FLOP it stands
// for. Who wants no profile does not wrap, and pays nothing.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "engine/runtime/ops.h"

namespace glimpse {

enum class OpKind {
  kUpload,
  kEmbed,
  kNormQkv,
  kAttention,
  kLinearAdd,
  kNormSwiglu,
  kNormLinear,
  kNormExperts,
  kExpertsAdd,
  kAdd,
  kAllFinite,
  kDownload,
};
/// "norm_qkv": the name of the operation in Ops.
const char* op_kind_name(OpKind kind);

/// One call of an operation.
///
/// flop: multiplications and additions of matrix products (2 rows out in) and of attention (4 head_dim per query head
/// and visible key); norms, rotations, softmax and activations are not counted.
/// bytes: every operand once, as it lies in memory: activations as floats, weights packed, keys and values that are
/// visible or written, both ends of a copy. Norm weights and biases are not counted. Of experts, as many weights as
/// rows with independent choices go through on average.
struct OpRecord {
  static constexpr int kMaxWeights = 6;
  using Clock = std::chrono::steady_clock;

  OpKind kind = OpKind::kUpload;
  int64_t rows = 0;                                        // of the input: tokens, patches, groups of patches
  std::array<const PackedWeight*, kMaxWeights> weights{};  // they live as long as the model; of experts, the first one
  std::array<int64_t, kMaxWeights> weight_rows{};          // rows that are multiplied with it, or with one of its like
  int n_weights = 0;
  int64_t n_heads = 0, head_dim = 0, n_keys = 0;  // attention; n_keys: the most that a row sees
  KvElement element = KvElement::kBf16;           // attention
  double flop = 0;
  double bytes = 0;
  Clock::time_point start, end;  // equal when nothing was executed

  /// FLOP of the product with weight i.
  double weight_flop(int i) const {
    const PackedWeight& w = *weights[static_cast<size_t>(i)];
    return 2.0 * static_cast<double>(weight_rows[static_cast<size_t>(i)]) * static_cast<double>(w.rows) *
           static_cast<double>(w.cols);
  }
};

class ProfiledOps final : public Ops {
 public:
  using Sink = std::function<void(const OpRecord&)>;
  using Alone = std::function<bool(const OpRecord&)>;  // sees the record before the operation runs
  enum class Mode {
    kExecute,
    kCount,  // operations are reported and not executed: what a pass would cost
  };

  /// inner outlives this object.
  explicit ProfiledOps(Ops& inner, Mode mode = Mode::kExecute) : inner_(inner), mode_(mode) {}
  /// Who gets the records from now on; empty: nobody, and no clock is read. alone: the operations that begin when all
  /// before them is done and end when they are done themselves; empty: all. The clock readings of others say when the
  /// host asked for them, which on a GPU is earlier.
  void set_sink(Sink sink, Alone alone = {}) {
    sink_ = std::move(sink);
    alone_ = std::move(alone);
  }

  std::string describe() const override { return inner_.describe(); }
  ThreadTeam* team() override { return inner_.team(); }
  Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision) override {
    return inner_.pack(source, precision);
  }
  uint64_t packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const override {
    return inner_.packed_bytes(type, rows, cols, precision);
  }
  std::optional<uint32_t> packed_format(DType type, WeightPrecision precision) const override {
    return inner_.packed_format(type, precision);
  }
  std::span<const std::byte> packed_data(const PackedWeight& weight) const override {
    return inner_.packed_data(weight);
  }
  Result<std::shared_ptr<const PackedWeight>> adopt(const WeightSource& source, WeightPrecision precision,
                                                    std::span<const std::byte> bytes,
                                                    std::shared_ptr<const void> owner) override {
    return inner_.adopt(source, precision, bytes, std::move(owner));
  }
  int64_t most_rows_alike() const override { return inner_.most_rows_alike(); }
  uint64_t available_bytes() const override { return inner_.available_bytes(); }
  void unpack_row(const PackedWeight& weight, int64_t row, float* out) const override {
    inner_.unpack_row(weight, row, out);
  }
  Result<std::unique_ptr<BackendBuffer>> allocate(int64_t n_floats, const char* purpose) override {
    return inner_.allocate(n_floats, purpose);
  }
  Result<std::unique_ptr<KvStore>> make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                                           std::span<const int32_t> wide = {}) override {
    return inner_.make_kv(n_kv_heads, head_dim, capacity, element, wide);
  }
  uint64_t kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                    int64_t n_wide = 0) const override {
    return inner_.kv_bytes(n_kv_heads, head_dim, capacity, element, n_wide);
  }
  Result<std::unique_ptr<KvPool>> make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) override {
    return inner_.make_kv_pool(layers, n_pages);
  }
  uint64_t kv_page_bytes(std::span<const KvShape> layers) const override { return inner_.kv_page_bytes(layers); }
  Status reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) override {
    return mode_ == Mode::kCount ? Status() : inner_.reserve_attention(n_kv_heads, head_dim, capacity);
  }
  uint64_t kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const override {
    return inner_.kv_scratch_bytes(n_kv_heads, head_dim, capacity);
  }
  Status reserve(int64_t max_rows, int64_t max_cols) override {
    return mode_ == Mode::kCount ? Status() : inner_.reserve(max_rows, max_cols);
  }
  uint64_t reserve_bytes(int64_t max_rows, int64_t max_cols) const override {
    return inner_.reserve_bytes(max_rows, max_cols);
  }
  Status run(FunctionRef<void()> body) override;

  uint64_t buffer_bytes(int64_t n_floats) const override { return inner_.buffer_bytes(n_floats); }
  void upload(const float* host, int64_t n_floats, float* backend) override;
  void upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels, float* backend) override;
  bool prefers_levels() const override { return inner_.prefers_levels(); }
  int64_t rows_at_once() const override { return inner_.rows_at_once(); }
  void download(const float* backend, int64_t n_floats, float* host) override;
  void embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) override;
  void norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q) override;
  void attention(Mat q, int64_t n_heads, Segments segments, Mat out) override;
  void linear_add(Mat in, const Linear& w, Mat x) override;
  void norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) override;
  void norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) override;
  Result<std::shared_ptr<const BackendBuffer>> index_experts(const ExpertWeights& w) override {
    return inner_.index_experts(w);
  }
  uint64_t expert_index_bytes(int64_t n_experts) const override { return inner_.expert_index_bytes(n_experts); }
  Status reserve_experts(int64_t max_rows, const ExpertWeights& w) override {
    return mode_ == Mode::kCount ? Status() : inner_.reserve_experts(max_rows, w);
  }
  uint64_t reserve_experts_bytes(int64_t max_rows, const ExpertWeights& w) const override {
    return inner_.reserve_experts_bytes(max_rows, w);
  }
  void norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) override;
  void experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) override;
  void add(Mat in, Mat x) override;
  bool all_finite(Mat x) override;
  void wait() override;
  bool records_steps() const override { return mode_ == Mode::kExecute && inner_.records_steps(); }
  /// What is recorded and played is not reported.
  Result<std::unique_ptr<StepProgram>> record_step(int64_t n_rows, FunctionRef<void(StepOps&)> body) override {
    return mode_ == Mode::kCount ? std::unique_ptr<StepProgram>() : inner_.record_step(n_rows, body);
  }

 private:
  /// An operation on these activations; describe adds what else its record says.
  void observe(OpKind kind, int64_t rows, std::initializer_list<Mat> activations, FunctionRef<void()> execute,
               FunctionRef<void(OpRecord&)> describe);

  Ops& inner_;
  const Mode mode_;
  Sink sink_;
  Alone alone_;
};

}  // namespace glimpse
