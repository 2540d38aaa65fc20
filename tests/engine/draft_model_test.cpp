// Drafts of a smaller model of the same vocabulary.
#include <limits>

#include "tests/engine/model_editor.h"
#include "tests/engine/speculation_support.h"

namespace glimpse::testing {
namespace {

class DraftingSpeculation : public Speculation {};
INSTANTIATE_TEST_SUITE_P(Backends, DraftingSpeculation, ::testing::ValuesIn(speculation_backends()),
                         [](const auto& backend) { return backend.param.name; });

TEST_P(DraftingSpeculation, ADraftModelThatIsTheModelIsAlwaysRight) {
  for (const float temperature : {0.0f, 1.5f}) {
    const auto drafting = session({0, Way::kSame, 4});
    GenerateOptions options = greedy(50);
    options.sampler.temperature = temperature;
    options.sampler.seed = 11;
    options.sampler.repetition_penalty = 1.2f;
    // Neither ends nor pads of pictures, which are left out of a draft's text.
    for (const char* token : {"<|im_end|>", "<|endoftext|>", "<|image_pad|>", "<|video_pad|>"}) {
      const TokenId id = model()->tokenizer().find(token);
      if (id >= 0) options.sampler.logit_bias.emplace_back(id, -1000.0f);
    }
    const Timings timings = must(drafting->generate({user("the cat")}, options)).timings;
    EXPECT_EQ(timings.n_accepted_tokens, timings.n_drafted_tokens) << temperature;
    EXPECT_EQ(timings.n_accepted_tokens, 39) << temperature;  // 49 passes would be; each of ten brings four drafts
  }
}

TEST_P(DraftingSpeculation, ABadDraftModelIsAskedMoreAndMoreRarely) {
  const Timings timings = must(session({0, Way::kOther, 4, 0}, 512)->generate({user("the cat")}, greedy(300))).timings;
  EXPECT_LT(timings.n_accepted_tokens, 10);  // the two have nothing in common
  EXPECT_LT(timings.n_drafted_tokens, timings.n_generated_tokens / 3);
}

TEST_P(DraftingSpeculation, ConstrainedAnswersAreTheSameWithADraftModel) {
  const auto constraint =
      must(Constraint::compile_regex(model()->tokenizer(), "(cat|dog|[0-9]{2,9})(, [a-z]{3,9}){3,6}"));
  for (const float temperature : {0.0f, 1.0f}) {
    GenerateOptions options = greedy(80);
    options.constraint = constraint;
    options.sampler.temperature = temperature;
    options.sampler.seed = 2;
    const Answer want = must(session({})->generate({user("the cat")}, options));
    EXPECT_EQ(want.reason, FinishReason::kStop);
    for (const Way& way : kWays) {
      const Answer answer = must(session(way)->generate({user("the cat")}, options));
      EXPECT_EQ(answer.tokens, want.tokens) << ::testing::PrintToString(way);
      // Drafts are given up where the constraint forces what comes next.
      EXPECT_GT(answer.timings.n_accepted_tokens, way.draft_model == Way::kSame && way.n_speculate == 0 ? 10 : -1);
    }
  }
}

// The draft model follows wherever the session goes.
TEST_P(DraftingSpeculation, ForksCheckpointsAndSavedSessionsGoOnWithTheirDraftModel) {
  const auto plain = session({}, 256, 8 * 256), drafting = session({0, Way::kSame, 4}, 256, 8 * 256);
  std::vector<std::vector<TokenId>> said[2];
  for (Session* s : {plain.get(), drafting.get()}) {
    std::vector<std::vector<TokenId>>& all = said[s == drafting.get()];
    const auto ask = [&](Session& of, const char* question, uint64_t seed) {
      const Answer answer = must(of.generate({user(question)}, coin(24, seed)));
      all.push_back(answer.tokens);
      // All but the first and a few at the end of a draft.
      EXPECT_GE(answer.timings.n_accepted_tokens, s == drafting.get() ? 16 : 0) << question;
    };
    ask(*s, "7 3", 1);
    const auto mark = must(s->checkpoint());
    const auto fork = must(s->fork());
    ask(*s, "and 7?", 2);
    ask(*fork, "and 3?", 3);
    EXPECT_OK(s->rewind(*mark));
    ask(*s, "or 33?", 4);
    std::vector<std::byte> bytes;
    EXPECT_OK(fork->save([&](std::span<const std::byte> piece) -> Status {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
      return {};
    }));
    EXPECT_OK(s->load(bytes));
    ask(*s, "and 37?", 5);
    ask(*fork, "and 37?", 5);
    EXPECT_EQ(all.back(), all[all.size() - 2]);
    s->reset();
    ask(*s, "7 3", 1);
    EXPECT_EQ(all.back(), all.front());
  }
  EXPECT_EQ(said[0], said[1]);
}

std::shared_ptr<const Model> load(ModelEditor& editor, const std::string& name) {
  ModelOptions options;
  options.model_path = editor.write(name);
  options.n_threads = 1;
  return must(Model::load(options));
}

TEST(DraftModel, MustMeanTheSameByEveryToken) {
  SessionOptions options = small_session();
  const auto refused = [&](std::shared_ptr<const Model> draft, const char* text) {
    options.draft_model = std::move(draft);
    for (const Error& error :
         {plan_session(*tied_model(false), options).error(), Session::create(tied_model(false), options).error()}) {
      EXPECT_EQ(error.code, ErrorCode::kMismatch) << error.message;
      EXPECT_NE(error.message.find(text), std::string::npos) << error.message;
    }
  };
  ModelEditor renamed("tied/model.gguf"), more("tied/model.gguf"), control("tied/model.gguf");
  refused(load(renamed.name_token(295, "<|quad_begin|>"), "renamed.gguf"),
          "token 295 is '<|quad_begin|>', the model's is '<|quad_start|>'");
  refused(load(more.name_token(303, "zyx").set_token_type(303, 1), "more.gguf"),
          "token 303 is 'zyx', the model's is unused");
  options.draft_model = load(control.name_token(303, "<|new|>").set_token_type(303, 3), "control.gguf");
  EXPECT_OK(plan_session(*tied_model(false), options));  // no text is made of it
  refused(tied_model(true), "another device or backend");
  ModelEditor embedding("tied/model.gguf");
  options.draft_model = load(embedding.set("qwen2vl.pooling_type", 1), "draft-embedding.gguf");
  EXPECT_EQ(plan_session(*tied_model(false), options).error().code, ErrorCode::kUnsupported);
}

TEST(DraftModel, OfAShorterContextDraftsAsLongAsItCan) {
  ModelEditor editor("tied/model.gguf");
  SessionOptions options = small_session();
  options.draft_min_probability = 1e-9f;
  options.draft_model = load(editor.set("qwen2vl.context_length", 64), "draft-short.gguf");
  std::vector<std::string> warnings;
  options.log = [&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) warnings.emplace_back(message);
  };
  const auto session = make_session(tied_model(false), options),
             plain = make_session(tied_model(false), small_session());
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("context of 64"), std::string::npos) << warnings[0];
  const Answer answer = must(session->generate({user("7777")}, only({"7"}, 100)));
  EXPECT_EQ(answer.tokens, must(plain->generate({user("7777")}, only({"7"}, 100))).tokens);
  EXPECT_GT(answer.timings.n_accepted_tokens, 10);
  EXPECT_LT(answer.timings.n_accepted_tokens, 64);
}

TEST(DraftModel, IsPartOfThePlan) {
  SessionOptions options = small_session();
  const MemoryPlan without = must(plan_session(*tied_model(false), options));
  options.draft_model = tied_model(false);
  const MemoryPlan with = must(plan_session(*tied_model(false), options));
  EXPECT_EQ(with.weights, 2 * without.weights);
  EXPECT_EQ(with.kv_cache, 2 * without.kv_cache);
  EXPECT_GT(with.decoder_scratch, without.decoder_scratch + 8 * 320 * sizeof(float));
  EXPECT_EQ(with.vision_scratch, without.vision_scratch);
  options.n_draft = 0;
  EXPECT_EQ(must(plan_session(*tied_model(false), options)).total(), without.total());
}

TEST(DraftModel, ItsOptionsHaveARange) {
  SessionOptions options = small_session();
  options.n_draft = kMostDrafts + 1;
  EXPECT_NE(plan_session(*tied_model(), options).error().message.find("n_draft"), std::string::npos);
  options.n_draft = 3;
  for (const float p : {-0.1f, 1.1f, std::numeric_limits<float>::quiet_NaN()}) {
    options.draft_min_probability = p;
    EXPECT_NE(plan_session(*tied_model(), options).error().message.find("draft_min_probability"), std::string::npos);
  }
}

TEST(DraftModel, WhatItReadsOfALongPromptCanBeCancelled) {
  volatile int cancel = 0;
  SessionOptions options = small_session();
  options.draft_model = tied_model(false);
  options.cancel = &cancel;
  const auto session = make_session(tied_model(false), options);
  const GenerateOptions generate = only({"7"}, 50);
  const Answer answer = cancelled_at_once(*session, user("7777 777"), generate, cancel);
  cancel = 0;
  const auto plain = make_session(tied_model(false), small_session());
  const Answer first = must(plain->generate({user("7777 777")}, only({"7"}, 1)));
  EXPECT_EQ(first.tokens, answer.tokens);
  EXPECT_EQ(must(session->generate({}, only({"7"}, 20))).tokens, must(plain->generate({}, only({"7"}, 20))).tokens);
}

}  // namespace
}  // namespace glimpse::testing
