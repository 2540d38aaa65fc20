// CudaOps: a pass of one token each of some texts, recorded once and played. Tokens, slots, rotation rows and the
// places in the rings lie in StepStates in device memory; the last launches of a step draw and move them. The host
// reads tokens from rings in pinned memory, behind marks.
#include <algorithm>
#include <cstring>
#include <optional>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"
#include "engine/runtime/cuda/weights_ahead.h"

namespace glimpse::cuda {
namespace {

static_assert(StepProgram::kMostAhead <= kStepRing && kStepRing <= Stream::kMarks);
constexpr int64_t kMostRows = CudaPass::kFewRows;

// In device memory: where the rows of a step stand, and the greatest logit of the only one under way.
struct StepMemory {
  StepState rows[kMostRows];
  uint64_t best = 0;
};

// What the host and the device both see: rings of drawn tokens and of random numbers, row by row, and states on their
// way.
struct Rings {
  int32_t ids[kMostRows][kStepRing];
  float uniform[kMostRows][kStepRing];
  StepMemory start;
};

class CudaStep final : public StepProgram {
 public:
  static Result<std::unique_ptr<CudaStep>> create(const std::shared_ptr<Device>& device, std::shared_ptr<Stream> stream,
                                                  int64_t n_rows) {
    auto step = std::make_unique<CudaStep>();
    step->stream_ = std::move(stream);
    step->n_rows_ = static_cast<size_t>(n_rows);
    GLIMPSE_ASSIGN(step->state_, Memory::on_device(device, sizeof(StepMemory), "the state of a step"));
    GLIMPSE_ASSIGN(step->rings_, Memory::pinned(device, sizeof(Rings), "drawn tokens"));
    new (step->rings_.as<void>()) Rings{};
    return step;
  }
  ~CudaStep() override {
    if (stream_ != nullptr) (void)stream_->synchronize();  // steps under way use the memory
  }

  StepState* rows() const { return state_.as<StepMemory>()->rows; }
  uint64_t* best() const { return &state_.as<StepMemory>()->best; }
  Rings& rings() const { return *rings_.as<Rings>(); }
  void set_recording(std::shared_ptr<const Recording> recording) { recording_ = std::move(recording); }

  Status start(std::span<const StepStart> rows) override {
    GLIMPSE_TRY(stream_->synchronize());
    begun_ = taken_ = 0;
    StepMemory& memory = rings().start;
    memory = {};
    for (size_t i = 0; i < n_rows_; ++i) {
      memory.rows[i] = {rows[i].token, static_cast<int32_t>(rows[i].n_past), static_cast<int32_t>(rows[i].rope_row), 0};
    }
    return stream_->copy_in(state_.as<void>(), &memory, sizeof memory);
  }
  Status play(std::span<const float> uniform) override {
    if (begun_ - taken_ >= kMostAhead) {
      return make_error(ErrorCode::kInternal, "%d steps ahead", begun_ - taken_);
    }
    const auto place = static_cast<int>(begun_ % kStepRing);
    for (size_t i = 0; i < n_rows_; ++i) rings().uniform[i][place] = uniform[i];
    GLIMPSE_TRY(stream_->play(recording_));
    GLIMPSE_TRY(stream_->mark(place));
    ++begun_;
    return {};
  }
  Status take(std::span<int32_t> tokens) override {
    if (taken_ == begun_) return make_error(ErrorCode::kInternal, "no step was begun");
    const auto place = static_cast<int>(taken_ % kStepRing);
    GLIMPSE_TRY(stream_->wait_for(place));
    ++taken_;
    for (size_t i = 0; i < n_rows_; ++i) tokens[i] = rings().ids[i][place];
    return {};
  }

 private:
  std::shared_ptr<Stream> stream_;
  size_t n_rows_ = 0;
  Memory state_, rings_;
  std::shared_ptr<const Recording> recording_;
  int64_t begun_ = 0, taken_ = 0;  // since start()
};

// The operations of a step, each recorded as it is called; but draws come last, whatever is called behind them.
class CudaStepOps final : public StepOps, public CudaPass {
 public:
  CudaStepOps(CudaContext& context, Launcher& launcher, const CudaStep& step, int64_t n_rows)
      : CudaPass(context, launcher, step.rows()), step_(step), n_rows_(n_rows) {}

  void embed_tokens(const PackedWeight& table, Mat x) override {
    constexpr int32_t stride = sizeof(StepState) / sizeof(int32_t);
    launch_embed(static_cast<const CudaWeight&>(table), &step_.rows()->token, stride, x);
  }
  void draw(int64_t first_row, Mat logits, const DrawOptions& options) override {
    SampleArgs args;
    args.ids = step_.rings().ids[first_row];
    args.uniform = step_.rings().uniform[first_row];
    args.step = step_.rows() + first_row;
    if (ranked_ == logits.data) args.best = step_.best();
    draws_.push_back({logits, options, args});
  }
  void launch_draws() {
    for (const Draw& draw : draws_) launch_sample(draw.logits, draw.options, draw.args);
  }

 private:
  struct Draw {
    Mat logits;
    DrawOptions options;
    SampleArgs args;
  };
  // Of a step with one such product, which is then what is drawn from.
  uint64_t* rank(Mat out) override {
    if (n_rows_ > 1) return nullptr;
    ranked_ = ++n_ranked_ == 1 ? out.data : nullptr;
    return step_.best();
  }

  const CudaStep& step_;
  const int64_t n_rows_;
  int n_ranked_ = 0;
  const float* ranked_ = nullptr;
  std::vector<Draw> draws_;
};

}  // namespace

Result<std::unique_ptr<StepProgram>> CudaOps::record_step(int64_t n_rows, FunctionRef<void(StepOps&)> body) {
  if (decode_ == CudaDecode::kLaunches || n_rows > kMostRows) return std::unique_ptr<StepProgram>();
  GLIMPSE_ASSIGN(std::unique_ptr<CudaStep> step, CudaStep::create(device_, stream_, n_rows));
  GLIMPSE_ASSIGN(const std::unique_ptr<LaunchRecorder> recorder, stream_->record());
  recorded_ = true;
  status_ = {};
  WeightsAhead launcher(*recorder);
  CudaStepOps ops(*this, launcher, *step, n_rows);
  body(ops);
  ops.launch_draws();
  fail(launcher.finish());
  GLIMPSE_TRY(Status(status_));
  GLIMPSE_ASSIGN(auto recording, recorder->finish());
  step->set_recording(std::move(recording));
  return std::unique_ptr<StepProgram>(std::move(step));
}

}  // namespace glimpse::cuda
