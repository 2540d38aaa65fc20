// Many questions at once: each is answered as if it were alone.
#include "engine/serve/engine.h"

#include <atomic>
#include <thread>

#include "tests/engine/engine_support.h"

namespace glimpse::testing {
namespace {

TEST(Engine, AnswersSeveralQuestionsAsIfEachWereAlone) {
  const auto engine = make_engine();
  const std::vector<std::string> questions = {"the cat", "what is it?", "the dog and the cat", "a", "is it"};
  std::vector<RequestResult> results(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) submit(*engine, ask_for(questions[i], 6), results[i]);
  engine->run();
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_OK(results[i].status);
    EXPECT_TRUE(same(results[i].answer, alone(ask_for(questions[i], 6)))) << i;
    EXPECT_GT(results[i].first_token_ms, 0);
    EXPECT_GE(results[i].total_ms, results[i].first_token_ms);
  }
  EXPECT_EQ(engine->stats().n_finished, questions.size());
  expect_all_pages_back(*engine);
}

TEST(Engine, ItsOwnThreadAnswersAboutPictures) {
  const auto engine = make_engine();
  EXPECT_OK(engine->start());
  EXPECT_TRUE(engine->has_thread());
  const Request request = ask_for("what is it?", 5, golden_pictures());
  const RequestResult result = engine->ask(request);
  EXPECT_OK(result.status);
  EXPECT_TRUE(same(result.answer, alone(request, golden_pictures())));
  engine->stop(1000);
  EXPECT_EQ(engine->submit(ask_for("a", 1)).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(engine->ask(ask_for("a", 1)).status.error().code, ErrorCode::kCancelled);
}

TEST(Engine, ATokenOfEveryAnswerTakesOnePass) {
  const auto engine = make_engine();
  std::vector<RequestResult> results(4);
  for (size_t i = 0; i < 4; ++i) {
    submit(*engine, endless(ask_for(format("%d", i), 12)), results[i]);
  }
  engine->run();
  EXPECT_EQ(engine->stats().n_generated_tokens, 48u);
  EXPECT_LE(engine->stats().n_passes, 11u + 4) << "and those of the prompts";
}

// -- whose turn it is ------------------------------------------------------------------------------------------------

TEST(Engine, ALongPromptDoesNotHoldUpAnAnswer) {
  EngineOptions options = small_engine();
  options.batch = 8;
  const auto engine = make_engine(options);
  RequestResult short_one, long_one;
  int n_tokens_before = 0;
  bool long_began = false;
  Request first = endless(ask_for("the cat", 20));
  first.on_token = [&](const Session::Step&) {
    if (!long_began) ++n_tokens_before;
    return true;
  };
  submit(*engine, first, short_one);
  for (int i = 0; i < 8; ++i) engine->step();
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  Request second = ask_for(text, 2);
  second.on_token = [&](const Session::Step&) { return long_began = true; };
  submit(*engine, second, long_one);
  engine->run();
  EXPECT_GT(n_tokens_before, 6) << "tokens of the answer while the prompt went in";
  EXPECT_TRUE(same(short_one.answer, alone(endless(ask_for("the cat", 20)))));
  EXPECT_TRUE(same(long_one.answer, alone(ask_for(text, 2))));
}

TEST(Engine, AShortPromptNeedNotWaitForALongOne) {
  EngineOptions options = small_engine();
  options.batch = 16;
  const auto engine = make_engine(options);
  std::vector<int> order;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  std::vector<RequestResult> results(2);
  for (int i = 0; i < 2; ++i) {
    Request request = ask_for(i == 0 ? text : "a", 1);
    request.on_token = [&order, i](const Session::Step&) {
      order.push_back(i);
      return true;
    };
    submit(*engine, request, results[static_cast<size_t>(i)]);
  }
  engine->run();
  EXPECT_EQ(order, (std::vector<int>{1, 0}));
}

TEST(Engine, AdmitsByPriorityThenByAge) {
  EngineOptions options = small_engine();
  options.n_parallel = 1;
  const auto engine = make_engine(options);
  std::vector<int> order;
  const int priorities[] = {0, 1, 5, 1, 5};
  for (int i = 0; i < 5; ++i) {
    Request request = ask_for("a", 1);
    request.priority = priorities[i];
    request.on_done = [&order, i](const RequestResult&) { order.push_back(i); };
    must(engine->submit(std::move(request)));
  }
  engine->run();
  EXPECT_EQ(order, (std::vector<int>{2, 4, 1, 3, 0}));
}

// Never half way: what is promised is there.
TEST(Engine, WaitsForPagesAndRefusesWhatCanNeverFit) {
  EngineOptions options = small_engine();
  options.pool_slots = 512;  // two pages
  options.n_parallel = 4;
  const auto engine = make_engine(options);
  std::vector<RequestResult> results(6);
  std::string text;
  for (int i = 0; i < 30; ++i) text += format("the cat %d ", i);
  for (size_t i = 0; i < results.size(); ++i) {
    submit(*engine, ask_for(i % 2 == 0 ? text + std::to_string(i) : std::to_string(i), 30), results[i]);
  }
  engine->run();
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_OK(results[i].status);
    EXPECT_TRUE(same(results[i].answer, alone(ask_for(i % 2 == 0 ? text + std::to_string(i) : std::to_string(i), 30))));
  }
  expect_all_pages_back(*engine);
  options.pool_slots = 256;
  const auto smaller = make_engine(options);
  const auto refused = smaller->submit(ask_for("the cat", 400));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(refused.error().message.find("2 pages of 256 positions; the engine has 1"), std::string::npos)
      << refused.error().message;
  std::string much;
  for (int i = 0; i < 600; ++i) much += "7 ";
  EXPECT_EQ(smaller->submit(ask_for(much, 1)).error().code, ErrorCode::kContextFull);
  const auto huge = smaller->submit(ask_for(std::string(1 << 20, 'x'), 1));  // not taken apart first
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.error().code, ErrorCode::kContextFull);
  EXPECT_NE(huge.error().message.find("at least 4096 tokens"), std::string::npos) << huge.error().message;
  EXPECT_EQ(smaller->stats().n_refused, 3u);
}

TEST(Engine, RefusesMoreThanTheQueueHolds) {
  EngineOptions options = small_engine();
  options.n_queued = 2;
  const auto engine = make_engine(options);
  RequestResult results[2];
  for (RequestResult& result : results) submit(*engine, ask_for("a", 1), result);
  EXPECT_EQ(engine->submit(ask_for("a", 1)).error().code, ErrorCode::kBusy);
  engine->run();
  EXPECT_OK(results[1].status);
}

TEST(Engine, SaysAtOnceWhatIsNonsense) {
  const auto engine = make_engine();
  const auto code = [&](Request request) { return engine->submit(std::move(request)).error().code; };
  Request request = ask_for("a", 1);
  request.messages[0].role = "nobody";
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("\xff", 1);
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", -2);
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.generate.stop = {""};
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.messages.push_back({kRawRole, {{"b", nullptr}}});
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.messages[0].parts.push_back({"", std::make_shared<RequestImage>()});
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  EngineOptions options = small_engine();
  options.n_parallel = 0;
  EXPECT_EQ(plan_engine(*tied_model(false), options).error().code, ErrorCode::kInvalidArgument);
}

// -- ends
// --------------------------------------------------------------------------------------------------------------

TEST(Engine, EndsWhatIsCancelledWhereverItStands) {
  EngineOptions options = small_engine();
  options.n_parallel = 2;
  options.batch = 8;
  const auto engine = make_engine(options);
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  RequestResult answering, prompting, waiting, after;
  const RequestId first = submit(*engine, endless(ask_for("a", 100)), answering);
  for (int i = 0; i < 6; ++i) engine->step();
  const RequestId second = submit(*engine, ask_for(text, 3), prompting);
  const RequestId third = submit(*engine, ask_for("b", 3), waiting);
  engine->step();
  for (const RequestId id : {first, second, third, RequestId{999}}) engine->cancel(id);
  engine->run();
  for (const RequestResult* result : {&answering, &prompting, &waiting}) {
    ASSERT_FALSE(result->status.ok());
    EXPECT_EQ(result->status.error().code, ErrorCode::kCancelled);
  }
  EXPECT_FALSE(answering.answer.tokens.empty());
  EXPECT_EQ(answering.answer.reason, FinishReason::kCancelled);
  EXPECT_FALSE(prompting.answer.finished);
  EXPECT_EQ(engine->stats().n_cancelled, 3u);
  submit(*engine, ask_for(text, 3), after);
  engine->run();
  EXPECT_TRUE(same(after.answer, alone(ask_for(text, 3))));
  EXPECT_GT(after.answer.timings.n_cached_tokens, 0) << "what the cancelled one had computed";
  expect_all_pages_back(*engine);
}

TEST(Engine, CallbacksMaySubmitCancelAndEndTheEngine) {
  for (const bool thread : {false, true}) {
    auto engine = make_engine();
    std::atomic<int> n_done{0}, n_submitted{1};
    Engine* const e = engine.get();
    Request again = ask_for("a", 2);
    again.on_done = [&](const RequestResult&) { ++n_done; };
    Request request = endless(ask_for("the cat", 50));
    std::atomic<bool> gone{false};
    request.on_token = [&, e](const Session::Step&) {
      if (n_submitted < 4) {
        must(e->submit(again));
        ++n_submitted;
        EXPECT_FALSE(e->step()) << "nothing to do in a callback";
        EXPECT_TRUE(e->in_callback());
        EXPECT_EQ(e->ask(again).status.error().code, ErrorCode::kInvalidArgument);
      } else if (!gone) {
        engine.reset();
        gone = true;
      }
      return true;
    };
    request.on_done = [&](const RequestResult& result) {
      EXPECT_FALSE(result.status.ok());
      ++n_done;
    };
    if (thread) EXPECT_OK(engine->start());
    must(engine->submit(std::move(request)));
    while (!thread && !gone) e->step();
    while (n_done < n_submitted || !gone) std::this_thread::yield();
    EXPECT_EQ(n_done, 4);
  }
}

TEST(Engine, ManyThreadsAskAtOnce) {
  for (const bool own_thread : {false, true}) {
    const auto engine = make_engine();
    if (own_thread) EXPECT_OK(engine->start());
    const std::vector<Known>& known = known_questions();
    std::atomic<int> n_right{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 5; ++i) {
          const Known& one = known[(3 * t + i) % known.size()];
          const RequestResult result = engine->ask(one.request);
          if (result.status.ok() && same(result.answer, one.answer)) ++n_right;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(n_right, 20);
    if (own_thread) engine->stop(1000);
    expect_all_pages_back(*engine);
  }
}

TEST(Engine, PlansWhatItAllocates) {
  EngineOptions options = small_engine();
  const MemoryPlan one = must(plan_engine(*tied_model(false), options));
  options.n_parallel *= 2;
  const MemoryPlan two = must(plan_engine(*tied_model(false), options));
  EXPECT_EQ(two.kv_cache, 2 * one.kv_cache);
  EXPECT_GT(two.decoder_scratch, one.decoder_scratch);
  EXPECT_EQ(two.vision_scratch, one.vision_scratch);
}

}  // namespace
}  // namespace glimpse::testing
