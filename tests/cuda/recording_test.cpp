// What is recorded and played again: launches of a stream, the state and the rings of a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/cuda_support.h"

namespace glimpse::testing {
namespace {

using cuda::CudaOps;

// The state of a step as the sampling kernel leaves it, and the rings.
TEST(CudaRecording, StateStaysWhereNothingCanBeDrawn) {
  const auto ops = cuda::host_ops();
  std::vector<float> values = {1, 5, 2, NAN};
  const auto logits = must(ops->allocate(4, "logits"));
  const auto program =
      must(ops->record_step([&](StepRecorder& step) { step.draw(Mat::contiguous(logits->data, 1, 4), {}); }));
  const auto put = [&](float last) {
    values[3] = last;
    EXPECT_OK(ops->run([&] { ops->upload(values.data(), 4, logits->data); }));
  };
  EXPECT_OK(program->start({7, 10, 9}));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    put(bad);
    EXPECT_OK(program->play(0));
    EXPECT_EQ(must(program->take()), -1);
  }
  for (int i = 0; i < 40; ++i) {  // more than the rings hold
    put(i % 2 == 0 ? 9.0f : 0.0f);
    EXPECT_OK(program->play(0));
    EXPECT_EQ(must(program->take()), i % 2 == 0 ? 3 : 1);
  }
  EXPECT_FALSE(program->take().ok());  // none was begun
  for (int64_t i = 0; i < StepProgram::kMostAhead; ++i) EXPECT_OK(program->play(0));
  EXPECT_FALSE(program->play(0).ok());  // too far ahead
}

TEST(CudaRecording, LaunchesModeRecordsNothing) {
  const auto ops = must(CudaOps::create(cuda::test_device({}), 1, CudaDecode::kLaunches));
  EXPECT_FALSE(ops->records_steps());
  EXPECT_EQ(must(ops->record_step([](StepRecorder&) { FAIL() << "nobody records"; })), nullptr);
}

// A stream's recordings: kept until they are played, and again each time.
TEST(CudaRecording, RecordedLaunchesRunWhenTheyArePlayed) {
  const std::shared_ptr<cuda::Device> device = cuda::test_device({});
  const std::unique_ptr<cuda::Stream> stream = must(device->make_stream());
  const cuda::Memory x = must(cuda::Memory::on_device(device, 64 * sizeof(float), "a row"));
  std::vector<float> values(64, 2.0f);
  cuda::SwigluArgs args;  // out = silu(gate) * out; silu(1) = 0.731...
  args.gate = x.as<float>();
  args.out = x.as<float>() + 32;
  args.ld_gate = args.ld_out = 32;
  args.n = 1;
  args.width = 32;
  std::fill_n(values.begin(), 32, 1.0f);
  EXPECT_OK(stream->copy_in(x.as<void>(), values.data(), 64 * sizeof(float)));
  EXPECT_OK(stream->synchronize());
  const auto last = [&] {
    float value = 0;
    EXPECT_OK(stream->copy_out(&value, x.as<float>() + 63, sizeof value));
    EXPECT_OK(stream->synchronize());
    return value;
  };
  EXPECT_OK(stream->begin_recording());
  EXPECT_OK(stream->launch(cuda::Kernel::swiglu_rows, {}, &args));
  EXPECT_OK(stream->launch(cuda::Kernel::swiglu_rows, {}, &args));
  const auto recording = must(stream->end_recording());
  EXPECT_EQ(recording->n_launches(), 2);
  EXPECT_EQ(last(), 2.0f);
  float want = 2.0f;
  for (int i = 0; i < 3; ++i) {
    EXPECT_OK(stream->play(recording));
    EXPECT_OK(stream->mark(i));
    EXPECT_OK(stream->wait_for(i));
    const float silu = 1.0f / (1.0f + std::exp(-1.0f));
    want *= silu * silu;
    EXPECT_NEAR(last(), want, 1e-5);
  }
}

// The host says what a GPU would refuse while it captures.
TEST(CudaRecording, NothingButLaunchesCanBeRecorded) {
  const std::shared_ptr<cuda::Device> device = cuda::make_host_device({});
  const std::unique_ptr<cuda::Stream> stream = must(device->make_stream());
  const cuda::Memory x = must(cuda::Memory::on_device(device, 64, "a row"));
  float value = 0;
  EXPECT_OK(stream->begin_recording());
  EXPECT_FALSE(stream->copy_in(x.as<void>(), &value, sizeof value).ok());
  EXPECT_FALSE(stream->copy_out(&value, x.as<void>(), sizeof value).ok());
  EXPECT_FALSE(stream->zero(x.as<void>(), 4).ok());
  EXPECT_FALSE(stream->synchronize().ok());
  EXPECT_FALSE(stream->begin_recording().ok());
  EXPECT_EQ(must(stream->end_recording())->n_launches(), 0);
  EXPECT_OK(stream->synchronize());

  // So an operation that looks at its results ends the recording with an error, and the context goes on.
  const auto ops = must(CudaOps::create(device, 1));
  const auto row = must(ops->allocate(64, "a row"));
  const auto program =
      ops->record_step([&](StepRecorder&) { (void)ops->all_finite(Mat::contiguous(row->data, 1, 64)); });
  ASSERT_FALSE(program.ok());
  EXPECT_OK(ops->run([&] { EXPECT_TRUE(ops->all_finite(Mat::contiguous(row->data, 1, 64))); }));
}

}  // namespace
}  // namespace glimpse::testing
