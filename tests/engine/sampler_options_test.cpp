// Penalties, bias, numbers that are none, and options outside their range.
#include "tests/engine/sampler_support.h"

namespace glimpse::testing {
namespace {

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplerOptions options = {.temperature = 1, .repetition_penalty = 2};
  Sampler sampler = make(options, 4);
  sampler.accept_prompt(std::vector<TokenId>{0, 1});
  sampler.accept(0);
  sampler.accept(2);
  expect_near(dense(sampler, {3, -1, 0, 2}), softmax({1.5, -2, 0, 2}), 1e-7);
}

TEST(Sampler, PresencePenaltyCountsOnceAndFrequencyPenaltyPerOccurrence) {
  SamplerOptions options = {.temperature = 1, .presence_penalty = 0.5f, .frequency_penalty = 0.25f};
  Sampler sampler = make(options, 4);
  sampler.accept_prompt(std::vector<TokenId>{2, 2});
  for (const TokenId id : {0, 2, 2}) sampler.accept(id);
  expect_near(dense(sampler, {1, 1, 1, 1}), softmax({0.25, 1, -0.5, 1}), 1e-7);
}

TEST(Sampler, PenaltyWindowForgetsTheOldestToken) {
  SamplerOptions options = {.temperature = 1, .frequency_penalty = 1, .penalty_last_n = 3};
  Sampler sampler = make(options, 4);
  sampler.accept_prompt(std::vector<TokenId>{3, 3, 0, 1, 0});
  expect_near(dense(sampler, {0, 0, 0, 0}), softmax({-2, -1, 0, 0}), 1e-7);
  sampler.accept(2);  // window: 1, 0, 2
  expect_near(dense(sampler, {0, 0, 0, 0}), softmax({-1, -1, -1, 0}), 1e-7);
  sampler.accept(2);  // 0, 2, 2
  sampler.accept(2);  // 2, 2, 2
  expect_near(dense(sampler, {0, 0, 0, 0}), softmax({0, 0, -3, 0}), 1e-7);
}

TEST(Sampler, PenaltyWindowOfZeroSeesNothing) {
  SamplerOptions options = {.temperature = 1, .repetition_penalty = 3, .presence_penalty = 3, .penalty_last_n = 0};
  Sampler sampler = make(options, 2);
  sampler.accept(0);
  expect_near(dense(sampler, {1, 1}), {0.5, 0.5}, 1e-12);
}

TEST(Sampler, IdsOutsideTheVocabularyDoNotCount) {
  SamplerOptions options = {.presence_penalty = 3};
  Sampler sampler = make(options, 2);
  sampler.accept_prompt(std::vector<TokenId>{-1, 2, 1 << 30});
  sampler.accept(-5);
  EXPECT_EQ(draw(sampler, {1, 1.5f}), 1);
}

TEST(Sampler, PenaltiesComeAfterTheBiasAndBeforeTheTemperature) {
  SamplerOptions options = {
      .temperature = 0.5f, .repetition_penalty = 2, .logit_bias = {{0, 3.0f}, {0, 1.0f}}};  // both count
  Sampler sampler = make(options, 2);
  sampler.accept(0);
  expect_near(dense(sampler, {-2, 0}), softmax({(-2 + 4) / 2.0 / 0.5, 0}), 1e-7);
}

TEST(Sampler, NegativeInfiniteBiasForbids) {
  SamplerOptions options = {.logit_bias = {{1, -kInf}, {2, -kInf}}};
  Sampler greedy = make(options, 4);
  EXPECT_EQ(draw(greedy, {1, 9, kInf, 2}), 3);
  options.temperature = 10;
  Sampler drawn = make(options, 4);
  for (int i = 0; i < 200; ++i) {
    const TokenId id = draw(drawn, {1, 9, kInf, 2});
    EXPECT_TRUE(id == 0 || id == 3) << id;
  }
}

TEST(Sampler, SaysWhenNoTokenIsLeft) {
  SamplerOptions options = {.logit_bias = {{0, -kInf}, {1, -kInf}}};
  for (const float temperature : {0.0f, 1.0f}) {
    options.temperature = temperature;
    Sampler sampler = make(options, 2);
    std::vector<float> logits = {1, 2};
    const auto token = sampler.sample(logits, 0);
    ASSERT_FALSE(token.ok());
    EXPECT_EQ(token.error().code, ErrorCode::kNumeric);
    EXPECT_EQ(logits, (std::vector<float>{1, 2}));
  }
}

TEST(Sampler, RejectsNanAndNamesTheToken) {
  for (const float temperature : {0.0f, 1.0f}) {
    SamplerOptions options = {.temperature = temperature};
    Sampler sampler = make(options, 3);
    std::vector<float> logits = {1, 2, kNan};
    const auto token = sampler.sample(logits, 2);
    ASSERT_FALSE(token.ok());
    EXPECT_EQ(token.error().code, ErrorCode::kNumeric);
    EXPECT_NE(token.error().message.find("token 2"), std::string::npos) << token.error().message;
  }
}

TEST(Sampler, InfiniteLogitsWinAndShare) {
  SamplerOptions options;
  Sampler greedy = make(options, 4);
  EXPECT_EQ(draw(greedy, {1, kInf, 2, kInf}), 1);
  options.temperature = 0.8f;
  Sampler drawn = make(options, 4);
  expect_near(dense(drawn, {1, kInf, 2, kInf}), {0, 0.5, 0, 0.5}, 1e-12);
  options.top_p = 0.4f;
  options.top_k = 3;
  Sampler cut = make(options, 4);
  expect_near(dense(cut, {1, kInf, 2, kInf}), {0, 1, 0, 0}, 1e-12);
  std::vector<float> logits = {1, kInf, 2, kInf};
  const SampledToken token = greedy.sample(logits, 3).value();
  EXPECT_FLOAT_EQ(token.logprob, std::log(0.5f));
  ASSERT_EQ(token.top.size(), 3u);
  EXPECT_EQ(token.top[2].logprob, -kInf);
}

TEST(Sampler, InfinitePenaltiesMakeNoNan) {
  SamplerOptions options = {
      .temperature = 1, .repetition_penalty = 1e-30f, .presence_penalty = -3e38f, .frequency_penalty = 3e38f};
  Sampler sampler = make(options, 3);
  for (int i = 0; i < 5; ++i) sampler.accept_prompt(std::vector<TokenId>{0, 1});
  const auto p = dense(sampler, {kInf, -kInf, 0});
  EXPECT_NEAR(p[0] + p[1] + p[2], 1.0, 1e-12);
}

TEST(Sampler, NegativeInfiniteLogitsAreNeverDrawn) {
  SamplerOptions options = {.temperature = 1000};
  Sampler sampler = make(options, 3);
  for (int i = 0; i < 100; ++i) EXPECT_NE(draw(sampler, {-kInf, 0, -kInf}), 0);
}

TEST(Sampler, RejectsAnotherNumberOfLogits) {
  Sampler sampler = make({}, 3);
  std::vector<float> logits = {1, 2};
  EXPECT_EQ(sampler.sample(logits, 0).error().code, ErrorCode::kInvalidArgument);
}

TEST(Sampler, RejectsOptionsOutsideTheirRangeByName) {
  const auto expect_rejected = [](auto change, const char* name) {
    SamplerOptions options;
    change(options);
    const auto sampler = Sampler::create(options, 10);
    ASSERT_FALSE(sampler.ok()) << name;
    EXPECT_EQ(sampler.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(sampler.error().message.find(name), 0u) << sampler.error().message;
    EXPECT_NE(sampler.error().message.find("must be"), std::string::npos) << sampler.error().message;
  };
  for (const float bad : {-0.1f, kNan, kInf}) {
    expect_rejected([&](SamplerOptions& o) { o.temperature = bad; }, "temperature");
  }
  for (const float bad : {-0.1f, 1.1f, kNan}) {
    expect_rejected([&](SamplerOptions& o) { o.top_p = bad; }, "top_p");
    expect_rejected([&](SamplerOptions& o) { o.min_p = bad; }, "min_p");
  }
  expect_rejected([](SamplerOptions& o) { o.top_k = -1; }, "top_k");
  for (const float bad : {0.0f, -1.0f, kNan, kInf}) {
    expect_rejected([&](SamplerOptions& o) { o.repetition_penalty = bad; }, "repetition_penalty");
  }
  for (const float bad : {kNan, kInf, -kInf}) {
    expect_rejected([&](SamplerOptions& o) { o.presence_penalty = bad; }, "presence_penalty");
    expect_rejected([&](SamplerOptions& o) { o.frequency_penalty = bad; }, "frequency_penalty");
  }
  expect_rejected([](SamplerOptions& o) { o.penalty_last_n = -2; }, "penalty_last_n");
  expect_rejected([](SamplerOptions& o) { o.logit_bias = {{10, 1.0f}}; }, "logit_bias");
  expect_rejected([](SamplerOptions& o) { o.logit_bias = {{-1, 1.0f}}; }, "logit_bias");
  expect_rejected([](SamplerOptions& o) { o.logit_bias = {{1, kNan}}; }, "logit_bias");
  expect_rejected([](SamplerOptions& o) { o.logit_bias = {{1, kInf}}; }, "logit_bias");
  EXPECT_FALSE(Sampler::create({}, 0).ok());
  EXPECT_FALSE(Sampler::create({}, int64_t{1} << 40).ok());
}

}  // namespace
}  // namespace glimpse::testing
