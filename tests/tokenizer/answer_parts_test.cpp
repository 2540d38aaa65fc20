#include "tokenizer/answer_parts.h"

#include <gtest/gtest.h>

#include <random>

#include "tokenizer/json.h"

namespace glimpse {
namespace {

using Options = AnswerSplitter::Options;

// All of it as one text, to compare.
std::string shown(const AnswerParts& parts) {
  std::string text = "[" + parts.reasoning + "][" + parts.content + "]";
  for (const ToolCall& call : parts.tool_calls) text += " " + call.name + call.arguments;
  for (const std::string& problem : parts.problems) text += " !" + problem;
  return text;
}

std::string split(std::string_view text, Options options = {.tool_calls = true}) {
  return shown(split_answer(text, options));
}

TEST(AnswerParts, ContentAloneIsAsItWasSaid) {
  EXPECT_EQ(split(""), "[][]");
  EXPECT_EQ(split("\n Hello.\n"), "[][\n Hello.\n]");
  EXPECT_EQ(split("use <think> tags </think>"), "[][use <think> tags </think>]");
  EXPECT_EQ(split("<thin"), "[][<thin]");
}

TEST(AnswerParts, ThinkingStandsApart) {
  EXPECT_EQ(split("<think>\na\n\nb\n</think>\n\nHello."), "[a\n\nb][Hello.]");
  EXPECT_EQ(split("\n<think></think>Hello.\n"), "[][Hello.\n]");
  EXPECT_EQ(split("<think>\n\n</think>\n\n"), "[][]");
  EXPECT_EQ(split("<think>cut off </thi"), "[cut off </thi][]");
  EXPECT_EQ(split("a\n</think>\n\nb", {.thinking_open = true}), "[a][b]");
  EXPECT_EQ(split("\n\nno end", {.thinking_open = true}), "[no end][]");
  EXPECT_EQ(split("<think>a<think>b</think>c</think>"), "[a<think>b][c</think>]");
}

TEST(AnswerParts, CallsStandApart) {
  EXPECT_EQ(split("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>"), "[][] f{\"x\": 1}");
  EXPECT_EQ(split("<think>t</think>\nOne.\n<tool_call>{\"arguments\": {}, \"name\": \"f\"}</tool_call>\n"
                  "<tool_call>\n{\"name\": \"g\", \"arguments\": {\"s\": \"a </tool_call> \\\"b\"}}\n</tool_call>\n"),
            "[t][One.] f{} g{\"s\": \"a </tool_call> \\\"b\"}");
  EXPECT_EQ(split("A\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\nB\n"), "[][A\n\nB] f{}");
}

TEST(AnswerParts, CallsThatAreNoneStayContentAndAreNamed) {
  const std::string call = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  EXPECT_EQ(split("A\n<tool_call>\n{\"name\" \"f\"}\n</tool_call>\n" + call),
            "[][A\n<tool_call>\n{\"name\" \"f\"}\n</tool_call>] f{} !tool call 1: JSON, line 2, column 9: want ':'");
  EXPECT_EQ(
      split("<tool_call>{\"name\": \"f\", \"arguments\": 3}</tool_call>"),
      "[][<tool_call>{\"name\": \"f\", \"arguments\": 3}</tool_call>] !tool call 1: the call of f has no object of "
      "\"arguments\"");
  EXPECT_EQ(split("<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>"),
            "[][<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>] !tool call 1: the call has no \"name\"");
  EXPECT_EQ(split(call + "\n<tool_call>{\"name\": \"f"), "[][\n<tool_call>{\"name\": \"f] f{} !tool call 2 has no end");
  EXPECT_EQ(split(call, {.tool_calls = false}), "[][" + call + "]");
}

TEST(AnswerParts, DoNotDependOnHowTheTextIsCut) {
  const std::vector<std::string> pieces = {
      "<think>",
      "</think>",
      "<tool_call>",
      "</tool_call>",
      "\n",
      "\n\n",
      "text",
      " ",
      "<",
      "</",
      "\"",
      "\\",
      "{",
      "}",
      "{\"name\": \"f\", \"arguments\": {}}",
      "<tool_call>\n{\"name\": \"g\", \"arguments\": {\"a\": \"<\"}}\n</tool_call>"};
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) text += pieces[random() % pieces.size()];
    const Options options{.thinking_open = random() % 4 == 0, .tool_calls = random() % 4 != 0};
    AnswerSplitter splitter(options);
    AnswerParts parts;
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min<size_t>(1 + random() % 4, text.size() - at);
      append_parts(parts, splitter.push(std::string_view(text).substr(at, n)));
      at += n;
    }
    append_parts(parts, splitter.finish());
    ASSERT_EQ(shown(parts), split(text, options)) << text;
  }
}

TEST(AnswerParts, JoinedAndSplitTheyAreTheSame) {
  const AnswerParts parts{"a\nb", "One.", {{"f", "{\"x\": [1, 2.5]}"}, {"g", "{}"}}, {}};
  ChatStyle style;
  style.thinking = ChatStyle::Thinking::kSinceQuestion;
  const Result<JoinedAnswer> joined = join_answer(parts, style, true);
  ASSERT_TRUE(joined.ok());
  const std::string text = joined.value().thinking + joined.value().said;
  EXPECT_EQ(text,
            "<think>\na\nb\n</think>\n\nOne.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, 2.5]}}\n"
            "</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>");
  EXPECT_EQ(split(text), shown(parts));
  EXPECT_EQ(join_answer({"", "", {{"", "{}"}}, {}}, style, true).error().message, "a tool call has no name");
  // A block is told from text by its place: it is a part of its own, where there is something to keep apart.
  EXPECT_EQ(reasoning_of_block(joined.value().thinking), "a\nb");
  EXPECT_EQ(reasoning_of_block("<think>\n\n</think>\n\n"), "");
  for (const char* const none : {"", "<think>\n</think>\n\n", "<think>\na\n</think>\n\nb", "a"}) {
    EXPECT_EQ(reasoning_of_block(none), std::nullopt) << none;
  }
  EXPECT_EQ(join_answer({.content = "a"}, style, true).value().thinking, "");
  EXPECT_EQ(join_answer({.content = "</think>"}, style, true).value().thinking, "<think>\n\n</think>\n\n");
  EXPECT_EQ(join_answer({.content = "</think>"}, style, false).value().thinking, "");
  style.thinking = ChatStyle::Thinking::kLastMessage;
  EXPECT_EQ(join_answer(parts, style, true).value().thinking, "") << "QwQ's template shows content alone";
}

// An answer that was cut off leaves half an object, and clients send it back.
TEST(AnswerParts, ArgumentsThatAreNoObjectStandAsTheyAre) {
  for (const bool quoted : {false, true}) {
    ChatStyle style;
    style.quotes_arguments = quoted;
    for (const char* const arguments : {R"({"a": "b)", "3", "null", "[1]", "\"a\""}) {
      const Result<JoinedAnswer> joined = join_answer({"", "", {{"f", arguments}}, {}}, style, false);
      ASSERT_TRUE(joined.ok()) << joined.error().message;
      EXPECT_EQ(joined.value().said, "<tool_call>\n{\"name\": \"f\", \"arguments\": " +
                                         (quoted ? json_quoted(arguments) : std::string(arguments)) +
                                         "}\n</tool_call>");
    }
    EXPECT_EQ(join_answer({"", "", {{"f", R"({"a":1})"}}, {}}, style, false).value().said,
              "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>");
  }
}

TEST(AnswerParts, TakeTimeLinearInTheText) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "<tool_call>\"";
  AnswerSplitter splitter({.tool_calls = true});
  AnswerParts parts;
  for (size_t at = 0; at < text.size(); at += 12)
    append_parts(parts, splitter.push(std::string_view(text).substr(at, 12)));
  append_parts(parts, splitter.finish());
  EXPECT_EQ(parts.content, text);
}

}  // namespace
}  // namespace glimpse
