// Recorded decode steps against the same pass launch by launch: bits of the cache and the logits, tokens drawn, whole
// conversations.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/generate/sampler.h"
#include "tests/cuda/cuda_support.h"
#include "tests/engine/model_editor.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

using cuda::CudaOps;
using cuda::HostDeviceOptions;

std::shared_ptr<const Model> load_on(const std::string& path, const std::string& mmproj, CudaDecode decode,
                                     const HostDeviceOptions& device_options = {}) {
  ModelOptions options;
  options.model_path = path;
  options.mmproj_path = mmproj;
  options.n_threads = 1;
  const std::shared_ptr<cuda::Device> device = cuda::test_device(device_options);
  options.ops_factory = [=](int n_threads) -> Result<std::unique_ptr<Ops>> {
    GLIMPSE_ASSIGN(std::unique_ptr<CudaOps> ops, CudaOps::create(device, n_threads, decode));
    return std::unique_ptr<Ops>(std::move(ops));
  };
  return must(Model::load(options));
}

std::vector<MropePosition> text_positions(int64_t first, size_t n) {
  std::vector<MropePosition> positions;
  for (size_t i = 0; i < n; ++i) {
    const auto p = static_cast<int32_t>(first) + static_cast<int32_t>(i);
    positions.push_back({p, p, p});
  }
  return positions;
}

TokenId best(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// A decoder that has read a few tokens, on ops of its own.
struct Reader {
  std::unique_ptr<Ops> ops;
  std::unique_ptr<TextDecoder> decoder;
  Reader(const std::shared_ptr<const Model>& model, int64_t context, KvElement kv)
      : ops(must(model->make_ops(1))), decoder(must(TextDecoder::create(model, *ops, context, 64, kv))) {}
  void read(const std::vector<TokenId>& ids) {
    EXPECT_OK(decoder->forward({ids, text_positions(decoder->n_past(), ids.size()), {}}, {}, false, {}, {}));
  }
  std::vector<float> forward(TokenId id, int64_t vocab) {
    std::vector<float> logits(static_cast<size_t>(vocab));
    const auto positions = text_positions(decoder->n_past(), 1);
    EXPECT_OK(decoder->forward({std::span(&id, 1), positions, {}}, logits, false, {}, {}));
    return logits;
  }
  std::optional<TokenId> step(TokenId id, const DrawOptions& draw, const std::vector<float>& uniform) {
    return must(decoder->step(id, text_positions(decoder->n_past(), 1)[0], draw, uniform));
  }
};

// Every way of a product (float, half, quantised; heads that are whole tiles and that are not; fused and unfused
// SwiGLU) is in one of the three models. 128 keys are a chunk of attention: the steps cross its border.
TEST(CudaStep, GreedyTokensAndLogitsAreThoseOfLaunches) {
  struct Case {
    const char* folder;
    KvElement kv;
    cuda::host::Order order;
  };
  for (const Case& c : {Case{"tied", KvElement::kF16, cuda::host::Order::kRandom},
                        Case{"tied", KvElement::kF32, cuda::host::Order::kReverse},
                        Case{"untied", KvElement::kBf16, cuda::host::Order::kForward},
                        Case{"quantized", KvElement::kF16, cuda::host::Order::kReverse}}) {
    SCOPED_TRACE(std::string(c.folder) + ", cache of " + kv_element_name(c.kv));
    const std::string path = golden_path(c.folder + std::string("/model.gguf"));
    const auto model = load_on(path, "", CudaDecode::kGraph, {.order = c.order});
    const int64_t vocab = model->text().vocab_size;
    Reader steps(model, 256, c.kv), launches(model, 256, c.kv);
    std::vector<TokenId> prompt;
    for (TokenId id = 0; id < 124; ++id) prompt.push_back(id * 7 % 200);
    steps.read(prompt);
    launches.read(prompt);
    TokenId token = 3;
    for (int i = 0; i < 8; ++i) {
      const TokenId want = best(launches.forward(token, vocab));
      const auto got = steps.step(token, {}, {0, 0, 0});
      ASSERT_TRUE(got.has_value());
      ASSERT_EQ(*got, want) << "step " << i;
      token = want;
    }
    EXPECT_EQ(steps.decoder->n_past(), launches.decoder->n_past());
    // All slots that the steps filled are in these logits.
    EXPECT_EQ(steps.forward(token, vocab), launches.forward(token, vocab));
  }
}

TEST(CudaStep, LogitsOfTheLastSlotAreComputedAgainToTheSameBits) {
  const auto model = load_on(golden_path("quantized/model.gguf"), "", CudaDecode::kGraph);
  const int64_t vocab = model->text().vocab_size;
  Reader steps(model, 64, KvElement::kF16), launches(model, 64, KvElement::kF16);
  steps.read({1, 2, 3});
  launches.read({1, 2, 3});
  const std::vector<float> want = launches.forward(9, vocab);
  ASSERT_EQ(steps.step(9, {}, {0, 0, 0}), best(want));
  std::vector<float> got(want.size());
  EXPECT_OK(steps.decoder->last_logits(9, text_positions(3, 1)[0], got));
  EXPECT_EQ(got, want);
  EXPECT_EQ(steps.decoder->n_past(), 4);
  // And what follows is not disturbed by the steps that were ahead.
  const std::vector<float> next = launches.forward(best(want), vocab);
  EXPECT_EQ(steps.step(best(want), {}, {0, 0, 0}), best(next));
}

TEST(CudaStep, DrawsAreThoseOfTheSamplingKernelOnTheSameLogits) {
  const auto model = load_on(golden_path("tied/model.gguf"), "", CudaDecode::kGraph);
  const int64_t vocab = model->text().vocab_size;
  for (const DrawOptions draw :
       {DrawOptions{.temperature = 1}, DrawOptions{.temperature = 2, .top_k = 20, .top_p = 0.9f, .min_p = 0.01f}}) {
    Reader steps(model, 64, KvElement::kF16), launches(model, 64, KvElement::kF16);
    steps.read({1, 2, 3});
    launches.read({1, 2, 3});
    auto& ops = static_cast<CudaOps&>(*launches.ops);
    std::vector<float> luck;
    for (int i = 0; i < 22; ++i) luck.push_back(static_cast<float>(i * 7 % 22) / 22);
    TokenId token = 9;
    for (size_t i = 0; i < 20; ++i) {
      const auto logits = cuda::buffer(ops, launches.forward(token, vocab));
      int32_t want = -2;
      EXPECT_OK(ops.run([&] {
        ops.sample(Mat::contiguous(logits->data, 1, vocab), draw, std::span(&luck[i], 1), std::span(&want, 1));
      }));
      ASSERT_EQ(steps.step(token, draw,
                           {luck.begin() + static_cast<ptrdiff_t>(i), luck.begin() + static_cast<ptrdiff_t>(i) + 3}),
                want);
      token = want;
    }
  }
}

TEST(CudaStep, RowThatIsNotFiniteIsLeftToForwardWhichHasTheError) {
  ModelEditor editor("quantized/model.gguf");
  editor.scale("output_norm.weight", 1e38f);
  const auto model = load_on(editor.write(), "", CudaDecode::kGraph);
  Reader reader(model, 64, KvElement::kF16);
  reader.read({1, 2, 3});
  EXPECT_EQ(reader.step(9, {}, {0, 0, 0}), std::nullopt);
  EXPECT_EQ(reader.decoder->n_past(), 3);
  std::vector<float> logits(static_cast<size_t>(model->text().vocab_size));
  const TokenId id = 9;
  const Status status = reader.decoder->forward({std::span(&id, 1), text_positions(3, 1), {}}, logits, false, {}, {});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kNumeric);
}

TEST(CudaStep, WrongInputIsRefusedAndWhatAStepCannotDoIsLeftToForward) {
  const auto model = load_on(golden_path("tied/model.gguf"), "", CudaDecode::kGraph);
  Reader reader(model, 4, KvElement::kF16);
  const std::vector<float> luck = {0};
  const auto refused = [&](TokenId id, const MropePosition& position) {
    const auto result = reader.decoder->step(id, position, {}, luck);
    return result.ok() ? ErrorCode::kInternal : result.error().code;
  };
  EXPECT_EQ(refused(static_cast<TokenId>(model->text().vocab_size), {0, 0, 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(-1, {0, 0, 0}), ErrorCode::kInvalidArgument);  // an embedding without its values
  for (const MropePosition& position :
       {MropePosition{0, 1, 0}, {-1, -1, -1}, {4, 4, 4}, {INT32_MAX, INT32_MAX, INT32_MAX}}) {
    EXPECT_EQ(must(reader.decoder->step(1, position, {}, luck)), std::nullopt);
  }
  EXPECT_EQ(must(reader.decoder->step(1, {0, 0, 0}, {}, {})), std::nullopt);
  EXPECT_EQ(reader.decoder->n_past(), 0);
  EXPECT_FALSE(reader.decoder->last_logits(1, {0, 0, 0}, {}).ok());  // there is no last slot
  reader.read({1, 2, 3, 4});
  EXPECT_EQ(refused(1, {4, 4, 4}), ErrorCode::kContextFull);
}

// The state of a step as the sampling kernel leaves it, and the rings.
TEST(CudaStep, StateStaysWhereNothingCanBeDrawn) {
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

TEST(CudaStep, LaunchesModeRecordsNothing) {
  const auto ops = must(CudaOps::create(cuda::test_device({}), 1, CudaDecode::kLaunches));
  EXPECT_FALSE(ops->records_steps());
  EXPECT_EQ(must(ops->record_step([](StepRecorder&) { FAIL() << "nobody records"; })), nullptr);
}

// A stream's recordings: kept until they are played, and again each time.
TEST(CudaStep, RecordedLaunchesRunWhenTheyArePlayed) {
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
TEST(CudaStep, NothingButLaunchesCanBeRecorded) {
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

// -- conversations
// -----------------------------------------------------------------------------------------------------

// All that a caller sees.
struct Seen {
  bool ok = false;
  std::string text;
  std::vector<TokenId> tokens;
  FinishReason reason = FinishReason::kStop;
  int64_t n_past = 0, n_generated = 0;
  std::vector<float> logits;
  bool operator==(const Seen&) const = default;
};

class Conversations : public ::testing::Test {
 protected:
  static std::shared_ptr<const Model> model(CudaDecode decode) {
    return load_on(golden_path("tied/model.gguf"), golden_path("tied/mmproj.gguf"), decode);
  }
  Seen look(Session& session, const Result<Answer>& answer) {
    Seen seen;
    seen.ok = answer.ok();
    if (answer.ok()) {
      seen.text = answer->text;
      seen.tokens = answer->tokens;
      seen.reason = answer->reason;
      seen.n_generated = answer->timings.n_generated_tokens;
    }
    seen.n_past = session.n_past();
    if (with_logits_) seen.logits = logits_of(session);
    return seen;
  }
  // The same calls on both.
  std::vector<Seen> talk(CudaDecode decode, const std::function<std::vector<Seen>(Session&)>& calls, int64_t context) {
    SessionOptions options = small_session(context);
    options.kv_element = KvElement::kF16;
    const auto session = make_session(model(decode), options);
    return calls(*session);
  }
  void expect_equal(const std::function<std::vector<Seen>(Session&)>& calls, int64_t context = 256) {
    for (const bool with_logits : {false, true}) {
      with_logits_ = with_logits;
      const auto graph = talk(CudaDecode::kGraph, calls, context);
      const auto launches = talk(CudaDecode::kLaunches, calls, context);
      ASSERT_EQ(graph.size(), launches.size());
      for (size_t i = 0; i < graph.size(); ++i) {
        EXPECT_EQ(graph[i].tokens, launches[i].tokens) << "call " << i;
        EXPECT_TRUE(graph[i] == launches[i]) << "call " << i;
      }
    }
  }
  bool with_logits_ = false;
};

TEST_F(Conversations, WithPicturesOverSeveralTurnsAreThoseOfLaunches) {
  expect_equal([&](Session& s) {
    std::vector<Seen> seen;
    seen.push_back(look(s, s.generate(first_messages(s), greedy(12))));
    seen.push_back(look(s, s.generate({}, greedy(5))));  // goes on
    seen.push_back(look(s, s.generate({user("and this?")}, greedy(7))));
    s.reset();
    seen.push_back(look(s, s.generate({user("what is 7?")}, greedy(4))));
    return seen;
  });
}

TEST_F(Conversations, StopStringsCancelsAndFullContextsAreThoseOfLaunches) {
  expect_equal(
      [&](Session& s) {
        std::vector<Seen> seen;
        GenerateOptions options = greedy(10);
        const Result<Answer> whole = s.generate({user("what is 7?")}, options);
        seen.push_back(look(s, whole));
        s.reset();
        if (whole.ok() && whole->text.size() > 6) options.stop = {whole->text.substr(4, 2)};
        seen.push_back(look(s, s.generate({user("what is 7?")}, options)));
        seen.push_back(look(s, s.generate({}, greedy(3))));
        s.reset();
        options.stop.clear();
        int pieces = 0;
        options.on_text = [&](std::string_view) { return ++pieces < 3; };
        seen.push_back(look(s, s.generate({user("what is 7?")}, options)));
        seen.push_back(look(s, s.generate({}, greedy(3))));
        seen.push_back(look(s, s.generate({user("more")}, greedy(-1))));  // until the context is full
        return seen;
      },
      48);
}

TEST_F(Conversations, PenaltiesBiasAndAlternativesAreTheHosts) {
  expect_equal([&](Session& s) {
    std::vector<Seen> seen;
    GenerateOptions penalized = greedy(8), biased = greedy(8), looked_at = greedy(8);
    penalized.sampler.repetition_penalty = 1.3f;
    penalized.sampler.temperature = 1;
    biased.sampler.logit_bias = {{5, 3.0f}};
    biased.sampler.temperature = 1;
    looked_at.n_top_logprobs = 2;
    for (const GenerateOptions& options : {penalized, biased, looked_at}) {
      s.reset();
      seen.push_back(look(s, s.generate({user("what is 7?")}, options)));
    }
    return seen;
  });
}

TEST_F(Conversations, DrawnOnTheDeviceRepeatWithTheirSeed) {
  const auto answer = [&](uint64_t seed, int64_t n_first) {
    const auto session = make_session(model(CudaDecode::kGraph), small_session());
    GenerateOptions options = greedy(n_first);
    options.sampler.temperature = 1;
    options.sampler.top_p = 0.95f;
    options.sampler.seed = seed;
    return must(session->generate({user("what is 7?")}, options)).tokens;
  };
  const std::vector<TokenId> once = answer(1, 24), again = answer(1, 24), other = answer(2, 24);
  EXPECT_EQ(once, again);
  EXPECT_NE(once, other);
  // Steps that were begun ahead do not change what is drawn.
  const std::vector<TokenId> shorter = answer(1, 9);
  EXPECT_EQ(shorter, std::vector<TokenId>(once.begin(), once.begin() + 9));
}

// Whose steps are looked at one by one gets the logits of each.
TEST_F(Conversations, EveryStepHasItsLogits) {
  const auto logits_of_steps = [&](CudaDecode decode) {
    const auto session = make_session(model(decode), small_session());
    EXPECT_OK(session->prefill({user("what is 7?")}, {}));
    EXPECT_OK(session->begin_answer(greedy(6)));
    std::vector<std::vector<float>> all;
    for (bool finished = false; !finished;) {
      finished = must(session->step()).finished;
      all.push_back(logits_of(*session));
    }
    return all;
  };
  EXPECT_EQ(logits_of_steps(CudaDecode::kGraph), logits_of_steps(CudaDecode::kLaunches));
}

}  // namespace
}  // namespace glimpse::testing
