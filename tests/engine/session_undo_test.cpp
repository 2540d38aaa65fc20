// A call that does not end well, in whatever way, leaves the session as it was.
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

// Ways out of a call from one of its callbacks.
enum class WayOut { kCancel, kException };

bool leave(WayOut way) {
  if (way == WayOut::kException) throw std::runtime_error("a callback");
  return false;
}

/// Runs `call` with a callback that leaves at its first call, its second, ... until one runs through.
void leave_everywhere(WayOut way, const std::function<bool(const std::function<bool()>& callback)>& call) {
  for (int n = 1; n < 500; ++n) {
    int calls = 0;
    bool through = false;
    try {
      through = call([&] { return ++calls != n || leave(way); });
    } catch (const std::runtime_error&) {
    }
    if (through) {
      EXPECT_GT(n, 2);
      return;
    }
  }
  FAIL() << "it never ran through";
}

class SessionUndo : public ::testing::TestWithParam<WayOut> {};

TEST_P(SessionUndo, APromptThatFailsChangesNothing) {
  const auto session = make_session(), calm = make_session();
  const Answer first = must(session->generate({user("the cat")}, digits(5)));
  must(calm->generate({user("the cat")}, digits(5)));
  leave_everywhere(GetParam(), [&](const std::function<bool()>& callback) {
    const int64_t before = session->n_past();
    const auto progress = [&](std::string_view, double) { return callback(); };
    const Status done = session->prefill({user("the dog 7 7 7 and the cat")}, progress);
    if (!done.ok()) {
      EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
      EXPECT_EQ(session->n_past(), before);
      EXPECT_EQ(session->answer().text, first.text);
    }
    return done.ok();
  });
  EXPECT_OK(calm->prefill({user("the dog 7 7 7 and the cat")}, {}));
  EXPECT_EQ(logits_of(*session), logits_of(*calm));
}

TEST_P(SessionUndo, AnAnswerInTheMakingSurvivesAFailedCall) {
  const Answer whole = must(make_session()->generate({user("the cat")}, digits(8)));
  for (const int n_steps : {0, 1, 4}) {
    const auto session = make_session();
    EXPECT_OK(session->prefill({user("the cat")}, {}));
    EXPECT_OK(session->begin_answer(digits(8)));
    for (int i = 0; i < n_steps; ++i) EXPECT_OK(session->step());
    GenerateOptions options = digits(3);
    options.progress = [&](std::string_view, double fraction) { return fraction < 0.4 || leave(GetParam()); };
    try {
      EXPECT_FALSE(session->generate({user("the dog")}, options).ok());
    } catch (const std::runtime_error&) {
    }
    EXPECT_FALSE(session->answer().finished);
    EXPECT_EQ(session->answer().tokens.size(), static_cast<size_t>(n_steps));
    for (int i = n_steps; i < 8; ++i) EXPECT_OK(session->step());
    EXPECT_EQ(session->answer().text, whole.text);
    EXPECT_EQ(session->answer().reason, FinishReason::kMaxTokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, SessionUndo, ::testing::Values(WayOut::kCancel, WayOut::kException),
                         [](const auto& way) { return way.param == WayOut::kCancel ? "Cancel" : "Exception"; });

TEST(SessionUndo, AnExceptionOfTheTextCallbackForgetsTheTurn) {
  const auto session = make_session(), calm = make_session();
  const auto options = [](std::function<bool(std::string_view)> on_text) {
    GenerateOptions o = digits(6);
    o.stop = {"77777"};
    o.on_text = std::move(on_text);
    return o;
  };
  for (const char* const text : {"the cat", "the dog"}) {
    const Answer want = must(calm->generate({user(text)}, options({})));
    leave_everywhere(WayOut::kException, [&](const std::function<bool()>& callback) {
      const Answer got = must(session->generate({user(text)}, options([&](std::string_view) { return callback(); })));
      EXPECT_EQ(got.text, want.text);
      EXPECT_EQ(got.timings.n_cached_tokens, want.timings.n_cached_tokens);
      return true;
    });
  }
}

TEST(SessionUndo, TheTextCallbackHearsOfEveryToken) {
  const auto session = make_session();
  GenerateOptions options = only({"<|vision_start|>"}, 5);
  int n_calls = 0;
  options.on_text = [&](std::string_view text) {
    EXPECT_EQ(text, "");
    return ++n_calls < 3;
  };
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.tokens.size(), 3u);
}

TEST(SessionUndo, TheFlagEndsPassesAndAnswers) {
  volatile int cancel = 0;
  SessionOptions session_options = small_session();
  session_options.cancel = &cancel;
  const auto session = make_session(tied_model(), session_options);
  const Answer answer = cancelled_at_once(*session, user("the cat"), digits(50), cancel);
  EXPECT_EQ(session->prefill({user("and?")}, {}).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->encode_image(golden_pictures()[0], nullptr, {}).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session->step().error().code, ErrorCode::kCancelled);
  cancel = 0;
  EXPECT_OK(session->prefill({user("and?")}, {}));
  EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(answer.text), user("and?")}));
}

}  // namespace
}  // namespace glimpse::testing
