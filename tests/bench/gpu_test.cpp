// Models on a GPU, which here is the host executor: what is reported of them, steps as sessions take them, waiting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/engine/report.h"
#include "bench/engine/synthetic_picture.h"
#include "tests/cuda/cuda_support.h"
#include "tests/engine/session_support.h"

namespace glimpse::bench {
namespace {

using glimpse::testing::must;
using ::testing::HasSubstr;

// The host executor, counting how often somebody waits for it.
class CountingStream final : public cuda::Stream {
 public:
  CountingStream(std::unique_ptr<cuda::Stream> inner, int& waits) : inner_(std::move(inner)), waits_(waits) {}
  Status launch(cuda::Kernel kernel, const cuda::LaunchShape& shape, const void* args) override {
    return inner_->launch(kernel, shape, args);
  }
  Status copy_in(void* device, const void* host, uint64_t n) override { return inner_->copy_in(device, host, n); }
  Status copy_out(void* host, const void* device, uint64_t n) override { return inner_->copy_out(host, device, n); }
  Status copy(void* to, const void* from, uint64_t n) override { return inner_->copy(to, from, n); }
  Status zero(void* device, uint64_t n) override { return inner_->zero(device, n); }
  Status synchronize() override {
    ++waits_;
    return inner_->synchronize();
  }
  Result<std::unique_ptr<cuda::LaunchRecorder>> record() override { return inner_->record(); }
  Status play(const std::shared_ptr<const cuda::Recording>& recording) override { return inner_->play(recording); }
  Status mark(int number) override { return inner_->mark(number); }
  Status wait_for(int number) override { return inner_->wait_for(number); }

 private:
  std::unique_ptr<cuda::Stream> inner_;
  int& waits_;
};

class CountingDevice final : public cuda::ForwardingDevice {
 public:
  int waits = 0;

  CountingDevice() : ForwardingDevice(cuda::make_host_device({})) {}
  Result<std::unique_ptr<cuda::Stream>> make_stream() override {
    GLIMPSE_ASSIGN(auto stream, ForwardingDevice::make_stream());
    return std::unique_ptr<cuda::Stream>(new CountingStream(std::move(stream), waits));
  }
};

std::shared_ptr<const Model> model_on(const std::shared_ptr<cuda::Device>& device, CudaDecode decode) {
  ModelOptions options;
  options.model_path = glimpse::testing::golden_path("tied/model.gguf");
  options.mmproj_path = glimpse::testing::golden_path("tied/mmproj.gguf");
  options.n_threads = 1;
  options.device = DeviceKind::kCuda;
  options.ops_factory = [device, decode](int n_threads) -> Result<std::unique_ptr<Ops>> {
    GLIMPSE_ASSIGN(std::unique_ptr<cuda::CudaOps> ops, cuda::CudaOps::create(device, n_threads, decode));
    return std::unique_ptr<Ops>(std::move(ops));
  };
  return must(Model::load(options));
}

RunnerOptions once() {
  RunnerOptions options;
  options.repetitions = 1;
  options.warm_up = false;
  options.batch = 64;
  options.image_limits = {784, 784 * 16};
  options.gpu_roofline = [] { return gpu_roofline({100, 200, 3, 4, 5, ""}); };
  return options;
}

TestSpec tokens(int64_t n_prompt, int64_t n_gen) {
  TestSpec test;
  test.n_prompt = n_prompt;
  test.n_gen = n_gen;
  return test;
}

TEST(BenchOnGpu, RowsNameTheGpuAndItsRoofline) {
  const auto model = model_on(cuda::make_host_device({}), CudaDecode::kGraph);
  Runner runner(model, once());
  const TestResult result = must(runner.run(tokens(10, 0), 1));
  EXPECT_EQ("cuda " + result.gpu, must(model->make_ops(1))->describe());
  EXPECT_EQ(result.roofline.bytes_per_second, 200e9);
  EXPECT_EQ(result.roofline.gpu_flop_per_second, 4e12);
  EXPECT_EQ(result.roofline.n_threads, 0);  // nothing of the CPU's
  EXPECT_GE(result.cost.floor_seconds, std::max(result.cost.bytes / 200e9, result.cost.flop / 4e12));
}

TEST(BenchOnGpu, FailedProbeCostsThePercentagesAlone) {
  RunnerOptions options = once();
  options.gpu_roofline = [] { return gpu_roofline({-1, -1, -1, -1, -1, "out of memory"}); };
  Runner runner(model_on(cuda::make_host_device({}), CudaDecode::kGraph), options);
  const TestResult result = must(runner.run(tokens(10, 0), 1));
  EXPECT_FALSE(result.roofline.measured());
  EXPECT_THAT(result.no_roofline, HasSubstr("out of memory"));
  EXPECT_EQ(result.samples.size(), 1u);
  EXPECT_GT(result.cost.bytes, 0);
  EXPECT_EQ(result.cost.floor_seconds, 0);
}

// Steps and passes draw the same tokens; steps are played where the decode is recorded, and nowhere else.
TEST(BenchOnGpu, TurnsAndTokensDecodeAsSessionsDo) {
  std::vector<std::vector<TokenId>> drawn;
  std::vector<int> waits;
  for (const CudaDecode decode : {CudaDecode::kGraph, CudaDecode::kLaunches}) {
    const auto device = std::make_shared<CountingDevice>();
    EngineOptions options;
    options.kv_element = KvElement::kF32;
    const auto engine = must(Engine::create(model_on(device, decode), options));
    EXPECT_OK(engine->make_decoder(64));
    Timeline timeline;
    drawn.push_back(must(engine->run_turn({{}, "what is 7?", 9}, timeline)));
    EXPECT_OK(engine->make_decoder(64));
    EXPECT_OK(engine->run_tokens(std::vector<TokenId>{5}, timeline));  // records
    const int before = device->waits;
    EXPECT_OK(engine->run_tokens(std::vector<TokenId>{5, 6, 7, 8, 9}, timeline));
    waits.push_back(device->waits - before);
  }
  EXPECT_EQ(drawn[0].size(), 9u);
  EXPECT_EQ(drawn[0], drawn[1]);
  EXPECT_GE(waits[1], 5);  // of passes, once each at least; steps wait for marks
  EXPECT_LT(waits[0], 5);
}

TEST(BenchOnGpu, ProfilesWaitForEveryOperationOthersForBorders) {
  const auto device = std::make_shared<CountingDevice>();
  const auto model = model_on(device, CudaDecode::kGraph);
  EngineOptions options;
  options.image_limits = {784, 784 * 16};
  options.profile_text = true;
  const auto engine = must(Engine::create(model, options));
  const std::vector<std::byte> picture = must(synthetic_jpeg(90, 120));
  EXPECT_OK(engine->make_encoder(must(engine->image_cost(90, 120)).grid.n_patches()));
  Timeline timeline;
  int before = device->waits;
  must(engine->encode(picture, timeline));
  const int plain = device->waits - before;
  std::vector<OpRecord> records;
  engine->record_to(&records);
  before = device->waits;
  must(engine->encode(picture, timeline));
  const int recorded = device->waits - before;
  EXPECT_EQ(recorded - plain, 2 * (static_cast<int>(records.size()) - 2));  // before and after all but the borders
  ASSERT_GT(records.size(), 10u);
  for (size_t i = 1; i < records.size(); ++i) EXPECT_LE(records[i - 1].end, records[i].start);

  // While operations are recorded tokens go pass by pass, so that there is something to record.
  records.clear();
  EXPECT_OK(engine->make_decoder(64));
  EXPECT_OK(engine->run_tokens(std::vector<TokenId>{5, 6}, timeline));
  const auto attentions = [&] {
    return std::count_if(records.begin(), records.end(),
                         [](const OpRecord& record) { return record.kind == OpKind::kAttention; });
  };
  EXPECT_EQ(attentions(), 2 * model->text().num_hidden_layers);
  records.clear();
  engine->record_to(nullptr);
  EXPECT_OK(engine->run_tokens(std::vector<TokenId>{5, 6}, timeline));
  EXPECT_EQ(records.size(), 0u);
}

}  // namespace
}  // namespace glimpse::bench
