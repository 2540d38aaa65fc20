// Whole conversations with recorded decode steps, as a graph and as a launch that stays, against those launch by
// launch.
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "engine/generate/embedder.h"
#include "tests/cuda/step_support.h"

namespace glimpse::testing {
namespace {

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
      const auto launches = talk(CudaDecode::kLaunches, calls, context);
      const auto steps = talk(CudaDecode::kGraph, calls, context);
      ASSERT_EQ(steps.size(), launches.size());
      for (size_t i = 0; i < steps.size(); ++i) {
        EXPECT_EQ(steps[i].tokens, launches[i].tokens) << "call " << i;
        EXPECT_TRUE(steps[i] == launches[i]) << "call " << i;
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

// The bits of a row depend on whether its pass has few rows or many: drafts keep to few, however many are allowed.
TEST_F(Conversations, DraftsOfAnyNumberChangeNothing) {
  const auto quantized = load_on(golden_path("quantized/model.gguf"), "", CudaDecode::kLaunches);
  const auto answer = [&](int n_speculate, int n_draft) {
    SessionOptions options = small_session();
    options.kv_element = KvElement::kF16;
    options.n_speculate = n_speculate;
    options.n_draft = n_draft;
    options.draft_min_probability = 1e-9f;  // drafts are never given up
    if (n_draft > 0) options.draft_model = quantized;
    GenerateOptions looked_at = only({"7", "3"}, 18);
    looked_at.n_top_logprobs = 1;
    return must(make_session(quantized, options)->generate({user("7777 777")}, looked_at));
  };
  const Answer plain = answer(0, 0);
  constexpr std::pair<int, int> kWays[] = {{kMostDrafts, 0}, {0, 8}};
  for (const auto& [n_speculate, n_draft] : kWays) {
    const Answer drafted = answer(n_speculate, n_draft);
    EXPECT_EQ(drafted.tokens, plain.tokens) << n_speculate << " and " << n_draft;
    EXPECT_GT(drafted.timings.n_accepted_tokens, 8);
    ASSERT_EQ(drafted.logprobs.size(), plain.logprobs.size());
    for (size_t i = 0; i < plain.logprobs.size(); ++i) {
      ASSERT_EQ(drafted.logprobs[i].logprob, plain.logprobs[i].logprob) << "token " << i << " of " << n_speculate;
    }
  }
}

TEST_F(Conversations, VectorsOfShortTextsAreWhatTheyAreAlone) {
  const auto embedder =
      must(Embedder::create(load_on(golden_path("qwen3-f16/model.gguf"), "", CudaDecode::kLaunches), small_session()));
  const EmbedOptions options = {.pooling = Pooling::kMean};
  const EmbedInput texts[] = {{{"7", nullptr}}, {{"one two three four", nullptr}},   {{"3", nullptr}},
                              {{"4", nullptr}}, {{"five six seven eight", nullptr}}, {{"the eighth of nine", nullptr}}};
  const auto together = must(embedder->embed(texts, options, {}));
  for (size_t i = 0; i < std::size(texts); ++i) {
    EXPECT_EQ(together[i], must(embedder->embed(std::span(&texts[i], 1), options, {}))[0]) << i;
  }
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
