// Whole tests on the golden model: what is repeated, counted, recorded, and that it is what a session does.
#include "bench/engine/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bench/engine/report.h"
#include "bench/engine/synthetic_picture.h"
#include "tests/engine/session_support.h"

namespace glimpse::bench {
namespace {

using glimpse::testing::must;
using glimpse::testing::tied_model;
using nlohmann::json;

RunnerOptions small() {
  RunnerOptions options;
  options.repetitions = 3;
  options.roofline = false;
  options.batch = 64;
  options.image_limits = {784, 784 * 64};
  return options;
}

TestSpec text_test(int64_t n_prompt, int64_t n_gen, int64_t n_depth = 0) {
  TestSpec test;
  test.n_prompt = n_prompt;
  test.n_gen = n_gen;
  test.n_depth = n_depth;
  return test;
}

TestSpec picture_test(TestSpec::Kind kind, int width, int height, int64_t n_text = 0, int64_t n_gen = 0) {
  TestSpec test;
  test.kind = kind;
  test.picture = PictureSpec{format("%dx%d", width, height), width, height};
  test.n_text = n_text;
  test.n_gen = n_gen;
  return test;
}

TestResult run(const TestSpec& test, const RunnerOptions& options = small(), int n_threads = 2) {
  Runner runner(tied_model(false), options);
  return must(runner.run(test, n_threads));
}

bool has_stage(const TestResult& result, Stage stage) {
  return result.samples.at(0).stage_ns()[static_cast<size_t>(stage)] > 0;
}

TEST(Runner, TextTestsCountTheirTokens) {
  const TestResult pp = run(text_test(40, 0)), tg = run(text_test(0, 4, 16)), pg = run(text_test(20, 3));
  EXPECT_EQ(pp.name, "pp40");
  EXPECT_EQ(tg.name, "tg4 @ d16");
  EXPECT_EQ(pp.n_tokens(), 40);
  EXPECT_EQ(tg.n_tokens(), 4);
  EXPECT_EQ(pg.n_tokens(), 23);
  for (const TestResult* result : {&pp, &tg, &pg}) {
    EXPECT_EQ(result->samples.size(), 3u);
    EXPECT_EQ(result->n_image_tokens, 0);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(result->samples_ts()[i] * result->samples_ns()[i], 1e9 * static_cast<double>(result->n_tokens()), 1);
    }
  }
  EXPECT_TRUE(has_stage(pp, Stage::kPrefill));
  EXPECT_FALSE(has_stage(pp, Stage::kGenerate));
  EXPECT_TRUE(has_stage(tg, Stage::kGenerate));
  EXPECT_FALSE(has_stage(tg, Stage::kPrefill));
}

// Of n conversations in one pass: n times the tokens and the arithmetic, the weights once.
TEST(Runner, ConversationsSharePassesAndWeights) {
  TestSpec test = text_test(0, 4, 16);
  const TestResult one = run(test);
  test.n_parallel = 5;
  const TestResult five = run(test);
  EXPECT_EQ(five.name, "tg4 x5 @ d16");
  EXPECT_EQ(five.n_tokens(), 20);
  EXPECT_DOUBLE_EQ(five.cost.flop, 5 * one.cost.flop);
  EXPECT_GT(five.cost.bytes, one.cost.bytes);
  EXPECT_LT(five.cost.bytes, 3 * one.cost.bytes);
  test = text_test(20, 3);
  test.n_parallel = 2;
  const TestResult both = run(test);
  EXPECT_EQ(both.name, "pp20+tg3 x2");
  EXPECT_EQ(both.n_tokens(), 46);
  EXPECT_TRUE(has_stage(both, Stage::kPrefill) && has_stage(both, Stage::kGenerate));
}

TEST(Runner, CostIsThatOfTheDocumentedFormulas) {
  // 2 FLOP per weight and row, logits of the last row of a prompt and of every generated token; 4 head_dim per query
  // head and visible key.
  const TextConfig& c = tied_model(false)->text();
  const double heads = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double kv = static_cast<double>(c.num_key_value_heads * c.head_dim);
  const auto hidden = static_cast<double>(c.hidden_size), ffn = static_cast<double>(c.intermediate_size);
  const auto layers = static_cast<double>(c.num_hidden_layers), vocab = static_cast<double>(c.vocab_size);
  const double row = layers * 2 * (hidden * (2 * heads + 2 * kv) + 3 * hidden * ffn), head = 2 * hidden * vocab;
  const double pair = layers * 4 * heads;
  EXPECT_EQ(run(text_test(40, 0)).cost.flop, 40 * row + pair * 40 * 41 / 2 + head);
  EXPECT_EQ(run(text_test(0, 3, 16)).cost.flop, 3 * row + pair * (17 + 18 + 19) + 3 * head);
}

TEST(Runner, DepthIsFilledBeforeAndKept) {
  RunnerOptions options = small();
  options.profile = true;
  const TestResult deep = run(text_test(0, 2, 24), options);
  std::vector<int64_t> n_keys;
  for (const OpRecord& record : deep.profile->records) {
    if (record.kind == OpKind::kAttention) n_keys.push_back(record.n_keys);
  }
  const auto layers = static_cast<size_t>(tied_model(false)->text().num_hidden_layers);
  std::vector<int64_t> want(layers, 25);
  want.insert(want.end(), layers, 26);
  EXPECT_EQ(n_keys, want);
}

TEST(Runner, PictureTestsHaveEveryStage) {
  const TestResult image = run(picture_test(TestSpec::Kind::kImage, 120, 90));
  EXPECT_EQ(image.image_width, 120);
  EXPECT_EQ(image.image_height, 90);
  EXPECT_GT(image.n_image_tokens, 0);
  EXPECT_EQ(image.n_tokens(), image.n_image_tokens);
  for (const Stage stage :
       {Stage::kDecode, Stage::kResize, Stage::kPatches, Stage::kPatchEmbed, Stage::kBlocks, Stage::kMerger}) {
    EXPECT_TRUE(has_stage(image, stage)) << stage_name(stage);
  }
  EXPECT_FALSE(has_stage(image, Stage::kPrefill));

  const TestResult first = run(picture_test(TestSpec::Kind::kFirstToken, 120, 90, 7, 1));
  EXPECT_EQ(first.n_image_tokens, image.n_image_tokens);
  EXPECT_GT(first.n_prompt, first.n_image_tokens + 7);  // with the chat format
  EXPECT_EQ(first.n_tokens(), first.n_prompt);
  for (size_t i = 0; i < kStages; ++i) {
    EXPECT_EQ(has_stage(first, static_cast<Stage>(i)), static_cast<Stage>(i) != Stage::kGenerate) << i;
  }
  const TestResult whole = run(picture_test(TestSpec::Kind::kEndToEnd, 120, 90, 7, 5));
  EXPECT_EQ(whole.n_prompt, first.n_prompt);
  EXPECT_EQ(whole.n_gen, 5);
  EXPECT_TRUE(has_stage(whole, Stage::kGenerate));
  EXPECT_GT(whole.cost.flop, first.cost.flop);
  EXPECT_GT(first.cost.flop, image.cost.flop);
}

TEST(RunnerTiming, StagesAddUpToTheWallTime) {
  // The bound. A stage that is missing, or counted twice, misses it in every repetition; a busy machine that
  // takes the processor away between two stages does not.
  for (const TestSpec& test :
       {picture_test(TestSpec::Kind::kImage, 200, 160), picture_test(TestSpec::Kind::kEndToEnd, 200, 160, 9, 4)}) {
    RunnerOptions options = small();
    options.repetitions = 25;
    const TestResult result = run(test, options);
    double best = 1;
    for (const Timeline& sample : result.samples) {
      EXPECT_LE(sample.sum_ns(), sample.total_ns());
      best = std::min(best, 1 - sample.sum_ns() / sample.total_ns());
    }
    EXPECT_LE(best, 0.03) << result.name;
  }
}

TEST(Runner, TurnDrawsTheTokensOfASession) {
  const auto model = tied_model(false);
  const std::vector<std::byte> picture = must(synthetic_jpeg(90, 120));
  const std::string text = must(text_of_tokens(model->tokenizer(), 9, 5));
  EXPECT_EQ(must(model->tokenizer().encode(text, {})).size(), 9u);

  EngineOptions options;
  options.n_threads = 2;
  options.batch = 64;
  options.kv_element = KvElement::kF32;
  options.image_limits = {784, 784 * 64};
  const auto engine = must(Engine::create(model, options));
  const Image image = must(decode_image(picture, {}));
  EXPECT_OK(engine->make_decoder(256));
  EXPECT_OK(engine->make_encoder(must(engine->image_cost(image.width, image.height)).grid.n_patches()));
  Timeline ignored;
  const std::vector<TokenId> tokens = must(engine->run_turn({picture, text, 12}, ignored));
  ASSERT_EQ(tokens.size(), 12u);

  const auto session = glimpse::testing::make_session(model, glimpse::testing::small_session());
  const auto embedding = must(session->encode_image(image, nullptr, {}));
  const Answer answer =
      must(session->generate({{"user", {{"", embedding}, {text, nullptr}}}}, glimpse::testing::greedy(12)));
  ASSERT_GE(answer.tokens.size(), 2u);
  // The session stops at the end of an answer; the bench goes on.
  EXPECT_EQ(std::vector<TokenId>(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(answer.tokens.size())),
            answer.tokens);
  const ImageCost cost = must(engine->image_cost(image.width, image.height));
  EXPECT_EQ(must(engine->prompt_length({picture, text, 1}, &cost)), answer.timings.n_prompt_tokens);
}

TEST(Runner, ProfileHasEveryOperationAndTheCountedCost) {
  RunnerOptions options = small();
  options.profile = true;
  for (const TestSpec& test : {text_test(10, 2, 4), picture_test(TestSpec::Kind::kImage, 120, 90),
                               picture_test(TestSpec::Kind::kEndToEnd, 120, 90, 7, 3)}) {
    const TestResult result = run(test, options);
    ASSERT_TRUE(result.profile.has_value());
    Cost cost;
    double seconds = 0;
    for (const ProfileRow& row : result.profile_rows()) {
      cost += row.cost;
      seconds += row.seconds;
    }
    EXPECT_DOUBLE_EQ(cost.flop, result.cost.flop) << result.name;
    EXPECT_DOUBLE_EQ(cost.bytes, result.cost.bytes) << result.name;
    EXPECT_GT(seconds, 0);
    EXPECT_LE(seconds * 1e9, result.profile->timeline.total_ns() * (1 + 1e-9)) << result.name;
  }
  EXPECT_FALSE(run(text_test(4, 0)).profile.has_value());
}

TEST(Runner, TraceNestsOperationsInStagesInTests) {
  RunnerOptions options = small();
  options.profile = true;
  options.repetitions = 1;
  Runner runner(tied_model(false), options);
  std::vector<TestResult> results;
  results.push_back(must(runner.run(picture_test(TestSpec::Kind::kEndToEnd, 120, 90, 7, 2), 1)));
  results.push_back(must(runner.run(text_test(6, 1), 1)));
  const json trace = json::parse(trace_json(*tied_model(false), results), nullptr, false);
  ASSERT_TRUE(trace.is_object());
  struct Span {
    double begin, end;
  };
  std::map<std::string, std::vector<Span>> spans;  // by category
  std::set<std::string> names;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M") continue;
    EXPECT_EQ(event.at("ph"), "X");
    const double begin = event.at("ts"), duration = event.at("dur");
    EXPECT_GE(begin, 0);
    EXPECT_GE(duration, 0);
    spans[event.at("cat").get<std::string>()].push_back({begin, begin + duration});
    names.insert(event.at("name").get<std::string>());
  }
  EXPECT_EQ(spans["test"].size(), 2u);
  EXPECT_EQ(spans["op"].size(), results[0].profile->records.size() + results[1].profile->records.size());
  const auto inside_one = [](const Span& inner, const std::vector<Span>& outer) {
    return std::any_of(outer.begin(), outer.end(),
                       [&](const Span& o) { return o.begin <= inner.begin + 1e-6 && inner.end <= o.end + 1e-6; });
  };
  for (const Span& stage : spans["stage"]) EXPECT_TRUE(inside_one(stage, spans["test"]));
  for (const Span& op : spans["op"]) EXPECT_TRUE(inside_one(op, spans["stage"]));
  for (const char* name : {"v.patch_embd norm_linear", "v.blk.0 norm_qkv", "v.blk.0 attention", "v.merger norm_linear",
                           "token_embd embed", "blk.0 norm_swiglu", "blk.1 linear_add", "output norm_linear"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
}

TEST(Runner, RooflineComesWithTheTest) {
  RunnerOptions options = small();
  options.roofline = true;
  options.probe.n_bytes = 1 << 22;
  options.probe.rate_passes = 3;
  const TestResult result = run(text_test(16, 0), options, 1);
  EXPECT_EQ(result.roofline.n_threads, 1);
  EXPECT_GT(result.cost.floor_seconds, 0);
}

TEST(Runner, ErrorsNameWhatIsWrong) {
  Runner runner(tied_model(false), small());
  TestSpec missing = picture_test(TestSpec::Kind::kImage, 0, 0);
  missing.picture->text = "/no/such/picture.jpg";
  EXPECT_EQ(runner.run(missing, 1).error().code, ErrorCode::kNotFound);
  missing.picture->text = glimpse::testing::golden_path("tied/model.gguf");
  const auto no_picture = runner.run(missing, 1);
  EXPECT_EQ(no_picture.error().code, ErrorCode::kUnsupported) << no_picture.error().message;
  EXPECT_THAT(no_picture.error().message, ::testing::HasSubstr("model.gguf"));
  EXPECT_EQ(runner.run(text_test(int64_t{1} << 24, 0), 1).error().code, ErrorCode::kContextFull);
  RunnerOptions cancelled = small();
  cancelled.progress = [](std::string_view, double) { return false; };
  for (const TestSpec& test : {text_test(8, 0), text_test(0, 2), picture_test(TestSpec::Kind::kImage, 120, 90)}) {
    EXPECT_EQ(Runner(tied_model(false), cancelled).run(test, 1).error().code, ErrorCode::kCancelled);
  }
}

}  // namespace
}  // namespace glimpse::bench
