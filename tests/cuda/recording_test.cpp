// What is recorded and played again: launches of a stream, the state and the rings of a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/runtime/cuda/weights_ahead.h"
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
      must(ops->record_step(1, [&](StepOps& step) { step.draw(0, Mat::contiguous(logits->data, 1, 4), {}); }));
  const float luck = 0;
  const auto play = [&] { return program->play(std::span(&luck, 1)); };
  const auto take = [&]() -> Result<int32_t> {
    int32_t token = 0;
    GLIMPSE_TRY(program->take(std::span(&token, 1)));
    return token;
  };
  const auto put = [&](float last) {
    values[3] = last;
    EXPECT_OK(ops->run([&] { ops->upload(values.data(), 4, logits->data); }));
  };
  const StepStart start{7, 10, 9};
  EXPECT_OK(program->start(std::span(&start, 1)));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    put(bad);
    EXPECT_OK(play());
    EXPECT_EQ(must(take()), -1);
  }
  for (int i = 0; i < 40; ++i) {  // more than the rings hold
    put(i % 2 == 0 ? 9.0f : 0.0f);
    EXPECT_OK(play());
    EXPECT_EQ(must(take()), i % 2 == 0 ? 3 : 1);
  }
  EXPECT_FALSE(take().ok());  // none was begun
  for (int64_t i = 0; i < StepProgram::kMostAhead; ++i) EXPECT_OK(play());
  EXPECT_FALSE(play().ok());  // too far ahead
}

TEST(CudaRecording, LaunchesModeRecordsNothing) {
  const auto ops = must(CudaOps::create(cuda::test_device({}), 1, CudaDecode::kLaunches));
  EXPECT_FALSE(ops->records_steps());
  EXPECT_EQ(must(ops->record_step(1, [](StepOps&) { FAIL() << "nobody records"; })), nullptr);
}

// Rows of a step have states and rings of their own; one that is not finite holds back no other.
TEST(CudaRecording, RowsOfAStepAreDrawnEachForItself) {
  const auto ops = cuda::host_ops();
  constexpr int64_t kRows = 5, kVocab = 8;
  const auto logits = must(ops->allocate(kRows * kVocab, "logits"));
  const auto program = must(ops->record_step(kRows, [&](StepOps& step) {
    const Mat all = Mat::contiguous(logits->data, kRows, kVocab);
    step.draw(3, all.slice(3, 2), {.temperature = 1});  // in any order
    step.draw(0, all.slice(0, 3), {});
  }));
  EXPECT_EQ(must(ops->record_step(CudaOps::kFewRows + 1, [](StepOps&) { FAIL() << "too many"; })), nullptr);
  std::vector<StepStart> from(kRows);
  EXPECT_OK(program->start(from));
  std::vector<int32_t> tokens(kRows);
  for (int step = 0; step < 20; ++step) {
    std::vector<float> values(kRows * kVocab, 0.0f);
    std::vector<int32_t> want(kRows);
    for (int64_t row = 0; row < kRows; ++row) {
      want[static_cast<size_t>(row)] = static_cast<int32_t>((row * 3 + step) % kVocab);
      values[static_cast<size_t>(row * kVocab + want[static_cast<size_t>(row)])] = 100;  // nothing else can be drawn
    }
    if (step == 7) values[1 * kVocab] = NAN, want[1] = -1;
    EXPECT_OK(ops->run([&] { ops->upload(values.data(), kRows * kVocab, logits->data); }));
    EXPECT_OK(program->play(std::vector<float>(kRows, 0.5f)));
    EXPECT_OK(program->take(tokens));
    EXPECT_EQ(tokens, want) << "step " << step;
  }
}

// A stream's recordings: kept until they are played, and again each time.
TEST(CudaRecording, RecordedLaunchesRunWhenTheyArePlayed) {
  const std::shared_ptr<cuda::Device> device = cuda::test_device({});
  const std::unique_ptr<cuda::Stream> stream = must(device->make_stream());
  const cuda::Memory x = must(cuda::Memory::on_device(device, 64 * sizeof(float), "a row"));
  std::vector<float> values(64, 2.0f);
  cuda::IntoRowsArgs args;  // to = silu(from) * to; silu(1) = 0.731...
  args.from = x.as<float>();
  args.to = x.as<float>() + 32;
  args.ld_from = args.ld_to = 32;
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
  const auto recorder = must(stream->record());
  EXPECT_OK(recorder->launch(cuda::Kernel::swiglu_rows, {}, &args));
  EXPECT_OK(recorder->launch(cuda::Kernel::swiglu_rows, {}, &args));
  const auto recording = must(recorder->finish());
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

// A product of one column that multiplies with matrices of `rows` rows at `data`, or with experts.
cuda::LinearArgs product_of(int64_t rows, const uint8_t* data, cuda::Output output, bool experts = false) {
  static const cuda::ColumnGroup group;
  cuda::LinearArgs args;
  args.n = args.n_segments = 1;
  args.segment[0].output = output;
  for (cuda::WeightView& w : args.segment[0].w) {
    cuda::lay_out(DType::kQ4_K, rows, 1536, w);
    w.data = data;
    data += 1 << 24;
  }
  if (experts) args.experts.groups = &group;
  return args;
}

// Launches keep their order; a product is told of the next one's matrices, if there are not too many bytes and the host
// knows which, and that one that somebody has asked for them.
TEST(CudaRecording, ProductsAskForTheWeightsOfTheNext) {
  using cuda::Kernel;
  using cuda::LinearArgs;
  using cuda::Output;
  struct Kept final : cuda::Launcher {
    std::vector<std::pair<Kernel, LinearArgs>> launches;
    Status launch(Kernel kernel, const cuda::LaunchShape& shape, const void* args) override {
      EXPECT_EQ(shape.grid[0], static_cast<int64_t>(launches.size()));
      LinearArgs product;
      if (cuda::formats_of_gemv(kernel)) std::memcpy(&product, args, sizeof product);
      launches.emplace_back(kernel, product);
      return {};
    }
  } kept;
  const Kernel one = cuda::gemv_kernel(DType::kQ4_K, 1), several = cuda::gemv_kernel(DType::kQ4_K, 4);
  const auto at = [](uintptr_t address) { return reinterpret_cast<const uint8_t*>(address << 32); };
  const LinearArgs qkv = product_of(2048, at(1), Output::kStore), gate = product_of(8960, at(2), Output::kSwiglu),
                   head = product_of(151936, at(3), Output::kStore),
                   experts = product_of(768, at(4), Output::kStore, true), last = product_of(64, at(5), Output::kAdd);
  LinearArgs mixed = product_of(1792, at(6), Output::kStore);  // Q and K, and V in another format
  mixed.n_segments = 2;
  mixed.n_first = 1;
  cuda::lay_out(DType::kQ6_K, 256, 1536, mixed.segment[1].w[0]);
  mixed.segment[1].w[0].data = at(7);
  const cuda::AttentionArgs attention;
  cuda::WeightsAhead ahead(kept);
  const std::pair<Kernel, const void*> launches[] = {{Kernel::attend_rows_f16_1, &attention},
                                                     {one, &qkv},
                                                     {Kernel::attend_rows_f16_1, &attention},
                                                     {several, &last},
                                                     {one, &gate},
                                                     {one, &head},
                                                     {one, &experts},
                                                     {Kernel::attend_rows_f16_1, &attention},
                                                     {one, &last},
                                                     {cuda::gemv_kernel(DType::kQ4_K, DType::kQ6_K), &mixed}};
  for (size_t i = 0; i < std::size(launches); ++i) {
    EXPECT_OK(ahead.launch(launches[i].first, {{static_cast<int64_t>(i), 1, 1}, 0}, launches[i].second));
  }
  EXPECT_OK(ahead.finish());
  ASSERT_EQ(kept.launches.size(), std::size(launches));
  for (size_t i = 0; i < std::size(launches); ++i) EXPECT_EQ(kept.launches[i].first, launches[i].first) << i;
  const auto asks_for = [&](size_t i) {
    std::vector<std::pair<const uint8_t*, int64_t>> out;
    for (const cuda::AheadView& view : kept.launches[i].second.ahead) {
      if (view.n_bytes > 0) out.emplace_back(view.data, view.n_bytes);
    }
    return out;
  };
  using Asked = std::vector<std::pair<const uint8_t*, int64_t>>;
  constexpr int64_t kRow = 1536 / 256 * 144;
  EXPECT_EQ(asks_for(1), (Asked{{at(2), 8960 * kRow}, {at(2) + (1 << 24), 8960 * kRow}}));
  EXPECT_EQ(asks_for(4), Asked()) << "the head is too large";
  EXPECT_EQ(asks_for(5), Asked()) << "nobody knows the experts";
  EXPECT_EQ(asks_for(6), (Asked{{at(5), 64 * kRow}}));
  EXPECT_EQ(asks_for(8), (Asked{{at(6), 1792 * kRow}, {at(7), 256 * (1536 / 256 * 210)}}));
  EXPECT_EQ(asks_for(9), Asked()) << "it is the last";
  const int32_t asked[] = {0, 0, 0, 0, 1, 0, 0, 0, 1, 1};
  for (size_t i = 0; i < std::size(asked); ++i) EXPECT_EQ(kept.launches[i].second.asked, asked[i]) << i;
}

// An error comes out where it belongs, and what follows it is not launched.
TEST(CudaRecording, HeldLaunchesReportErrors) {
  struct Broken final : cuda::Launcher {
    int n = 0;
    Status launch(cuda::Kernel, const cuda::LaunchShape&, const void*) override {
      ++n;
      return make_error(ErrorCode::kDevice, "no");
    }
  } broken;
  cuda::WeightsAhead ahead(broken);
  const cuda::LinearArgs product = product_of(64, nullptr, cuda::Output::kAdd);
  const cuda::Kernel one = cuda::gemv_kernel(DType::kQ4_K, 1);
  EXPECT_OK(ahead.launch(one, {}, &product));
  EXPECT_FALSE(ahead.launch(one, {}, &product).ok());
  EXPECT_EQ(broken.n, 1);
}

// A launch that may begin early finds nothing of those ahead of it: a product reads its bias before it waits, so it
// must not be what another launch of the recording has made.
TEST(CudaRecording, WhatIsReadTooEarlyIsNotThere) {
  for (const bool early : {false, true}) {
    const std::shared_ptr<cuda::Device> device = cuda::make_host_device({.early = early});
    const std::unique_ptr<cuda::Stream> stream = must(device->make_stream());
    cuda::LinearArgs product;  // of weights that are zero
    cuda::Segment& s = product.segment[0];
    const uint64_t n_bytes = cuda::lay_out(DType::kF32, 8, 128, s.w[0]);
    const cuda::Memory weights = must(cuda::Memory::on_device(device, n_bytes, "weights")),
                       floats = must(cuda::Memory::on_device(device, 256 * sizeof(float), "floats"));
    const std::vector<float> ones(256, 1.0f);
    EXPECT_OK(stream->copy_in(floats.as<void>(), ones.data(), 256 * sizeof(float)));
    cuda::IntoRowsArgs bias;  // silu(1)
    bias.from = floats.as<float>();
    bias.to = floats.as<float>() + 8;
    bias.n = 1;
    bias.width = 8;
    s.w[0].data = weights.as<uint8_t>();
    s.bias[0] = bias.to;
    s.n_pairs = cuda::count_pairs(s);
    s.out = floats.as<float>() + 16;
    product.n_segments = product.n = 1;
    product.k = 128;
    product.x = floats.as<float>() + 128;
    const auto recorder = must(stream->record());
    EXPECT_OK(recorder->launch(cuda::Kernel::swiglu_rows, {}, &bias));
    EXPECT_OK(recorder->launch(cuda::gemv_kernel(DType::kF32, 1),
                               {{1, 1, 1}, cuda::gemv_shared_bytes(DType::kF32, 1, 1)}, &product));
    EXPECT_OK(stream->play(must(recorder->finish())));
    float got[32];
    EXPECT_OK(stream->copy_out(got, floats.as<void>(), sizeof got));
    EXPECT_NEAR(got[8], 1.0f / (1.0f + std::exp(-1.0f)), 1e-6) << "what the first launch wrote is there again";
    EXPECT_EQ(std::isnan(got[16]), early) << got[16];
  }
}

// The context goes on while a step is recorded: nothing of that is in the recording.
TEST(CudaRecording, WhatTheContextDoesMeanwhileIsNotRecorded) {
  const auto ops = cuda::host_ops();
  const auto x = must(ops->allocate(64, "a row")), y = must(ops->allocate(64, "a row"));
  const Mat to = Mat::contiguous(x->data, 1, 64), from = Mat::contiguous(y->data, 1, 64);
  std::vector<float> values(64, 1.0f);
  EXPECT_OK(ops->run([&] { ops->upload(values.data(), 64, y->data); }));
  const auto program = must(ops->record_step(1, [&](StepOps& step) {
    step.add(from, to);
    EXPECT_TRUE(ops->all_finite(to));
    EXPECT_OK(ops->reserve(64, 4096));
  }));
  const auto first = [&] {
    EXPECT_OK(ops->run([&] { ops->download(x->data, 64, values.data()); }));
    return values[0];
  };
  EXPECT_EQ(first(), 0.0f);
  const StepStart start;
  EXPECT_OK(program->start(std::span(&start, 1)));
  const float luck = 0;
  for (int i = 1; i < 4; ++i) {
    EXPECT_OK(program->play(std::span(&luck, 1)));
    EXPECT_EQ(first(), static_cast<float>(i));
  }
}

}  // namespace
}  // namespace glimpse::testing
