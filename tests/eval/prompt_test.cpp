// Questions as they were typed or saved, and the places of pictures in them.
#include "tools/prompt/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/eval/prompts.h"

namespace glimpse::prompt {
namespace {

using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;

std::string text(const std::string& bytes) {
  const auto result = text_of_file(bytes, "q.txt");
  return result.ok() ? result.value() : "error: " + result.error().message;
}

TEST(PromptFile, OneFinalLineBreakIsTheFiles) {
  EXPECT_EQ(text("What is this?"), "What is this?");
  EXPECT_EQ(text("What is this?\n"), "What is this?");
  EXPECT_EQ(text("What is this?\r\n"), "What is this?");
  EXPECT_EQ(text("What is this?\n\n"), "What is this?\n");
  EXPECT_EQ(text("\n"), "");
  EXPECT_EQ(text(""), "");
  EXPECT_EQ(text("end\r"), "end\r") << "a lone carriage return is no line break";
}

TEST(PromptFile, WindowsTextIsTheSameText) {
  EXPECT_EQ(text("\xEF\xBB\xBFone\r\ntwo\r\n"), "one\ntwo");
  EXPECT_EQ(text("\xEF\xBB\xBF"), "");
  EXPECT_EQ(text("a\xEF\xBB\xBF"), "a\xEF\xBB\xBF") << "elsewhere it is a character";
  EXPECT_EQ(text("a\r\r\nb"), "a\r\nb");
}

TEST(PromptFile, OtherEncodingsAreNamed) {
  for (const std::string& utf16 : {"\xFF\xFEh\0i\0"s, "\xFE\xFF\0h\0i"s, "h\0i\0\n\0"s, "\0h\0i"s}) {
    EXPECT_THAT(text(utf16), AllOf(HasSubstr("q.txt is UTF-16 text"), HasSubstr("save it as UTF-8")));
  }
  for (const std::string& utf32 : {"\xFF\xFE\0\0h\0\0\0"s, "\0\0\xFE\xFF\0\0\0h"s}) {
    EXPECT_THAT(text(utf32), HasSubstr("q.txt is UTF-32 text"));
  }
}

TEST(PromptFile, OffsetsCountTheFile) {
  EXPECT_THAT(text("What\0 is this?"s), HasSubstr("q.txt has a zero byte at byte 4"));
  EXPECT_THAT(text("\0What is this?"s), HasSubstr("q.txt has a zero byte at byte 0"));
  EXPECT_THAT(text("\xEF\xBB\xBF"
                   "a\r\nb\xff"),
              HasSubstr("q.txt is not valid UTF-8 at byte 7 (0xff)"));
}

std::string pieces(const std::string& prompt, size_t n_pictures, bool raw = false, size_t n_videos = 0) {
  const auto result = place_pictures(prompt, n_pictures, raw, n_videos);
  if (!result.ok()) return "error: " + result.error().message;
  std::string shown;
  for (const Piece& piece : result.value()) {
    shown += piece.is_picture ? "[picture]" : piece.is_video ? "[video]" : "(" + piece.text + ")";
  }
  return shown;
}

TEST(PromptPlaces, VideosHavePlacesOfTheirOwn) {
  EXPECT_EQ(pieces("Is <image> in <video>?", 1, false, 1), "(Is )[picture]( in )[video](?)");
  EXPECT_EQ(pieces("What?", 1, false, 2), "[video][video][picture](What?)") << "first of all";
  EXPECT_EQ(pieces("<image> and what?", 1, false, 1), "[video][picture]( and what?)");
  EXPECT_EQ(pieces("a <video> tag", 1), "[picture](a <video> tag)") << "none is given";
  EXPECT_EQ(pieces("<|vision_start|><|video_pad|><|vision_end|>?", 0, true, 1), "[video](?)");
  EXPECT_THAT(pieces("<video><video>", 0, false, 1),
              AllOf(HasSubstr("2 places for a video"), HasSubstr("is 1 video:")));
}

TEST(PromptPlaces, PicturesComeFirstWithoutAPlace) {
  EXPECT_EQ(pieces("What changed?", 2), "[picture][picture](What changed?)");
  EXPECT_EQ(pieces("What is this?", 0), "(What is this?)");
  EXPECT_EQ(pieces("", 1), "[picture]");
}

TEST(PromptPlaces, PicturesStandWhereTheyAreNamed) {
  EXPECT_EQ(pieces("From <image> to <image>: what changed?", 2), "(From )[picture]( to )[picture](: what changed?)");
  EXPECT_EQ(pieces("<image><__media__>", 2), "[picture][picture]") << "llama.cpp's marker is one too";
  EXPECT_EQ(pieces("<<image>>", 1), "(<)[picture](>)");
  EXPECT_EQ(pieces("\n<image>\n", 1), "(\n)[picture](\n)");
}

TEST(PromptPlaces, WithoutPicturesItIsText) {
  EXPECT_EQ(pieces("What does <image> mean in SVG?", 0), "(What does <image> mean in SVG?)");
}

TEST(PromptPlaces, TheTemplatesOwnPlaceCountsInRawPromptsOnly) {
  const std::string written = "<|vision_start|><|image_pad|><|vision_end|>What?";
  EXPECT_EQ(pieces(written, 1, true), "[picture](What?)");
  EXPECT_EQ(pieces(written, 1, false), "[picture](" + written + ")");
}

TEST(PromptPlaces, AnotherNumberIsAnError) {
  EXPECT_THAT(pieces("<image>?", 2), AllOf(HasSubstr("1 place for"), HasSubstr("there are 2 pictures")));
  EXPECT_THAT(pieces("<image><image>?", 1), AllOf(HasSubstr("2 places for"), HasSubstr("there is 1 picture:")));
}

TEST(PromptPlaces, OffsetsCountTheWholePrompt) {
  EXPECT_EQ(pieces("a <image> b\xff", 1), "error: the prompt is not valid UTF-8 at byte 11 (0xff)");
  EXPECT_THAT(pieces("a <image> b\0"s, 1), HasSubstr("the prompt has a zero byte at byte 11"));
}

TEST(PromptLines, AZeroByteIsRefused) {
  for (const char* line : {R"({"prompt":"a\u0000b","answer":"c"})", R"({"prompt":"a","answer":"c\u0000"})",
                           R"({"image":"x\u0000.png","prompt":"a","answer":"c"})"}) {
    const auto lines = eval::parse_prompt_lines(line, "");
    ASSERT_FALSE(lines.ok()) << line;
    EXPECT_THAT(lines.error().message, AllOf(HasSubstr("line 1"), HasSubstr("zero byte")));
  }
}

}  // namespace
}  // namespace glimpse::prompt
