#include "engine/generate/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

using namespace session_reference;

class SessionOnBackend : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Backends, SessionOnBackend, ::testing::Values(true, false),
                         [](const auto& backend) { return backend.param ? "ref" : "cpu"; });

TEST_P(SessionOnBackend, ContinuesAsTransformersOverTwoTurnsWithTwoPictures) {
  const auto session = make_session(tied_model(GetParam()), small_session());
  const Answer first = must(session->generate(first_messages(*session), greedy(12)));
  EXPECT_EQ(first.tokens, kFirstAnswer);
  EXPECT_EQ(first.reason, FinishReason::kMaxTokens);
  EXPECT_EQ(first.timings.n_prompt_tokens, static_cast<int64_t>(kFirstPrompt.size()));
  EXPECT_EQ(first.timings.n_image_tokens, 10);
  EXPECT_EQ(first.timings.n_cached_tokens, 0);
  EXPECT_EQ(first.timings.n_generated_tokens, 12);

  const Answer second = must(session->generate({user("the dog?")}, greedy(12)));
  EXPECT_EQ(second.tokens, kSecondAnswer);
  // The last token of the first answer was drawn, but had not entered the cache.
  const auto n_cached = static_cast<int64_t>(kFirstPrompt.size() + kFirstAnswer.size()) - 1;
  EXPECT_EQ(second.timings.n_cached_tokens, n_cached);
  EXPECT_EQ(second.timings.n_prompt_tokens, static_cast<int64_t>(kSecondPrompt.size()) - n_cached);
  EXPECT_EQ(second.timings.n_image_tokens, 0);
}

TEST_P(SessionOnBackend, SecondTurnEqualsAFreshSessionBitForBit) {
  const auto talk = make_session(tied_model(GetParam()), small_session());
  std::vector<Message> messages = first_messages(*talk);
  const Answer answer = must(talk->generate(messages, digits(5)));
  EXPECT_EQ(answer.text.size(), 5u);
  ASSERT_TRUE(talk->prefill({user("the dog?")}, {}).ok());

  const auto fresh = make_session(tied_model(GetParam()), small_session());
  messages.push_back(assistant(answer.text));
  messages.push_back(user("the dog?"));
  ASSERT_TRUE(fresh->prefill(messages, {}).ok());
  EXPECT_EQ(fresh->n_past(), talk->n_past());
  EXPECT_EQ(logits_of(*fresh), logits_of(*talk));
  const Answer a = must(fresh->generate({}, greedy(12))), b = must(talk->generate({}, greedy(12)));
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(logits_of(*fresh), logits_of(*talk));
}

TEST_P(SessionOnBackend, BatchSizeChangesNoBit) {
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<TokenId>> tokens;
  for (const int64_t batch : {1, 3, 512}) {
    SessionOptions options = small_session();
    options.batch = batch;
    const auto session = make_session(tied_model(GetParam()), options);
    ASSERT_TRUE(session->prefill(first_messages(*session), {}).ok());
    logits.push_back(logits_of(*session));
    tokens.push_back(must(session->generate({}, greedy(8))).tokens);
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_EQ(tokens[0], tokens[1]);
  EXPECT_EQ(tokens[0], tokens[2]);
}

TEST_P(SessionOnBackend, ThreeSessionsOfOneModelRunAtTheSameTime) {
  const std::shared_ptr<const Model> model = tied_model(GetParam());
  const auto run = [&](int index) {
    const auto session = make_session(model, small_session());
    GenerateOptions options = greedy(10);
    options.sampler.temperature = 1;
    options.sampler.seed = static_cast<uint64_t>(index);
    std::vector<TokenId> tokens = must(session->generate(first_messages(*session), options)).tokens;
    const Answer second = must(session->generate({user("is it " + std::to_string(index) + "?")}, options));
    tokens.insert(tokens.end(), second.tokens.begin(), second.tokens.end());
    return tokens;
  };
  std::vector<std::vector<TokenId>> alone, together(3);
  for (int i = 0; i < 3; ++i) alone.push_back(run(i));
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&, i] { together[static_cast<size_t>(i)] = run(i); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
  EXPECT_NE(alone[0], alone[1]);
}

TEST(Session, SteppingByHandEqualsGenerate) {
  const auto at_once = make_session(), by_hand = make_session();
  const Answer answer = must(at_once->generate({user("what is it?")}, digits(6)));
  ASSERT_TRUE(by_hand->prefill({user("what is it?")}, {}).ok());
  ASSERT_TRUE(by_hand->begin_answer(digits(6)).ok());
  std::vector<TokenId> tokens;
  std::string text;
  for (int i = 0; i < 6; ++i) {
    const Session::Step step = must(by_hand->step());
    tokens.push_back(step.token.id);
    text += step.text;
    EXPECT_EQ(step.finished, i == 5);
  }
  EXPECT_EQ(tokens, answer.tokens);
  EXPECT_EQ(text, answer.text);
  EXPECT_EQ(logits_of(*by_hand), logits_of(*at_once));
  const auto after = by_hand->step();
  ASSERT_FALSE(after.ok());
  EXPECT_EQ(after.error().code, ErrorCode::kInvalidArgument);
}

TEST(Session, MaxTokensOfZeroOnlyPrefills) {
  const auto session = make_session();
  const Answer answer = must(session->generate({user("what is it?")}, greedy(0)));
  EXPECT_EQ(answer.text, "");
  EXPECT_TRUE(answer.tokens.empty());
  EXPECT_EQ(answer.reason, FinishReason::kMaxTokens);
  EXPECT_EQ(answer.timings.n_generated_tokens, 0);
  EXPECT_EQ(logits_of(*session), fresh_logits({user("what is it?")}));
  EXPECT_FALSE(must(session->generate({}, digits(2))).text.empty());
}

TEST(Session, AnAnswerCutByMaxTokensGoesOnWhereItWasCut) {
  const auto whole = make_session(), in_parts = make_session();
  GenerateOptions options = greedy(9);
  const Answer all = must(whole->generate({user("the cat")}, options));
  std::vector<TokenId> tokens;
  for (const int64_t n : {1, 5, 3}) {
    options.max_tokens = n;
    const Answer part = must(
        in_parts->generate(tokens.empty() ? std::vector<Message>{user("the cat")} : std::vector<Message>{}, options));
    EXPECT_EQ(part.reason, FinishReason::kMaxTokens);
    tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
  }
  EXPECT_EQ(tokens, all.tokens);
}

TEST(Session, TheModelsEndOfTheAnswerIsNoPartOfIt) {
  for (const char* const end : {"<|im_end|>", "<|endoftext|>"}) {
    const auto session = make_session();
    const Answer begun = must(session->generate({user("the cat")}, digits(3)));
    GenerateOptions ending = only({end}, 10);
    ending.render_special = true;
    const Answer ended = must(session->generate({}, ending));
    EXPECT_EQ(ended.reason, FinishReason::kStop);
    EXPECT_EQ(ended.text, "");
    EXPECT_EQ(ended.tokens, (std::vector<TokenId>{tied_model()->tokenizer().find(end)}));
    EXPECT_EQ(session->generate({}, greedy(1)).error().code, ErrorCode::kInvalidArgument);  // nothing to go on with
    ASSERT_TRUE(session->prefill({user("and the dog")}, {}).ok());
    EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(begun.text), user("and the dog")}));
  }
}

TEST(Session, AnEmptyAnswerIsAnAnswer) {
  const auto session = make_session();
  EXPECT_EQ(must(session->generate({user("the cat")}, only({"<|im_end|>"}, 4))).reason, FinishReason::kStop);
  ASSERT_TRUE(session->prefill({user("and?")}, {}).ok());
  EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(""), user("and?")}));
}

TEST(Session, MessagesPrefilledOneAfterAnotherEqualMessagesAtOnce) {
  const auto session = make_session();
  ASSERT_TRUE(session->prefill({{"system", {{"in this image", nullptr}}}}, {}).ok());
  ASSERT_TRUE(session->prefill({user("the cat")}, {}).ok());
  ASSERT_TRUE(session->prefill({assistant("is"), user("the dog")}, {}).ok());
  EXPECT_EQ(
      logits_of(*session),
      fresh_logits({{"system", {{"in this image", nullptr}}}, user("the cat"), assistant("is"), user("the dog")}));
}

TEST(Session, CancellingInTheTextCallbackKeepsTheAnswerSoFar) {
  const auto session = make_session();
  GenerateOptions options = digits(50);
  std::string seen;
  options.on_text = [&](std::string_view text) {
    seen += text;
    return seen.size() < 4;
  };
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.text, seen);
  EXPECT_EQ(answer.text.size(), 4u);
  EXPECT_EQ(answer.tokens.size(), 4u);
  ASSERT_TRUE(session->prefill({user("and?")}, {}).ok());
  EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(seen), user("and?")}));
}

TEST(Session, GenerationStopsWhenTheContextIsFull) {
  const auto session = make_session(40);
  GenerateOptions options = digits(-1);
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kContextFull);
  // Every slot is used, and one more token was drawn from the last.
  EXPECT_EQ(session->n_past(), 40);
  EXPECT_EQ(static_cast<int64_t>(answer.tokens.size()), 40 - answer.timings.n_prompt_tokens + 1);
  EXPECT_EQ(answer.text.size(), answer.tokens.size());
  const Answer more = must(session->generate({}, options));
  EXPECT_EQ(more.reason, FinishReason::kContextFull);
  EXPECT_TRUE(more.tokens.empty());
  EXPECT_EQ(session->generate({user("?")}, options).error().code, ErrorCode::kContextFull);
  session->reset();
  EXPECT_EQ(session->n_past(), 0);
  EXPECT_EQ(must(session->generate({user("the cat")}, options)).text, answer.text);
}

TEST(Session, ResetForgetsTheConversation) {
  const auto session = make_session();
  const Answer first = must(session->generate(first_messages(*session), greedy(5)));
  session->reset();
  EXPECT_EQ(session->n_past(), 0);
  EXPECT_FALSE(session->logits().ok());
  EXPECT_EQ(session->begin_answer(greedy(1)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(must(session->generate(first_messages(*session), greedy(5))).tokens, first.tokens);
}

TEST(Session, LogprobsAreThoseOfTheModelsOwnLogits) {
  const auto session = make_session();
  GenerateOptions options = digits(4);
  options.n_top_logprobs = 3;
  ASSERT_TRUE(session->prefill({user("the cat")}, {}).ok());
  const std::vector<float> logits = logits_of(*session);
  const Answer answer = must(session->generate({}, options));
  ASSERT_EQ(answer.logprobs.size(), 4u);
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit));
  const auto logprob = [&](TokenId id) {
    return static_cast<double>(logits[static_cast<size_t>(id)]) - std::log(total);
  };
  const SampledToken& token = answer.logprobs[0];
  EXPECT_EQ(token.id, answer.tokens[0]);
  EXPECT_NEAR(token.logprob, logprob(token.id), 1e-5);
  ASSERT_EQ(token.top.size(), 3u);
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_EQ(token.top[0].id, best);
  for (const TokenLogprob& top : token.top) EXPECT_NEAR(top.logprob, logprob(top.id), 1e-5);
  EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
  EXPECT_TRUE(must(session->generate({}, digits(1))).logprobs.empty());
}

TEST(Session, PenaltiesSeeThePromptAndTheAnswer) {
  const auto session = make_session();
  GenerateOptions options = digits(10);
  options.sampler.temperature = 0;
  options.sampler.presence_penalty = 500;
  const Answer answer = must(session->generate({user("7 3")}, options));
  std::string text = answer.text.substr(0, 8);  // 7 and 3 were in the prompt: the others come first
  std::sort(text.begin(), text.end());
  EXPECT_EQ(text, "01245689");
}

TEST(Session, TimingsAreFilled) {
  const auto session = make_session();
  Timings one;
  const auto picture = must(session->encode_image(golden_pictures()[0], &one, {}));
  EXPECT_GT(one.image_decode, 0);
  EXPECT_GT(one.image_resize, 0);
  EXPECT_GT(one.image_encode, 0);
  EXPECT_EQ(one.n_image_tokens, 4);
  const Answer answer = must(session->generate({{"user", {{"", picture}}}}, greedy(3)));
  EXPECT_EQ(answer.timings.image_decode, one.image_decode);
  EXPECT_EQ(answer.timings.image_encode, one.image_encode);
  EXPECT_GT(answer.timings.prefill, 0);
  EXPECT_GT(answer.timings.decode, 0);
  const Answer next = must(session->generate({user("and?")}, greedy(1)));
  EXPECT_EQ(next.timings.image_encode, 0);
  EXPECT_EQ(session->timings().n_generated_tokens, 1);
}

TEST(Session, FinishReasonsHaveNames) {
  EXPECT_STREQ(finish_reason_name(FinishReason::kStop), "stop");
  EXPECT_STREQ(finish_reason_name(FinishReason::kStopString), "stop_string");
  EXPECT_STREQ(finish_reason_name(FinishReason::kMaxTokens), "max_tokens");
  EXPECT_STREQ(finish_reason_name(FinishReason::kContextFull), "context_full");
  EXPECT_STREQ(finish_reason_name(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace glimpse::testing
