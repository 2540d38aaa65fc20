// Raw messages: prompts without a chat template in a session.
#include <gtest/gtest.h>

#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

using namespace std::string_literals;

Message raw(std::vector<MessagePart> parts) {
  return {kRawRole, std::move(parts)};
}
Message raw(std::string text) {
  return raw({{std::move(text), nullptr}});
}

TEST(SessionRaw, OnlyTheTextsOwnTokensEnterTheCache) {
  const auto session = make_session();
  EXPECT_OK(session->prefill({raw("what is 7?")}, {}));
  const auto ids = must(tied_model()->tokenizer().encode("what is 7?", {.parse_special = true}));
  EXPECT_EQ(session->n_past(), static_cast<int64_t>(ids.size()));
}

// The template written by hand is the template: the same bits.
TEST(SessionRaw, AHandWrittenTemplateEqualsTheChat) {
  const auto chat = make_session(), by_hand = make_session();
  const auto picture = encode(*chat, golden_pictures()[0]);
  EXPECT_OK(
      chat->prefill({{"system", {{"be brief", nullptr}}}, {"user", {{"", picture}, {"what is 7?", nullptr}}}}, {}));
  EXPECT_OK(by_hand->prefill({raw({{"<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n", nullptr},
                                   {"", picture},
                                   {"what is 7?<|im_end|>\n<|im_start|>assistant\n", nullptr}})},
                             {}));
  EXPECT_EQ(by_hand->n_past(), chat->n_past());
  EXPECT_EQ(logits_of(*by_hand), logits_of(*chat));
  EXPECT_EQ(must(by_hand->generate({}, greedy(6))).tokens, must(chat->generate({}, greedy(6))).tokens);
}

// Text after text, and text that begins the model's own turn.
TEST(SessionRaw, FollowsWhateverIsThere) {
  const auto whole = make_session(), parts = make_session();
  EXPECT_OK(whole->prefill({raw("<|im_start|>user\n7<|im_end|>\n<|im_start|>assistant\n77")}, {}));
  EXPECT_OK(parts->prefill({raw("<|im_start|>user\n7<|im_end|>\n")}, {}));
  EXPECT_OK(parts->prefill({raw("<|im_start|>assistant\n")}, {}));
  EXPECT_OK(parts->prefill({raw("77")}, {}));
  EXPECT_EQ(logits_of(*parts), logits_of(*whole));
  const auto begun = make_session(), written = make_session();
  EXPECT_OK(begun->prefill({{"system", {{"s", nullptr}}}, user("7")}, {}));
  EXPECT_OK(begun->prefill({raw("77")}, {}));
  EXPECT_OK(written->prefill(
      {raw("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n7<|im_end|>\n<|im_start|>assistant\n77")}, {}));
  EXPECT_EQ(logits_of(*begun), logits_of(*written));
}

TEST(SessionRaw, AChatMessageAfterItClosesIt) {
  const auto session = make_session(), written = make_session();
  EXPECT_OK(session->prefill({raw("<|im_start|>user\n7<|im_end|>\n<|im_start|>assistant\n77")}, {}));
  EXPECT_OK(session->prefill({user("8")}, {}));
  EXPECT_OK(
      written->prefill({raw("<|im_start|>user\n7<|im_end|>\n<|im_start|>assistant\n77<|im_end|>\n<|im_start|>user\n8"
                            "<|im_end|>\n<|im_start|>assistant\n")},
                       {}));
  EXPECT_EQ(logits_of(*session), logits_of(*written));
}

TEST(SessionRaw, AnswersGoOnAndEnd) {
  const auto session = make_session();
  const Answer first = must(session->generate({raw("7 7 7")}, digits(3)));
  EXPECT_EQ(first.tokens.size(), 3u);
  const Answer more = must(session->generate({}, digits(2)));
  EXPECT_EQ(more.tokens.size(), 2u);
  EXPECT_EQ(more.reason, FinishReason::kMaxTokens);
}

TEST(SessionRaw, RefusesWhatMakesNoSense) {
  const auto session = make_session();
  const auto refused = [&](const std::vector<Message>& messages, const char* word) {
    const Status status = session->prefill(messages, {});
    ASSERT_FALSE(status.ok()) << word;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(status.error().message.find(word), std::string::npos) << status.error().message;
    EXPECT_EQ(session->n_past(), 0);
  };
  refused({raw("")}, "empty");
  refused({raw("a"), raw("b")}, "alone");
  refused({user("a"), raw("b")}, "alone");
  refused({raw("a\0b"s)}, "zero byte at byte 1");
  refused({user("a\0b"s)}, "zero byte at byte 1");
  refused({raw("a<|image_pad|>")}, "<|image_pad|>");
}

}  // namespace
}  // namespace glimpse::testing
