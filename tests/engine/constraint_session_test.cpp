// Answers under a constraint: whatever way they are made, they are texts of it, and the same ones.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <set>

#include "engine/constrain/constraint.h"
#include "tests/engine/sampler_support.h"
#include "tests/engine/session_support.h"
#include "tokenizer/json.h"

namespace glimpse::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kObject = R"(\{"name": "[a-z]{1,6}", "list": \[\d(, \d){0,3}\]\})";

Constraint::Ptr regex(const char* expression = kObject) {
  return must(Constraint::compile_regex(tied_model()->tokenizer(), expression));
}

GenerateOptions constrained(Constraint::Ptr constraint, float temperature = 0, uint64_t seed = 0) {
  GenerateOptions options;
  options.max_tokens = 100;
  options.sampler.temperature = temperature;
  options.sampler.seed = seed;
  options.constraint = std::move(constraint);
  return options;
}

// Room for forks and checkpoints.
std::unique_ptr<Session> roomy_session() {
  SessionOptions options = small_session();
  options.pool_slots = 64 * 256;
  return make_session(tied_model(false), options);
}

Answer ask(const GenerateOptions& options, bool reference = false, int n_speculate = 0) {
  SessionOptions session = small_session();
  session.n_speculate = n_speculate;
  return must(make_session(tied_model(reference), session)->generate({user("the cat")}, options));
}

TEST(ConstrainedAnswer, IsOneOfItsTextsGreedyAndSampled) {
  const Constraint::Ptr constraint = regex();
  const std::regex reference(kObject);
  const auto session = roomy_session();
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  const auto start = must(session->checkpoint());
  std::set<std::string> texts;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    EXPECT_OK(session->rewind(*start));
    GenerateOptions options = constrained(constraint, seed == 0 ? 0.0f : 1.5f, seed);
    if (seed % 3 == 1) options.sampler.top_k = 5;
    if (seed % 5 == 1) options.sampler.top_p = 0.7f;
    if (seed % 7 == 1) options.sampler.min_p = 0.2f;
    if (seed % 2 == 1) options.sampler.repetition_penalty = 1.3f;
    const Answer answer = must(session->generate({}, options));
    EXPECT_EQ(answer.reason, FinishReason::kStop);
    EXPECT_TRUE(std::regex_match(answer.text, reference)) << answer.text;
    EXPECT_TRUE(tied_model()->tokenizer().is_end_of_generation(answer.tokens.back()));
    texts.insert(answer.text);
  }
  EXPECT_GT(texts.size(), 100u);
}

// Whatever the seed, the answer is JSON and holds what the schema says.
TEST(ConstrainedAnswer, IsJsonOfItsSchema) {
  const Constraint::Ptr constraint =
      must(Constraint::compile_json_schema(tied_model()->tokenizer(), R"({"type": "object",
      "properties": {"n": {"type": "integer", "minimum": -20, "maximum": 300, "multipleOf": 5}, "who": {"type": "string",
      "minLength": 1, "maxLength": 5}, "more": {"type": "array", "items": {"enum": ["a", null, true]}, "maxItems": 3}},
      "required": ["n", "who"], "additionalProperties": false})"));
  const auto session = roomy_session();
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  const auto start = must(session->checkpoint());
  size_t n_more = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    EXPECT_OK(session->rewind(*start));
    const Answer answer = must(session->generate({}, constrained(constraint, seed == 0 ? 0.0f : 1.2f, seed)));
    ASSERT_EQ(answer.reason, FinishReason::kStop) << answer.text;
    const JsonValue value = must(parse_json(answer.text));
    ASSERT_EQ(write_json(value), answer.text);
    const int n = std::stoi(value.find("n")->text);
    EXPECT_TRUE(n >= -20 && n <= 300 && n % 5 == 0) << answer.text;
    const std::string& who = value.find("who")->text;
    const auto n_characters = std::count_if(who.begin(), who.end(), [](char c) { return (c & 0xC0) != 0x80; });
    EXPECT_TRUE(n_characters >= 1 && n_characters <= 5) << answer.text;
    if (value.find("more") == nullptr) continue;
    ++n_more;
    EXPECT_LE(value.find("more")->items.size(), 3u);
  }
  EXPECT_GT(n_more, 50u);
}

TEST(ConstrainedAnswer, IsTheSameOnEveryWay) {
  for (const float temperature : {0.0f, 1.0f}) {
    const GenerateOptions options = constrained(regex(), temperature, 5);
    const Answer plain = ask(options);
    EXPECT_EQ(ask(options, false, 4).tokens, plain.tokens);
    EXPECT_EQ(ask(constrained(regex(), temperature, 5)).tokens, plain.tokens);  // compiled again

    // Beside other answers, constrained or not.
    const auto one = roomy_session();
    const auto two = must(one->fork()), three = must(one->fork());
    EXPECT_OK(one->prefill({user("the cat")}, {}));
    EXPECT_OK(two->prefill({user("a dog and a cat")}, {}));
    EXPECT_OK(three->prefill({user("the cat")}, {}));
    EXPECT_OK(one->begin_answer(options));
    EXPECT_OK(two->begin_answer(digits(20)));
    EXPECT_OK(three->begin_answer(options));
    std::vector<Session*> running = {one.get(), two.get(), three.get()};
    while (!running.empty()) {
      const std::vector<Result<Session::Step>> steps = must(Session::step_many(running));
      for (size_t i = steps.size(); i-- > 0;) {
        ASSERT_TRUE(steps[i].ok()) << steps[i].error().message;
        if (steps[i]->finished) running.erase(running.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    EXPECT_EQ(one->answer().tokens, plain.tokens);
    EXPECT_EQ(three->answer().text, plain.text);
  }
}

TEST(ConstrainedAnswer, GoesOnFromCheckpointsAndForks) {
  const GenerateOptions options = constrained(regex(), 1.0f, 9);
  const Answer plain = ask(options);
  const auto session = roomy_session();
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  EXPECT_OK(session->begin_answer(options));
  std::vector<std::unique_ptr<Session::Checkpoint>> marks;
  std::vector<std::unique_ptr<Session>> forks;
  for (bool finished = false; !finished;) {
    marks.push_back(must(session->checkpoint()));
    if (marks.size() % 4 == 1) forks.push_back(must(session->fork()));
    finished = must(session->step()).finished;
  }
  EXPECT_EQ(session->answer().tokens, plain.tokens);
  const auto finish = [&](Session& one) {
    while (!must(one.step()).finished) {
    }
    EXPECT_EQ(one.answer().tokens, plain.tokens);
    EXPECT_EQ(one.answer().text, plain.text);
  };
  for (const auto& fork : forks) finish(*fork);
  for (size_t i = marks.size(); i-- > 0; i -= std::min<size_t>(i, 3)) {
    EXPECT_OK(session->rewind(*marks[i]));
    finish(*session);
  }
}

// Without a pass for what cannot be otherwise: the text is the tokenizer's own, and the cache is filled later.
TEST(ConstrainedAnswer, TakesForcedTextWithoutPasses) {
  const auto session = make_session(tied_model(false), small_session());
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  const int64_t n_prompt = session->n_past();
  EXPECT_OK(session->begin_answer(constrained(regex(R"(the answer is (yes|no)\.)"))));
  std::vector<TokenId> forced = must(tied_model()->tokenizer().encode("the answer is", {}));
  std::vector<TokenId> tokens;
  while (true) {
    const Session::Step step = must(session->step());
    tokens.push_back(step.token.id);
    if (step.finished) break;
    if (tokens.size() < forced.size()) {
      EXPECT_EQ(session->n_past(), n_prompt);
    }
  }
  ASSERT_GE(tokens.size(), forced.size());
  tokens.resize(forced.size());
  EXPECT_EQ(tokens, forced);
  EXPECT_THAT(session->answer().text, ::testing::AnyOf("the answer is yes.", "the answer is no."));
  // What comes next stands on the whole answer.
  EXPECT_OK(session->prefill({user("why?")}, {}));
  EXPECT_EQ(logits_of(*session), [&] {
    const auto fresh = make_session(tied_model(false), small_session());
    EXPECT_OK(fresh->prefill({user("the cat")}, {}));
    EXPECT_OK(fresh->begin_answer(greedy(50)));
    for (const TokenId id : session->answer().tokens) {
      if (!must(fresh->feed(id)).finished) continue;
    }
    EXPECT_OK(fresh->prefill({user("why?")}, {}));
    return logits_of(*fresh);
  }());
}

// A whole answer without a choice needs no pass, and no logits.
TEST(ConstrainedAnswer, OfOneTextIsThatText) {
  const auto one =
      must(Constraint::compile_choice(tied_model()->tokenizer(), std::vector<std::string>{"yes, the cat"}));
  const Answer answer = ask(constrained(one));
  EXPECT_EQ(answer.text, "yes, the cat");
  EXPECT_EQ(answer.reason, FinishReason::kStop);
  EXPECT_EQ(answer.tokens.back(), tied_model()->tokenizer().eos());
}

// With log-probabilities every token is drawn: they are the model's own.
TEST(ConstrainedAnswer, HasTheLogProbabilitiesOfTheModel) {
  GenerateOptions options = constrained(regex(R"((yes|no|maybe), the cat)"), 1.0f, 3);
  options.n_top_logprobs = 3;
  const Answer answer = ask(options);
  EXPECT_EQ(answer.reason, FinishReason::kStop);
  ASSERT_EQ(answer.logprobs.size(), answer.tokens.size());
  const auto free = make_session(tied_model(false), small_session());
  EXPECT_OK(free->prefill({user("the cat")}, {}));
  GenerateOptions unconstrained;
  EXPECT_OK(free->begin_answer(unconstrained));
  for (size_t i = 0; i < answer.tokens.size(); ++i) {
    EXPECT_OK(free->forward());
    Sampler sampler = must(Sampler::create({}, tied_model()->text().vocab_size));
    std::vector<float> logits = logits_of(*free);
    const SampledToken best = must(sampler.sample(logits, 3));
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(answer.logprobs[i].top[k].id, best.top[k].id);
      EXPECT_EQ(answer.logprobs[i].top[k].logprob, best.top[k].logprob);
    }
    if (must(free->feed(answer.tokens[i])).finished) break;
  }
}

TEST(ConstrainedAnswer, RefusesTokensThatDoNotFit) {
  const Tokenizer& tokenizer = tied_model()->tokenizer();
  const auto session = make_session(tied_model(false), small_session());
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  EXPECT_OK(session->begin_answer(constrained(regex("[ab]c"))));
  const Result<Session::Step> refused = session->feed(tokenizer.find("x"));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(session->answer().tokens.size(), 0u);
  EXPECT_OK(session->feed(tokenizer.find("a")));
  while (!must(session->step()).finished) {
  }
  EXPECT_EQ(session->answer().text, "ac");
}

TEST(ConstrainedAnswer, IsCutByItsLimitsLikeAnyOther) {
  GenerateOptions options = constrained(regex("(the cat ){5}"));
  options.max_tokens = 4;
  const Answer cut = ask(options);
  EXPECT_EQ(cut.reason, FinishReason::kMaxTokens);
  EXPECT_EQ(cut.tokens.size(), 4u);
  options.max_tokens = -1;
  options.stop = {"cat the"};
  EXPECT_EQ(ask(options).reason, FinishReason::kStopString);
  EXPECT_EQ(ask(options).text, "the ");
}

TEST(ConstrainedAnswer, WantsAConstraintOfItsOwnTokenizer) {
  ModelOptions options;
  options.model_path = golden_path("quantized/model.gguf");
  options.n_threads = 1;
  const auto other = must(Model::load(options));
  GenerateOptions generate = constrained(must(Constraint::compile_regex(other->tokenizer(), "a")));
  const auto session = make_session(tied_model(false), small_session());
  EXPECT_EQ(session->generate({user("the cat")}, generate).error().code, ErrorCode::kMismatch);
}

// -- the sampler: what is drawn under a constraint is what is drawn from logits of -inf elsewhere

TEST(ConstrainedSampler, DrawsAsFromLogitsWithoutTheOthers) {
  const Constraint::Ptr constraint = regex("[a-z]{2,}[0-9]");
  const int64_t vocab = tied_model()->text().vocab_size;
  for (int round = 0; round < 60; ++round) {
    SamplerOptions options;
    options.temperature = round % 4 == 0 ? 0.0f : 0.8f;
    options.seed = static_cast<uint64_t>(round);
    if (round % 3 == 0) options.top_k = 4;
    if (round % 5 == 0) options.top_p = 0.6f;
    if (round % 7 == 0) options.min_p = 0.1f;
    options.frequency_penalty = 0.3f;
    Sampler with = must(Sampler::create(options, vocab)), without = must(Sampler::create(options, vocab));
    ConstraintState state = must(constraint->start());
    Xoshiro256 random(static_cast<uint64_t>(round) + 100);
    for (int step = 0; step < 8; ++step) {
      std::vector<float> logits(static_cast<size_t>(vocab)), masked;
      for (float& logit : logits) logit = static_cast<float>(random.next_double() * 8 - 4);
      masked = logits;
      const auto mask = must(state.mask());
      for (size_t id = 0; id < masked.size(); ++id) {
        if (!mask->allows(static_cast<TokenId>(id))) masked[id] = -std::numeric_limits<float>::infinity();
      }
      const std::vector<float> before = logits;
      const auto a = distribution(with, logits, &state), b = distribution(without, masked);
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_EQ(a[i].id, b[i].id);
        ASSERT_EQ(a[i].probability, b[i].probability);
      }
      const TokenId id = must(with.sample(logits, 0, &state)).id;
      ASSERT_EQ(id, must(without.sample(masked, 0)).id);
      ASSERT_EQ(logits, before);
      EXPECT_OK(state.accept(id));
      with.accept(id);
      without.accept(id);
      if (tied_model()->tokenizer().is_end_of_generation(id)) break;
    }
  }
}

TEST(ConstrainedSampler, SaysWhenABiasForbidsAllThatIsAllowed) {
  SamplerOptions options;
  const TokenId a = tied_model()->tokenizer().find("a");
  options.logit_bias.emplace_back(a, -std::numeric_limits<float>::infinity());
  Sampler sampler = must(Sampler::create(options, tied_model()->text().vocab_size));
  ConstraintState state = must(regex("ax?")->start());
  std::vector<float> logits(static_cast<size_t>(tied_model()->text().vocab_size), 0.0f);
  const auto drawn = sampler.sample(logits, 0, &state);
  ASSERT_FALSE(drawn.ok());
  EXPECT_EQ(drawn.error().code, ErrorCode::kNumeric);
  EXPECT_THAT(drawn.error().message, HasSubstr("the constraint allows"));
}

}  // namespace
}  // namespace glimpse::testing
