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
  int32_t given_up;  // DecodeStepArgs
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

  /// Keeps the phases of a persistent step in device memory.
  Result<DecodeStepArgs> keep(const std::shared_ptr<Device>& device, const std::vector<StepPhase>& phases) {
    for (const StepPhase& phase : phases) kernels_.push_back(static_cast<Kernel>(phase.kernel));
    GLIMPSE_ASSIGN(phases_, Memory::on_device(device, phases.size() * sizeof(StepPhase), "the phases of a step"));
    GLIMPSE_ASSIGN(counters_, Memory::on_device(device, (phases.size() + 2) * sizeof(uint32_t), "counters of a step"));
    GLIMPSE_TRY(stream_->copy_in(phases_.as<void>(), phases.data(), phases.size() * sizeof(StepPhase)));
    GLIMPSE_TRY(stream_->synchronize());
    DecodeStepArgs args;
    args.phases = phases_.as<StepPhase>();
    args.n_phases = static_cast<int32_t>(phases.size());
    args.arrived = counters_.as<uint32_t>();
    args.epoch = args.arrived + phases.size();
    args.left = reinterpret_cast<int32_t*>(args.epoch + 1);
    args.given_up = &rings().given_up;
    return args;
  }

  Status start(const StepStart& start) override {
    GLIMPSE_TRY(stream_->synchronize());
    begun_ = taken_ = 0;
    rings().given_up = 0;
    if (counters_.size() > 0) GLIMPSE_TRY(stream_->zero(counters_.as<void>(), counters_.size()));
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
    if (const auto phase = static_cast<size_t>(rings().given_up); phase != 0) {
      return make_error(
          ErrorCode::kDevice, "decode_step, phase %d of %d (%s): blocks waited ten seconds for those of phase %d (%s)",
          phase, kernels_.size(), kernel_info(kernels_[phase]).name, phase - 1, kernel_info(kernels_[phase - 1]).name);
    }
    return rings().ids[place];
  }

 private:
  std::shared_ptr<Stream> stream_;
  Memory state_, rings_;
  Memory phases_, counters_;     // of a persistent step
  std::vector<Kernel> kernels_;  // of its phases
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

// The launches of a step as phases of one.
class CudaOps::Phases {
 public:
  Status add(Kernel kernel, const LaunchShape& shape, const void* args) {
    const KernelInfo& info = kernel_info(kernel);
    constexpr size_t room = sizeof(StepPhase) - offsetof(StepPhase, linear);
    if (kernel == Kernel::sample || !waits_for_dependencies(kernel) || info.args_bytes > room) {
      return make_error(ErrorCode::kInternal, "%s is no phase of a step", info.name);
    }
    StepPhase& phase = list_.emplace_back();
    phase.kernel = static_cast<int32_t>(kernel);
    std::copy_n(shape.grid, 3, phase.grid);
    std::memcpy(static_cast<void*>(&phase.linear), args, info.args_bytes);
    int64_t work = shape.grid[0] * shape.grid[1] * shape.grid[2];
    int shared_bytes = shape.shared_bytes;
    if (is_gemv(kernel)) {
      work = 0;
      for (int i = 0; i < phase.linear.n_segments; ++i) work += phase.linear.segment[i].n_pairs;
    }
    if (is_attend_rows(kernel)) shared_bytes = kAttendPartsPerBlock * static_cast<int>(round_up(shared_bytes, 16));
    work_.push_back(work);
    shared_bytes_ = std::max(shared_bytes_, decode_step_shared_bytes(shared_bytes));
    return {};
  }
  int shared_bytes() const { return shared_bytes_; }
  /// The phases for a launch of at most n_blocks blocks.
  const std::vector<StepPhase>& share_out(int n_blocks) {
    for (size_t i = 0; i < list_.size(); ++i) {
      const int64_t rounds = ceil_div(work_[i], n_blocks);  // each block does the same, as far as it goes
      list_[i].n_blocks = static_cast<int32_t>(ceil_div(work_[i], std::max<int64_t>(1, rounds)));
      if (i > 0) list_[i].n_blocks_before = list_[i - 1].n_blocks;
    }
    return list_;
  }
  bool empty() const { return list_.empty(); }

 private:
  std::vector<StepPhase> list_;
  std::vector<int64_t> work_;  // pieces that blocks can take
  int shared_bytes_ = 0;
};

Status CudaOps::add_phase(Kernel kernel, const LaunchShape& shape, const void* args) {
  return phases_->add(kernel, shape, args);
}

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
      ops.phases_ = nullptr;
      ops.step_ = nullptr;
      ops.best_ = nullptr;
      if (recording) (void)ops.stream_->end_recording();
    }
  } ordinary{*this};
  const auto record = [&] {
    step_ = step->state();
    best_ = step->best();
    ranked_.clear();
    body(recorder);
    step_ = nullptr;
    best_ = nullptr;
  };
  DecodeStepArgs persistent;
  LaunchShape shape;
  if (decode_ == CudaDecode::kPersistent) {
    Phases phases;
    status_ = {};
    phases_ = &phases;
    record();
    phases_ = nullptr;
    GLIMPSE_TRY(Status(status_));
    if (!phases.empty()) {
      const int n_blocks = device_->cooperative_blocks(Kernel::decode_step, phases.shared_bytes());
      if (n_blocks == 0) {
        return make_error(
            ErrorCode::kUnsupported,
            "persistent decoding: %s cannot launch blocks that wait for one another with %d bytes of shared "
            "memory each; decode with the graph instead",
            device_->describe(), phases.shared_bytes());
      }
      GLIMPSE_ASSIGN(persistent, step->keep(device_, phases.share_out(n_blocks)));
      // Half of L2 for what is to come; the other half has what is there.
      persistent.prefetch_bytes = static_cast<int32_t>(device_->l2_bytes() / 2 / n_blocks);
      shape = {{n_blocks, 1, 1}, phases.shared_bytes(), true};
    }
  }
  GLIMPSE_TRY(stream_->begin_recording());
  ordinary.recording = true;
  status_ = {};
  if (decode_ == CudaDecode::kGraph) {
    record();
  } else if (persistent.n_phases > 0) {
    launch(Kernel::decode_step, shape, &persistent);
  }
  recorder.launch_draw();
  ordinary.recording = false;
  auto recording = stream_->end_recording();
  GLIMPSE_TRY(Status(status_));
  if (!recording.ok()) return std::move(recording).error();
  step->set_recording(std::move(recording).value());
  return std::unique_ptr<StepProgram>(std::move(step));
}

}  // namespace glimpse::cuda
