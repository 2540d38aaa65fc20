// Prompts without a chat template, and what any text of a prompt must be.
#include <gtest/gtest.h>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/chat.h"

namespace glimpse {
namespace {

using Ids = std::vector<TokenId>;
using Kind = ChatPart::Kind;
using namespace std::string_literals;

ChatPart text(std::string s) {
  return {Kind::kText, std::move(s), 0};
}
ChatPart image(int64_t n) {
  return {Kind::kImage, "", n};
}

bool has_pad(const std::string& s) {
  return s.find("<|image_pad|>") != std::string::npos || s.find("<|video_pad|>") != std::string::npos;
}

// Whatever stands in a raw text, the ids are the tokenizers library's with special tokens and NFC, as transformers
// calls it.
TEST(ChatRaw, IdsAreThoseOfTheTokenizersLibrary) {
  int n_cases = 0;
  for (const std::string& line : test::split_lines(test::read_data("cases.txt"))) {
    const size_t first = line.find('\t'), last = line.rfind('\t');
    if (line.substr(0, first) != "ns") continue;
    const std::string given = test::unescape(std::string_view(line).substr(first + 1, last - first - 1));
    if (has_pad(given)) continue;
    const auto raw = tokenize_raw(test::small_tokenizer(), {text(given)}, {});
    ASSERT_TRUE(raw.ok()) << line << raw.error().message;
    EXPECT_EQ(raw.value().ids, test::parse_ids(line.substr(last + 1))) << line;
    // However it is cut between two calls of the writer: pieces of a text are one text.
    size_t middle = given.size() / 2;
    while (middle < given.size() && (static_cast<unsigned char>(given[middle]) & 0xC0) == 0x80) ++middle;
    const auto cut =
        tokenize_raw(test::small_tokenizer(), {text(given.substr(0, middle)), text(given.substr(middle))}, {});
    ASSERT_TRUE(cut.ok());
    EXPECT_EQ(cut.value().ids, raw.value().ids) << line;
    ++n_cases;
  }
  EXPECT_GT(n_cases, 400);
}

TEST(ChatRaw, PicturesAreWhatTheTemplateWritesForThem) {
  const auto raw = tokenize_raw(test::small_tokenizer(), {text("A "), image(3), text(" B"), image(1)}, {});
  ASSERT_TRUE(raw.ok());
  const std::string rendered =
      "A <|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|> B<|vision_start|><|image_pad|>"
      "<|vision_end|>";
  const auto expected = test::small_tokenizer().encode(rendered, {.parse_special = true});
  ASSERT_TRUE(expected.ok());
  EXPECT_EQ(raw.value().ids, expected.value());
  ASSERT_EQ(raw.value().visuals.size(), 2u);
  EXPECT_EQ(raw.value().visuals[0].n_tokens, 3);
}

TEST(ChatRaw, NothingIsAdded) {
  const auto empty = tokenize_raw(test::small_tokenizer(), {}, {});
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty.value().ids.empty());
}

TEST(ChatRaw, PadsInTheTextAreRefused) {
  for (const char* pad : {"<|image_pad|>", "a <|video_pad|> b", "<|vision_start|><|image_pad|><|vision_end|>"}) {
    const auto raw = tokenize_raw(test::small_tokenizer(), {text(pad), image(1)}, {});
    ASSERT_FALSE(raw.ok()) << pad;
    EXPECT_EQ(raw.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(raw.error().message.find("_pad|>"), std::string::npos) << raw.error().message;
  }
}

// Where an error says a byte is, it is of what the user wrote: template, pictures and other messages do not count.
TEST(ChatText, OffsetsCountTheUsersOwnText) {
  const auto message = [](const std::vector<ChatMessage>& messages) {
    const auto whole = tokenize_chat(test::small_tokenizer(), messages, {});
    const auto more = tokenize_chat_continuation(test::small_tokenizer(), messages, false, {});
    EXPECT_EQ(whole.ok(), more.ok());
    if (whole.ok()) return std::string("accepted");
    EXPECT_EQ(whole.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(whole.error().message, more.error().message);
    return whole.error().message;
  };
  EXPECT_EQ(message({{"user", {text("abc\xff")}}}), "the user's text is not valid UTF-8 at byte 3 (0xff)");
  EXPECT_EQ(message({{"system", {text("be\xc0")}}, {"user", {text("x")}}}),
            "the system's text is not valid UTF-8 at byte 2 (0xc0)");
  EXPECT_EQ(message({{"user", {text("one")}}, {"assistant", {text("\x80")}}}),
            "the assistant's text is not valid UTF-8 at byte 0 (0x80)");
  EXPECT_EQ(message({{"user", {text("ab"), image(5), text("c\xe2\x82")}}}),
            "the user's text is not valid UTF-8 at byte 3 (0xe2)");
  EXPECT_EQ(message({{"user", {text("a\0b"s)}}}), "the user's text has a zero byte at byte 1: no text has one");
  EXPECT_EQ(message({{"user", {text("\0"s)}}}), "the user's text has a zero byte at byte 0: no text has one");
  EXPECT_EQ(message({{"user", {text("a\xff\0"s)}}}), "the user's text is not valid UTF-8 at byte 1 (0xff)");
  EXPECT_EQ(message({{"user", {text("ab"), text("c\0"s)}}}),
            "the user's text has a zero byte at byte 3: no text has one");
  const auto raw = tokenize_raw(test::small_tokenizer(), {text("ab\0"s)}, {});
  ASSERT_FALSE(raw.ok());
  EXPECT_EQ(raw.error().message, "the raw text has a zero byte at byte 2: no text has one");
}

}  // namespace
}  // namespace glimpse
