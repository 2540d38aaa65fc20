// Speculation changes nothing but the number of passes: every test talks to a session with it and to one without.
#include <gtest/gtest.h>

#include <limits>

#include "engine/generate/speculative_decoder.h"
#include "tests/engine/model_editor.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

// Where drafts come from.
struct Way {
  enum Model { kNone, kSame, kOther };
  int n_speculate = 0;
  Model draft_model = kNone;
  int n_draft = 0;
  float min_probability = 1e-9f;  // drafts are never given up
};
constexpr Way kWays[] = {
    {4}, {1}, {kMostDrafts}, {0, Way::kSame, 4}, {0, Way::kOther, 3}, {2, Way::kSame, kMostDrafts, 0}};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.n_speculate << " by lookup, " << way.n_draft << " by model " << way.draft_model;
}

// -- what is compared
// ------------------------------------------------------------------------------------------------------

// All that a caller sees of one call.
struct Seen {
  ErrorCode error = ErrorCode::kInternal;  // of a call that failed
  bool ok = false;
  std::vector<TokenId> tokens;
  std::string text;
  std::vector<std::string> pieces;                  // as streamed
  std::vector<std::pair<TokenId, float>> logprobs;  // drawn token and alternatives, one after another
  FinishReason reason = FinishReason::kStop;
  int64_t n_generated = 0, n_prompt = 0, n_cached = 0;
  int64_t n_past = 0;  // and the session after it
  std::vector<float> logits;
  bool operator==(const Seen&) const = default;
};

void PrintTo(const Seen& seen, std::ostream* out) {
  *out << "ok " << seen.ok << ", " << finish_reason_name(seen.reason) << ", n_past " << seen.n_past << ", "
       << seen.pieces.size() << " pieces of '" << seen.text << "', tokens " << ::testing::PrintToString(seen.tokens);
}

struct Counts {
  int64_t drafted = 0, accepted = 0;
};

// A conversation: the same calls on any session.
struct Talk {
  explicit Talk(Session& s) : session(s) {}
  Session& session;
  std::vector<Seen> seen;
  Counts counts;

  void generate(const std::vector<Message>& messages, GenerateOptions options, size_t cancel_after = 0) {
    Seen now;
    options.on_text = [&](std::string_view text) {
      now.pieces.emplace_back(text);
      return now.pieces.size() != cancel_after;
    };
    Result<Answer> answer = session.generate(messages, options);
    now.ok = answer.ok();
    if (answer.ok()) {
      now.error = {};
      now.tokens = answer->tokens;
      now.text = answer->text;
      now.reason = answer->reason;
      for (const SampledToken& token : answer->logprobs) {
        now.logprobs.emplace_back(token.id, token.logprob);
        for (const TokenLogprob& top : token.top) now.logprobs.emplace_back(top.id, top.logprob);
      }
      now.n_generated = answer->timings.n_generated_tokens;
      now.n_prompt = answer->timings.n_prompt_tokens;
      now.n_cached = answer->timings.n_cached_tokens;
      EXPECT_LE(answer->timings.n_accepted_tokens, answer->timings.n_drafted_tokens);
      counts.drafted += answer->timings.n_drafted_tokens;
      counts.accepted += answer->timings.n_accepted_tokens;
    } else {
      now.error = answer.error().code;
    }
    look(std::move(now));
  }
  void prefill(const std::vector<Message>& messages) {
    Seen now;
    now.ok = session.prefill(messages, {}).ok();
    look(std::move(now));
  }
  void look(Seen now) {
    now.n_past = session.n_past();
    now.logits = logits_of(session);
    seen.push_back(std::move(now));
  }
};

struct SpeculationBackend {
  std::string name;
  bool reference, quantized;
  KvElement kv;
};
void PrintTo(const SpeculationBackend& backend, std::ostream* out) {
  *out << backend.name;
}

std::vector<SpeculationBackend> speculation_backends() {
  std::vector<SpeculationBackend> backends = {{"ref", true, false, KvElement::kF32},
                                              {"quantized", false, true, SessionOptions().kv_element}};
  for (const KvElement kv : kKvElements) {
    backends.push_back({std::string("cpu_") + kv_element_name(kv), false, false, kv});
  }
  return backends;
}

class Speculation : public ::testing::TestWithParam<SpeculationBackend> {
 protected:
  // Quantised weights; float weights; the oracle.
  static std::shared_ptr<const Model> model() {
    if (!GetParam().quantized) return tied_model(GetParam().reference);
    static const std::shared_ptr<const Model> quantized = [] {
      ModelOptions options;
      options.model_path = golden_path("quantized/model.gguf");
      options.n_threads = 1;
      return must(Model::load(options));
    }();
    return quantized;
  }
  // With other weights, the same vocabulary and the same context.
  static std::shared_ptr<const Model> other_model() {
    const auto load = [](bool reference) {
      ModelOptions options;
      options.model_path = golden_path("untied/model.gguf");
      options.use_reference = reference;
      options.n_threads = 1;
      return must(Model::load(options));
    };
    static const std::shared_ptr<const Model> on_reference = load(true), on_cpu = load(false);
    return GetParam().reference ? on_reference : on_cpu;
  }
  static std::unique_ptr<Session> session(const Way& way, int64_t context = 256, int64_t pool_slots = 0) {
    SessionOptions options = small_session(context);
    options.pool_slots = pool_slots;
    options.n_speculate = way.n_speculate;
    options.n_draft = way.n_draft;
    options.draft_min_probability = way.min_probability;
    if (way.draft_model != Way::kNone) options.draft_model = way.draft_model == Way::kSame ? model() : other_model();
    options.kv_element = GetParam().kv;
    return make_session(model(), options);
  }

  // Returns the counts with four drafts of prompt lookup.
  template <typename Conversation>
  static Counts expect_the_same(Conversation converse, int64_t context = 256) {
    const auto plain = session({}, context);
    Talk without(*plain);
    converse(without);
    EXPECT_EQ(without.counts.drafted, 0);
    Counts counts;
    for (const Way& way : kWays) {
      const auto speculating = session(way, context);
      Talk with(*speculating);
      converse(with);
      EXPECT_EQ(with.seen, without.seen) << ::testing::PrintToString(way);
      if (&way == &kWays[0]) counts = with.counts;
    }
    return counts;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, Speculation, ::testing::ValuesIn(speculation_backends()),
                         [](const auto& backend) { return backend.param.name; });

// Two digits at random: drafts are often right and often wrong.
GenerateOptions coin(int64_t max_tokens, uint64_t seed) {
  GenerateOptions options = only({"7", "3"}, max_tokens);
  options.sampler.temperature = 1;
  options.sampler.seed = seed;
  options.n_top_logprobs = 2;
  return options;
}

// -- whole answers
// ---------------------------------------------------------------------------------------------------------

TEST_P(Speculation, RepetitiveAnswersAreTheSameAndNeedFewerPasses) {
  const Counts counts = expect_the_same([](Talk& talk) {
    talk.generate({user("7777 is 7777")}, only({"7"}, 40));
    talk.generate({}, only({"7"}, 12));  // goes on
    talk.generate({user("and 77?")}, only({"7"}, 12));
  });
  // At most four of five tokens can come without a pass.
  EXPECT_GT(counts.accepted, 40);
  EXPECT_LE(counts.accepted, 64 * 4 / 5);
}

TEST_P(Speculation, GreedyAnswersWithoutAnyBiasAreTheSame) {
  const Counts counts = expect_the_same([](Talk& talk) {
    GenerateOptions options = greedy(60);
    options.n_top_logprobs = 3;
    talk.generate({user("the cat and the dog, the cat and the dog")}, options);
    talk.generate({user("the cat and the dog")}, options);
  });
  EXPECT_GT(counts.accepted, 0);  // the greedy answers of random weights run in circles
}

TEST_P(Speculation, SampledAnswersAreTheSameWhereDraftsAreRightAndWrong) {
  for (const uint64_t seed : {0u, 1u, 2u}) {
    const Counts counts = expect_the_same([seed](Talk& talk) {
      talk.generate({user("7 3 7733")}, coin(40, seed));
      talk.generate({user("37")}, coin(30, seed + 10));
    });
    EXPECT_GT(counts.accepted, 0);
    EXPECT_LT(counts.accepted, counts.drafted);
  }
}

TEST_P(Speculation, AnswersThatRepeatNothingHaveNoDrafts) {
  const Counts counts = expect_the_same([](Talk& talk) {
    GenerateOptions options = greedy(40);
    options.sampler.presence_penalty = 1000;  // no token twice
    options.sampler.temperature = 1;
    talk.generate({user("what is it?")}, options);
  });
  EXPECT_EQ(counts.drafted, 0);
}

TEST_P(Speculation, EverySamplerSettingDrawsTheSame) {
  std::vector<SamplerOptions> settings(8);
  settings[0].top_k = 3;
  settings[1].top_p = 0.7f;
  settings[2].min_p = 0.2f;
  settings[3].repetition_penalty = 1.3f;
  settings[4].presence_penalty = 0.5f;
  settings[5].frequency_penalty = 0.3f;
  settings[5].penalty_last_n = 5;
  settings[6].top_k = 5;
  settings[6].top_p = 0.9f;
  settings[6].repetition_penalty = 0.8f;  // rewards what was said
  Counts sum;
  for (SamplerOptions& setting : settings) {
    setting.temperature = 0.8f;
    setting.seed = 5;
    for (const char* digit : {"7", "3", "1"}) {
      setting.logit_bias.emplace_back(tied_model()->tokenizer().find(digit), 20.0f);
    }
    const Counts counts = expect_the_same([&](Talk& talk) {
      GenerateOptions options;
      options.max_tokens = 40;
      options.sampler = setting;
      options.n_top_logprobs = 4;
      talk.generate({user("7 3 7 3 1 7 3")}, options);
      talk.generate({user("1 7 3")}, options);
    });
    sum.accepted += counts.accepted;
  }
  EXPECT_GT(sum.accepted, 0);
}

TEST_P(Speculation, PicturesInThePromptKeepTheirPositions) {
  if (!model()->has_vision()) GTEST_SKIP() << "no vision encoder in this pair";
  const Counts counts = expect_the_same([](Talk& talk) {
    talk.generate(first_messages(talk.session), coin(30, 1));
    talk.generate({user("the dog?")}, greedy(30));
  });
  EXPECT_GT(counts.accepted, 0);
}

// -- ends of all kinds, in the middle of an accepted run
// -------------------------------------------------------------------

TEST_P(Speculation, MaxTokensEndsTheAnswerAtTheSameToken) {
  for (int64_t n = 0; n < 9; ++n) {
    expect_the_same([n](Talk& talk) {
      talk.generate({user("7777")}, only({"7"}, n));
      talk.generate({}, only({"7"}, 3));
      talk.prefill({user("and?")});
    });
  }
}

TEST_P(Speculation, StopStringsEndTheAnswerAtTheSameByte) {
  for (size_t n = 1; n < 9; ++n) {
    expect_the_same([n](Talk& talk) {
      GenerateOptions options = only({"7"}, 30);
      options.stop = {"never", std::string(n, '7')};
      talk.generate({user("7777")}, options);
      EXPECT_EQ(talk.seen.back().reason, FinishReason::kStopString);
      talk.generate({}, coin(20, n));  // goes on before it
      options.stop = {"37", "33"};
      talk.generate({}, coin(20, n));
      options = coin(30, n);
      options.stop = {"7373", "7733", "333"};
      talk.generate({user("7 3 7 3")}, options);
      talk.prefill({user("and?")});
    });
  }
}

TEST_P(Speculation, TheModelsEndOfTheAnswerComesAtTheSameToken) {
  bool ended = false;
  for (const uint64_t seed : {0u, 1u, 2u, 3u}) {
    const Counts counts = expect_the_same([&](Talk& talk) {
      GenerateOptions options = only({"7", "<|im_end|>"}, 60);
      options.sampler.logit_bias[1].second -= 15 * static_cast<float>(seed);  // more and more rare
      options.sampler.temperature = 20;                                       // whatever the model would rather say
      options.sampler.top_k = 2;
      options.sampler.seed = seed;
      talk.generate({user("7777")}, options);
      ended = ended || talk.seen.back().reason == FinishReason::kStop;
      talk.generate({}, options);  // refused after an end
      talk.generate({user("77")}, options);
      talk.prefill({user("and?")});
    });
    EXPECT_GE(counts.drafted, counts.accepted);
  }
  EXPECT_TRUE(ended);
}

TEST_P(Speculation, ContextFullComesAtTheSameToken) {
  for (const int64_t context : {60, 61, 62, 63, 64}) {
    const Counts counts = expect_the_same(
        [context](Talk& talk) {
          talk.generate({user("777 777")}, only({"7"}, -1));
          EXPECT_EQ(talk.seen.back().reason, FinishReason::kContextFull);
          EXPECT_EQ(talk.seen.back().n_past, context);
          talk.generate({}, only({"7"}, -1));
          talk.generate({user("?")}, only({"7"}, -1));
          talk.session.reset();
          talk.generate({user("777 777")}, coin(-1, 4));
        },
        context);
    EXPECT_GT(counts.accepted, 0);
  }
}

TEST_P(Speculation, CancellingInTheMiddleOfAnAcceptedRunKeepsTheSame) {
  for (size_t n = 1; n < 12; ++n) {
    expect_the_same([n](Talk& talk) {
      talk.generate({user("7777")}, only({"7"}, 40), n);
      EXPECT_EQ(talk.seen.back().reason, FinishReason::kCancelled);
      EXPECT_EQ(talk.seen.back().tokens.size(), n);
      if (n % 2 == 0) talk.generate({}, coin(12, n), 5);
      talk.generate({user("and 77?")}, coin(12, n));
      talk.prefill({user("and?")});
    });
  }
}

TEST_P(Speculation, TextHeldBackComesInTheSamePieces) {
  const Tokenizer& tokenizer = tied_model()->tokenizer();
  std::vector<TokenId> bytes;  // of the euro sign, each a token of its own
  for (const char* byte : {"\xe2", "\x82", "\xac"}) {
    for (TokenId i = 0; i < tokenizer.size(); ++i) {
      if (tokenizer.token_bytes(i, false) == byte) bytes.push_back(i);
    }
  }
  ASSERT_EQ(bytes.size(), 3u);
  expect_the_same([&](Talk& talk) {
    GenerateOptions options;
    options.max_tokens = 50;
    for (const TokenId id : bytes) options.sampler.logit_bias.emplace_back(id, 100.0f);
    options.sampler.temperature = 1;
    options.stop = {"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"};
    talk.generate({user("\xe2\x82\xac\xe2\x82\xac \xe2\x82\xac")}, options);
    talk.prefill({user("and?")});
  });
}

// -- step by step
// ----------------------------------------------------------------------------------------------------------

void expect_the_same_step(Session& plain, Session& speculating) {
  const Result<Session::Step> a = plain.step(), b = speculating.step();
  ASSERT_EQ(a.ok(), b.ok());
  if (a.ok()) {
    EXPECT_EQ(a->token.id, b->token.id);
    EXPECT_EQ(a->token.logprob, b->token.logprob);
    EXPECT_EQ(a->text, b->text);
    EXPECT_EQ(a->finished, b->finished);
    EXPECT_EQ(a->reason, b->reason);
  }
  EXPECT_EQ(plain.n_past(), speculating.n_past());
  EXPECT_EQ(logits_of(plain), logits_of(speculating));
  EXPECT_EQ(plain.timings().n_generated_tokens, speculating.timings().n_generated_tokens);
}

TEST_P(Speculation, EveryStepShowsTheSameSession) {
  for (const Way& way : kWays) {
    const auto plain = session({}), speculating = session(way);
    const auto both = [&](auto call) {
      call(*plain);
      call(*speculating);
    };
    both([](Session& s) { EXPECT_OK(s.prefill({user("7 3 7733 7733")}, {})); });
    both([](Session& s) { EXPECT_OK(s.begin_answer(coin(30, 8))); });
    for (int i = 0; i < 31; ++i) expect_the_same_step(*plain, *speculating);  // the last is refused
    EXPECT_GT(speculating->timings().n_accepted_tokens, 0);

    // Another answer, other messages or a reset while drafts wait.
    for (int given_up = 1; given_up < 6; ++given_up) {
      both([](Session& s) { EXPECT_OK(s.begin_answer(only({"7"}, 30))); });
      for (int i = 0; i < given_up + 3; ++i) expect_the_same_step(*plain, *speculating);
      both([](Session& s) { EXPECT_OK(s.begin_answer(coin(30, 9))); });
      for (int i = 0; i < given_up; ++i) expect_the_same_step(*plain, *speculating);
      both([](Session& s) { EXPECT_OK(s.prefill({user("77")}, {})); });
      EXPECT_EQ(logits_of(*plain), logits_of(*speculating));
    }
    both([](Session& s) { EXPECT_OK(s.begin_answer(only({"7"}, 30))); });
    for (int i = 0; i < 7; ++i) expect_the_same_step(*plain, *speculating);
    both([](Session& s) { s.reset(); });
    EXPECT_FALSE(speculating->logits().ok());
    EXPECT_EQ(speculating->n_past(), 0);
    both([](Session& s) { EXPECT_OK(s.prefill({user("77")}, {})); });
    EXPECT_EQ(logits_of(*plain), logits_of(*speculating));
  }
}

TEST_P(Speculation, ACallThatFailsWhileDraftsWaitLeavesTheSame) {
  for (const Way& way : kWays) {
    const auto plain = session({}), speculating = session(way);
    for (Session* s : {plain.get(), speculating.get()}) {
      EXPECT_OK(s->prefill({user("7777")}, {}));
      EXPECT_OK(s->begin_answer(only({"7"}, 30)));
      for (int i = 0; i < 4; ++i) must(s->step());
      GenerateOptions cancelled = greedy(3);
      cancelled.progress = [](std::string_view, double) { return false; };
      EXPECT_EQ(s->generate({user("and?")}, cancelled).error().code, ErrorCode::kCancelled);
      EXPECT_OK(s->begin_answer(only({"7"}, 30)));
    }
    for (int i = 0; i < 30; ++i) expect_the_same_step(*plain, *speculating);
  }
}

// -- a draft model
// --------------------------------------------------------------------------------------------------------

TEST_P(Speculation, ADraftModelThatIsTheModelIsAlwaysRight) {
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

TEST_P(Speculation, ABadDraftModelIsAskedMoreAndMoreRarely) {
  const Timings timings = must(session({0, Way::kOther, 4, 0}, 512)->generate({user("the cat")}, greedy(300))).timings;
  EXPECT_LT(timings.n_accepted_tokens, 10);  // the two have nothing in common
  EXPECT_LT(timings.n_drafted_tokens, timings.n_generated_tokens / 3);
}

TEST_P(Speculation, ConstrainedAnswersAreTheSameWithADraftModel) {
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
TEST_P(Speculation, ForksCheckpointsAndSavedSessionsGoOnWithTheirDraftModel) {
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

// -- what bounds the drafts
// ------------------------------------------------------------------------------------------------

TEST(SpeculationLimits, ABatchBoundsTheDrafts) {
  const auto plain = make_session();
  const Answer want = must(plain->generate({user("7777")}, only({"7"}, 30)));
  for (const int64_t batch : {1, 2, 3}) {
    SessionOptions options = small_session();
    options.batch = batch;
    options.n_speculate = kMostDrafts;
    const auto session = make_session(tied_model(), options);
    const Answer answer = must(session->generate({user("7777")}, only({"7"}, 30)));
    EXPECT_EQ(answer.tokens, want.tokens);
    EXPECT_EQ(logits_of(*session), logits_of(*plain));
    EXPECT_EQ(answer.timings.n_drafted_tokens > 0, batch > 1);
    EXPECT_LE(answer.timings.n_accepted_tokens, 30 * (batch - 1) / batch);
  }
}

TEST(SpeculationLimits, ThePlanHoldsTheLogitsOfEveryDraft) {
  SessionOptions options = small_session();
  const uint64_t without = must(plan_session(*tied_model(), options)).decoder_scratch;
  options.n_speculate = 7;
  EXPECT_EQ(must(plan_session(*tied_model(), options)).decoder_scratch, without + 7 * 320 * sizeof(float));
}

TEST(SpeculationLimits, TheNumberOfDraftsHasARange) {
  for (const int n : {-1, kMostDrafts + 1}) {
    SessionOptions options = small_session();
    options.n_speculate = n;
    for (const Error& error :
         {plan_session(*tied_model(), options).error(), Session::create(tied_model(), options).error()}) {
      EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
      EXPECT_NE(error.message.find("n_speculate"), std::string::npos) << error.message;
      EXPECT_NE(error.message.find("[0, 15]"), std::string::npos) << error.message;
    }
  }
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
  GenerateOptions generate = only({"7"}, 50);
  generate.on_text = [&](std::string_view) {
    cancel = 1;
    return true;
  };
  const Answer answer = must(session->generate({user("7777 777")}, generate));
  EXPECT_EQ(answer.reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.tokens.size(), 1u);
  cancel = 0;
  const auto plain = make_session(tied_model(false), small_session());
  const Answer first = must(plain->generate({user("7777 777")}, only({"7"}, 1)));
  EXPECT_EQ(first.tokens, answer.tokens);
  EXPECT_EQ(must(session->generate({}, only({"7"}, 20))).tokens, must(plain->generate({}, only({"7"}, 20))).tokens);
}

std::vector<float> copy_of(SpeculativeDecoder& decoder) {
  const std::span<float> logits = must(decoder.logits());
  return {logits.begin(), logits.end()};
}

TEST(SpeculativeDecoder, DraftsCountOnlyOnceTheyAreTaken) {
  SessionSizes sizes;
  sizes.context = 32;
  sizes.batch = 16;
  sizes.n_speculate = 3;
  sizes.pool_slots = sizes.context;
  sizes.max_image_tokens = 1;
  sizes.max_image_patches = 4;
  const auto bench = must(Workbench::create(tied_model(), sizes, must(tied_model()->make_ops(1)), KvElement::kF32));
  SpeculativeDecoder decoder = must(SpeculativeDecoder::create(*tied_model(), bench, sizes));
  EXPECT_FALSE(decoder.has_logits());
  const std::vector<TokenId> ids = {40, 41, 42, 43, 44};
  const std::vector<MropePosition> positions = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {3, 3, 3}, {4, 4, 4}};
  std::vector<std::vector<float>> logits;  // one token at a time
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_OK(decoder.append({std::span(ids).subspan(i, 1), std::span(positions).subspan(i, 1), {}}, {}));
    logits.emplace_back(copy_of(decoder));
  }
  const auto expect_at = [&](int64_t n_past, size_t n_drafts) {
    EXPECT_EQ(decoder.n_past(), n_past);
    EXPECT_EQ(decoder.drafts().size(), n_drafts);
    EXPECT_EQ(copy_of(decoder), logits[static_cast<size_t>(n_past - 1)]);
  };
  decoder.truncate(1);
  EXPECT_FALSE(decoder.has_logits());
  const auto ids_from_1 = std::span(ids).subspan(1);
  EXPECT_OK(decoder.append_with_drafts(ids_from_1, std::span(positions).subspan(1)));
  expect_at(2, 3);
  EXPECT_FALSE(decoder.take_draft(99));
  expect_at(2, 3);
  EXPECT_TRUE(decoder.take_draft(42));
  expect_at(3, 2);
  decoder.drop_drafts();
  expect_at(3, 0);
  EXPECT_FALSE(decoder.take_draft(43));

  // A token that was not drafted takes the place of the drafts.
  decoder.truncate(1);
  const std::vector<TokenId> guess = {41, 99, 98, 97};
  EXPECT_OK(decoder.append_with_drafts(guess, std::span(positions).subspan(1)));
  expect_at(2, 3);
  EXPECT_OK(decoder.append({std::span(ids).subspan(2, 1), std::span(positions).subspan(2, 1), {}}, {}));
  expect_at(3, 0);

  // A pass that fails is tried without drafts; 320 is no token.
  decoder.truncate(1);
  const std::vector<TokenId> impossible = {41, 42, 320};
  EXPECT_OK(decoder.append_with_drafts(impossible, std::span(positions).subspan(1, 3)));
  expect_at(2, 0);
  const std::vector<TokenId> wrong = {320, 42};
  EXPECT_EQ(decoder.append_with_drafts(wrong, std::span(positions).subspan(2, 2)).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(decoder.n_past(), 2);
  EXPECT_FALSE(decoder.has_logits());
  EXPECT_OK(decoder.append({std::span(ids).subspan(2, 1), std::span(positions).subspan(2, 1), {}}, {}));
  expect_at(3, 0);
}

}  // namespace
}  // namespace glimpse::testing
