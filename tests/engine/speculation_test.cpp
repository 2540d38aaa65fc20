// Drafts of prompt lookup, and what holds for drafts of any kind: every test talks to a session with them and to one
// without.
#include "tests/engine/speculation_support.h"

namespace glimpse::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Backends, Speculation, ::testing::ValuesIn(speculation_backends()),
                         [](const auto& backend) { return backend.param.name; });

// -- whole answers

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
    // Another model's drafts may all be wrong, and it is then asked more rarely.
    if (way.draft_model != Way::kOther) {
      EXPECT_GT(speculating->timings().n_accepted_tokens, 0);
    }

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

// -- what bounds the drafts

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
