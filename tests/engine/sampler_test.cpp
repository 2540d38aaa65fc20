// What the sampler draws: transformers' distributions, the cuts, the generator, log-probabilities.
#include "tests/engine/sampler_support.h"

namespace glimpse::testing {
namespace {

struct Reference {
  std::vector<float> logits;
  float temperature;
  int top_k;
  float top_p, min_p, repetition_penalty;
  std::vector<std::pair<TokenId, float>> bias;
  std::vector<double> probabilities;
};
const std::vector<Reference> kReferences = {
#include "tests/engine/sampler_reference.inc"
};
const std::vector<TokenId> kReferencePrompt = {3, 3, 5, 11, 0, 3};

// Logits of a language model's shape: a few large, many small, all different.
std::vector<float> many_logits(size_t n, uint64_t seed) {
  Xoshiro256 random(seed);
  std::vector<float> logits(n);
  for (float& v : logits) v = static_cast<float>(12.0 * std::log(random.next_double() + 1e-9) * random.next_double());
  return logits;
}

TEST(Random, IsXoshiro256StarStarSeededBySplitmix64) {
  Xoshiro256 zero(0), other(42);
  EXPECT_EQ(zero.next(), 0x99ec5f36cb75f2b4u);
  EXPECT_EQ(zero.next(), 0xbf6e1f784956452au);
  EXPECT_EQ(zero.next(), 0x1a5f849d4933e6e0u);
  EXPECT_EQ(other.next(), 0x15780b2e0c2ec716u);
  EXPECT_EQ(other.next(), 0x6104d9866d113a7eu);
}

double exp_of(double x) {
  exp_nonpositive(std::span(&x, 1));
  return x;
}

TEST(Random, ExponentialIsWithinAFewUnitsInTheLastPlace) {
  EXPECT_EQ(exp_of(0.0), 1.0);
  EXPECT_EQ(exp_of(-0.0), 1.0);
  EXPECT_EQ(exp_of(-700.5), 0.0);
  EXPECT_EQ(exp_of(-1e300), 0.0);
  EXPECT_EQ(exp_of(-std::numeric_limits<double>::infinity()), 0.0);
  for (double x = 0; x > -660; x -= 0.00713) ASSERT_NEAR(exp_of(x) / std::exp(x), 1.0, 1e-15) << x;
  for (double x = -660; x > -710; x -= 0.00713) ASSERT_NEAR(exp_of(x), std::exp(x), 1.1e-304 + 1e-15 * std::exp(x));
}

TEST(Sampler, MatchesTransformersLogitsProcessors) {
  for (size_t i = 0; i < kReferences.size(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    const Reference& r = kReferences[i];
    SamplerOptions options = {.temperature = r.temperature,
                              .top_k = r.top_k,
                              .top_p = r.top_p,
                              .min_p = r.min_p,
                              .repetition_penalty = r.repetition_penalty,
                              .logit_bias = r.bias};
    Sampler sampler = make(options, r.logits.size());
    sampler.accept_prompt(kReferencePrompt);
    // transformers computes logits and the cut points in float.
    expect_near(dense(sampler, r.logits), r.probabilities, 2e-6);
  }
}

TEST(Sampler, GreedyTakesTheLargestLogitAndTheLowestIdOfATie) {
  for (const float temperature : {0.0f, 9e-6f}) {
    SamplerOptions options = {.temperature = temperature};
    Sampler sampler = make(options, 6);
    EXPECT_EQ(draw(sampler, {0, 1, 5, 2, 5, 5}), 2);
    EXPECT_EQ(draw(sampler, {-9, -8, -7, -7.5f, -8, -9}), 2);
    EXPECT_EQ(draw(sampler, {0, 0, 0, 0, 0, 0}), 0);
    EXPECT_EQ(draw(sampler, {-0.0f, 0, 0, 0, 0, 0}), 0);
  }
}

TEST(Sampler, TopKOfOneIsGreedyAtAnyTemperature) {
  SamplerOptions options = {.temperature = 100, .top_k = 1};
  Sampler sampler = make(options, 4);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(draw(sampler, {1, 1.5f, 1.5f, 1.4f}), 1);
}

TEST(Sampler, TinyTemperatureAboveTheGreedyBoundDoesNotOverflow) {
  SamplerOptions options = {.temperature = 1.1e-5f};
  Sampler sampler = make(options, 3);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(draw(sampler, {3e38f, 2e38f, -3e38f}), 0);
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {1.0f, 0.2f, -1.0f, 2.0f, 1.7f, -3.0f, 0.0f, 0.9f};
  const std::vector<TokenId> prompt = {3, 3, 4};
  struct Case {
    float temperature;
    int top_k;
    float top_p, min_p, repetition;
  };
  for (const Case& c : {Case{1, 0, 1, 0, 1}, Case{0.7f, 4, 1, 0, 1}, Case{1.5f, 0, 0.8f, 0, 1}, Case{1, 0, 1, 0.2f, 1},
                        Case{0.9f, 6, 0.9f, 0.1f, 1.3f}}) {
    SamplerOptions options = {.temperature = c.temperature,
                              .top_k = c.top_k,
                              .top_p = c.top_p,
                              .min_p = c.min_p,
                              .repetition_penalty = c.repetition,
                              .seed = 7};
    Sampler sampler = make(options, logits.size());
    sampler.accept_prompt(prompt);
    const std::vector<double> expected = dense(sampler, logits);
    constexpr int kDraws = 100000;
    std::vector<int> counts(logits.size());
    for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(draw(sampler, logits))];
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = expected[i], deviation = std::sqrt(kDraws * p * (1 - p));
      EXPECT_LE(std::abs(counts[i] - kDraws * p), 4 * deviation) << "token " << i;  // 0 where p is 0 or 1
    }
  }
}

TEST(Sampler, SameSeedSameTokensAndAnotherSeedOthers) {
  const std::vector<float> logits = many_logits(1000, 1);
  const auto tokens = [&](uint64_t seed) {
    SamplerOptions options = {.temperature = 1.3f, .seed = seed};
    Sampler sampler = make(options, logits.size());
    std::vector<TokenId> ids;
    for (int i = 0; i < 64; ++i) ids.push_back(draw(sampler, logits));
    return ids;
  };
  EXPECT_EQ(tokens(5), tokens(5));
  EXPECT_NE(tokens(5), tokens(6));
}

// Pinned: the same tokens on every machine. Computed by hand from the generator's first outputs: u = 0.6013, 0.7478,
// 0.1030, ... against cumulative probabilities 0.0871, 0.3240, 0.9679, 1.
TEST(Sampler, DrawsArePinnedForASeed) {
  SamplerOptions options = {.temperature = 1};
  Sampler sampler = make(options, 4);
  std::vector<TokenId> ids;
  Xoshiro256 random(0);
  for (int i = 0; i < 12; ++i) {
    const double u = random.next_double();
    ids.push_back(draw(sampler, {0, 1, 2, -1}));
    EXPECT_EQ(ids.back(), u < 0.08714 ? 0 : u < 0.32403 ? 1 : u < 0.96794 ? 2 : 3) << u;
  }
  EXPECT_EQ(ids, (std::vector<TokenId>{2, 2, 1, 2, 2, 3, 2, 2, 2, 2, 1, 0}));
}

TEST(Sampler, TopKKeepsExactlyKAndTheLowestIdsOfATie) {
  SamplerOptions options = {.temperature = 1, .top_k = 3};
  Sampler sampler = make(options, 6);
  expect_near(dense(sampler, {1, 2, 1, 1, 2, 1}), softmax({1, 2, -1e9, -1e9, 2, -1e9}), 1e-12);
}

TEST(Sampler, TopKLargerThanTheVocabularyChangesNothing) {
  SamplerOptions options = {.temperature = 1, .top_k = 100};
  Sampler sampler = make(options, 3);
  expect_near(dense(sampler, {1, 2, 3}), softmax({1, 2, 3}), 1e-12);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 1/2, 1/4, 1/8, 1/8, exact in every step.
  const std::vector<float> logits = {0, std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const auto kept = [&](float p) {
    SamplerOptions options = {.temperature = 1, .top_p = p};
    Sampler sampler = make(options, 4);
    std::vector<float> copy = logits;
    return distribution(sampler, copy).size();
  };
  for (const auto& [p, n] :
       {std::pair(0.0f, 1u), {0.49f, 1u}, {0.51f, 2u}, {0.74f, 2u}, {0.76f, 3u}, {0.88f, 4u}, {1.0f, 4u}}) {
    EXPECT_EQ(kept(p), n) << p;
  }
}

TEST(Sampler, TopPOfATieKeepsTheLowestIds) {
  SamplerOptions options = {.temperature = 1, .top_p = 0.45f};
  Sampler sampler = make(options, 5);
  expect_near(dense(sampler, {1, 1, 1, 1, 1}), {1 / 3., 1 / 3., 1 / 3., 0, 0}, 1e-12);
}

TEST(Sampler, MinPIsRelativeToTheMostLikely) {
  SamplerOptions options = {.temperature = 1, .min_p = 0.3f};
  Sampler sampler = make(options, 4);
  expect_near(dense(sampler, {0, std::log(0.31f), std::log(0.29f), -kInf}), {1 / 1.31, 0.31 / 1.31, 0, 0}, 1e-6);
  options.min_p = 1;
  Sampler only_best = make(options, 4);
  expect_near(dense(only_best, {0, 1, 1, 0.999f}), {0, 0.5, 0.5, 0}, 1e-12);
}

TEST(Sampler, LargeVocabulariesAreCutAsAFullSortWouldCutThem) {
  const size_t n = 151936;
  const std::vector<float> logits = many_logits(n, 3);
  std::vector<TokenId> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  struct Case {
    int top_k;
    float top_p, min_p;
  };
  for (const Case& c : {Case{1000, 1, 0}, Case{40, 0.95f, 0.01f}, Case{0, 0.5f, 0}, Case{0, 0.99f, 0},
                        Case{0, 0.9999f, 0}, Case{0, 1, 0.001f}, Case{150000, 0.999f, 0}}) {
    SamplerOptions options = {.temperature = 2, .top_k = c.top_k, .top_p = c.top_p, .min_p = c.min_p};
    Sampler sampler = make(options, n);
    std::vector<float> copy = logits;
    const auto got = distribution(sampler, copy);
    EXPECT_EQ(copy, logits);

    std::vector<double> weights;
    const size_t limit = c.top_k > 0 ? static_cast<size_t>(c.top_k) : n;
    double total = 0;
    for (size_t i = 0; i < limit; ++i) {
      const double above = static_cast<double>(logits[static_cast<size_t>(order[i])]) -
                           static_cast<double>(logits[static_cast<size_t>(order[0])]);
      weights.push_back(std::exp(above / 2));
      total += weights.back();
    }
    double sum = 0;
    size_t kept = 0;
    while (kept < limit && (c.top_p == 1 || sum < static_cast<double>(c.top_p) * total)) sum += weights[kept++];
    while (kept > 1 && weights[kept - 1] < static_cast<double>(c.min_p)) sum -= weights[--kept];
    ASSERT_EQ(got.size(), kept) << "top_k " << c.top_k << " top_p " << c.top_p << " min_p " << c.min_p;
    std::vector<double> got_by_id(n);
    for (const auto& [id, p] : got) got_by_id[static_cast<size_t>(id)] = p;
    for (size_t i = 0; i < kept; ++i) {
      ASSERT_NEAR(got_by_id[static_cast<size_t>(order[i])], weights[i] / sum, 1e-10) << i;
    }
  }
}

TEST(Sampler, LogprobsComeFromTheUnmodifiedLogits) {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 1.0f, 1.0f};
  const std::vector<double> p = softmax({0.5, 2, -1, 1, 1});
  SamplerOptions options = {
      .temperature = 0.3f, .top_k = 2, .repetition_penalty = 1.5f, .logit_bias = {{2, 50.0f}, {1, -kInf}}};
  Sampler sampler = make(options, 5);
  sampler.accept(0);
  sampler.accept(1);
  std::vector<float> copy = logits;
  const SampledToken token = sampler.sample(copy, 4).value();
  EXPECT_EQ(copy, logits);
  EXPECT_EQ(token.id, 2);
  EXPECT_NEAR(token.logprob, std::log(p[2]), 1e-6);
  ASSERT_EQ(token.top.size(), 4u);
  const TokenId want[4] = {1, 3, 4, 0};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(token.top[i].id, want[i]);
    EXPECT_NEAR(token.top[i].logprob, std::log(p[static_cast<size_t>(want[i])]), 1e-6);
  }
  EXPECT_TRUE(sampler.sample(copy, 0).value().top.empty());
  EXPECT_EQ(sampler.sample(copy, 99).value().top.size(), 5u);
}

TEST(Sampler, AskingForLogprobsDoesNotChangeTheDraws) {
  const std::vector<float> logits = many_logits(500, 9);
  SamplerOptions options = {.temperature = 1};
  Sampler with = make(options, 500), without = make(options, 500);
  for (int i = 0; i < 50; ++i) {
    std::vector<float> copy = logits;
    EXPECT_EQ(with.sample(copy, 5).value().id, draw(without, logits));
  }
}

TEST(Sampler, NamesWhatADeviceDrawsWithUnlessSingleTokensMatter) {
  SamplerOptions options = {.temperature = 0.5f, .top_k = 7, .top_p = 0.9f, .min_p = 0.1f};
  EXPECT_EQ(make(options, 8).device_draw(), (DrawOptions{0.5f, 7, 0.9f, 0.1f}));
  SamplerOptions other = options;
  other.logit_bias = {{3, 1.0f}};
  EXPECT_EQ(make(other, 8).device_draw(), std::nullopt);
  other = options;
  other.repetition_penalty = 1.1f;
  EXPECT_EQ(make(other, 8).device_draw(), std::nullopt);
  other.penalty_last_n = 0;  // looks back at nothing
  EXPECT_NE(make(other, 8).device_draw(), std::nullopt);
}

TEST(Sampler, DrawsMadeElsewhereCostTheSameRandomNumbers) {
  SamplerOptions options = {.temperature = 1, .seed = 3};
  const std::vector<float> logits = many_logits(500, 9);
  Sampler here = make(options, 500), elsewhere = make(options, 500);
  const std::vector<float> next = elsewhere.peek(6);
  EXPECT_EQ(elsewhere.peek(6), next);  // they stay the next ones
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(elsewhere.peek(1)[0], next[i]);
    EXPECT_GE(next[i], 0.0f);
    EXPECT_LE(next[i], 1.0f);
    draw(here, logits);
    elsewhere.skip_draw();
  }
  EXPECT_EQ(draw(here, logits), draw(elsewhere, logits));
  // A greedy sampler uses none.
  Sampler greedy = make({}, 500);
  greedy.skip_draw();
  EXPECT_EQ(greedy.peek(2), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace glimpse::testing
