// CudaOps: the pass of one token, recorded once and played. Token, slot, rotation row and the place in the rings lie in
// a StepState in device memory; the last launch of a step draws and moves it. The host reads tokens from a ring in
// pinned memory, behind marks.
#include <algorithm>
#include <cstring>
#include <optional>

#include "engine/base/checked.h"
#include "engine/runtime/cuda/cuda_ops.h"

namespace glimpse::cuda {
namespace {

static_assert(StepProgram::kMostAhead <= kStepRing && kStepRing <= Stream::kMarks);

// In device memory: where a step stands, and the greatest logit of the one under way.
struct StepMemory {
  StepState state;
  uint64_t best = 0;
};

// What the host and the device both see: rings of drawn tokens and of random numbers, and a state on its way.
struct Rings {
  int32_t ids[kStepRing];
  float uniform[kStepRing];
  StepMemory start;
};

class CudaStep final : public StepProgram {
 public:
  static Result<std::unique_ptr<CudaStep>> create(const std::shared_ptr<Device>& device,
                                                  std::shared_ptr<Stream> stream) {
    auto step = std::make_unique<CudaStep>();
    step->stream_ = std::move(stream);
    GLIMPSE_ASSIGN(step->state_, Memory::on_device(device, sizeof(StepMemory), "the state of a step"));
    GLIMPSE_ASSIGN(step->rings_, Memory::pinned(device, sizeof(Rings), "drawn tokens"));
    new (step->rings_.as<void>()) Rings{};
    return step;
  }
  ~CudaStep() override {
    if (stream_ != nullptr) (void)stream_->synchronize();  // steps under way use the memory
  }

  StepState* state() const { return &state_.as<StepMemory>()->state; }
  uint64_t* best() const { return &state_.as<StepMemory>()->best; }
  Rings& rings() const { return *rings_.as<Rings>(); }
  void set_recording(std::shared_ptr<const Recording> recording) { recording_ = std::move(recording); }

  Status start(const StepStart& start) override {
    GLIMPSE_TRY(stream_->synchronize());
    begun_ = taken_ = 0;
    rings().start = {{start.token, static_cast<int32_t>(start.n_past), static_cast<int32_t>(start.rope_row), 0}, 0};
    return stream_->copy_in(state_.as<void>(), &rings().start, sizeof(StepMemory));
  }
  Status play(float uniform) override {
    if (begun_ - taken_ >= kMostAhead) {
      return make_error(ErrorCode::kInternal, "%d steps ahead", begun_ - taken_);
    }
    const auto place = static_cast<int>(begun_ % kStepRing);
    rings().uniform[place] = uniform;
    GLIMPSE_TRY(stream_->play(recording_));
    GLIMPSE_TRY(stream_->mark(place));
    ++begun_;
    return {};
  }
  Result<int32_t> take() override {
    if (taken_ == begun_) return make_error(ErrorCode::kInternal, "no step was begun");
    const auto place = static_cast<int>(taken_ % kStepRing);
    GLIMPSE_TRY(stream_->wait_for(place));
    ++taken_;
    return rings().ids[place];
  }

 private:
  std::shared_ptr<Stream> stream_;
  Memory state_, rings_;
  std::shared_ptr<const Recording> recording_;
  int64_t begun_ = 0, taken_ = 0;  // since start()
};

}  // namespace

class CudaOps::Recorder final : public StepRecorder {
 public:
  Recorder(CudaOps& ops, const CudaStep& step) : ops_(ops), step_(step) {}

  void embed_token(const PackedWeight& table, Mat x) override {
    const auto& w = static_cast<const CudaWeight&>(table);
    EmbedArgs args;
    args.table = w.view;
    args.ids = &step_.state()->token;
    args.n = 1;
    args.x = x.data;
    args.ld = x.ld;
    ops_.launch(embed_kernel(w.format), LaunchShape{}, &args);
  }
  void draw(Mat logits, const DrawOptions& options) override {
    SampleArgs& args = sample_.emplace();
    args.logits = logits.data;
    args.ld = logits.ld;
    args.n = 1;
    args.vocab = static_cast<int32_t>(logits.cols);
    args.temperature = options.temperature;
    args.top_k = options.top_k;
    args.top_p = options.top_p;
    args.min_p = options.min_p;
    args.ids = step_.rings().ids;
    args.uniform = step_.rings().uniform;
    args.step = step_.state();
    if (ops_.ranked_.size() == 1 && ops_.ranked_[0] == logits.data) args.best = step_.best();
  }
  /// The last launch of the step.
  void launch_draw() {
    if (sample_) ops_.launch(Kernel::sample, LaunchShape{{1, 1, 1}, sample_shared_bytes()}, &*sample_);
  }

 private:
  CudaOps& ops_;
  const CudaStep& step_;
  std::optional<SampleArgs> sample_;
};

Result<std::unique_ptr<StepProgram>> CudaOps::record_step(FunctionRef<void(StepRecorder&)> body) {
  if (decode_ == CudaDecode::kLaunches) return std::unique_ptr<StepProgram>();
  GLIMPSE_ASSIGN(std::unique_ptr<CudaStep> step, CudaStep::create(device_, stream_));
  recorded_ = true;
  Recorder recorder(*this, *step);
  // Whatever ends this early, a C++ exception of an allocation too: the next launch is an ordinary one again.
  struct Ordinary {
    CudaOps& ops;
    bool recording = false;
    ~Ordinary() {
      ops.step_ = nullptr;
      ops.best_ = nullptr;
      if (recording) (void)ops.stream_->end_recording();
    }
  } ordinary{*this};
  GLIMPSE_TRY(stream_->begin_recording());
  ordinary.recording = true;
  status_ = {};
  ranked_.clear();
  step_ = step->state();
  best_ = step->best();
  body(recorder);
  step_ = nullptr;
  best_ = nullptr;
  recorder.launch_draw();
  ordinary.recording = false;
  auto recording = stream_->end_recording();
  GLIMPSE_TRY(Status(status_));
  if (!recording.ok()) return std::move(recording).error();
  step->set_recording(std::move(recording).value());
  return std::unique_ptr<StepProgram>(std::move(step));
}

}  // namespace glimpse::cuda
