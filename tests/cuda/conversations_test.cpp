// Whole conversations with recorded decode steps, as a graph and as a launch that stays, against those launch by
// launch.
#include <gtest/gtest.h>

#include <functional>

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
