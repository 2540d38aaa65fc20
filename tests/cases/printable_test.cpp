// What may reach a terminal: every code point, every byte.
#include "tools/terminal/printable.h"

#include <gtest/gtest.h>

#include "tokenizer/utf8.h"

namespace glimpse::terminal {
namespace {

std::string utf8(char32_t c) {
  std::string text;
  append_utf8(c, text);
  return text;
}

bool is_dangerous(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x2028 || c == 0x2029 || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

TEST(Printable, EveryCodePointIsShownOrEscaped) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string given = std::string("a").append(utf8(c)).append("b");
    for (const Layout layout : {Layout::kLine, Layout::kText, Layout::kJson}) {
      const std::string shown = printable(given, layout);
      const bool stays = !is_dangerous(c) || (layout != Layout::kLine && (c == '\n' || c == '\t'));
      ASSERT_EQ(shown == given, stays) << std::hex << static_cast<uint32_t>(c) << ' ' << shown;
      if (stays) continue;
      ASSERT_EQ(shown.substr(0, 2), "a\\");
      for (const char byte : shown) ASSERT_TRUE(byte >= 0x20 && byte < 0x7F) << std::hex << static_cast<uint32_t>(c);
    }
  }
}

TEST(Printable, NamesWhatItHides) {
  EXPECT_EQ(printable("\x1b[31m\x07\x7f", Layout::kLine), "\\x1b[31m\\x07\\x7f");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m \xE2\x80\xAE",
                      Layout::kLine),
            "\\u009b31m \\u202e");
  EXPECT_EQ(printable("a\r\n\tb", Layout::kLine), "a\\r\\n\\tb");
  EXPECT_EQ(printable("a\r\n\tb", Layout::kText), "a\\r\n\tb");
  EXPECT_EQ(printable("\x7f\xC2\x9B", Layout::kJson), "\\u007f\\u009b");
}

TEST(Printable, BytesThatAreNoUtf8AreShown) {
  EXPECT_EQ(printable("\x9b"
                      "31m",
                      Layout::kText),
            "\\x9b31m")
      << "the C1 control of eight bits";
  EXPECT_EQ(printable("\xff\xc0\xaf\xed\xa0\x80", Layout::kLine), "\\xff\\xc0\\xaf\\xed\\xa0\\x80");
  EXPECT_EQ(printable("cut \xe2\x82", Layout::kLine), "cut \\xe2\\x82");
  EXPECT_EQ(printable(std::string("a\0b", 3), Layout::kLine), "a\\x00b");
}

TEST(Printable, WritingOfEveryDirectionStays) {
  for (const char* text : {"\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627\u200f!", "\u4f60\u597d",
                           "e\u0301", "\U0001F469\u200D\U0001F467"}) {
    EXPECT_EQ(printable(text, Layout::kLine), text);
  }
  EXPECT_EQ(printable("", Layout::kLine), "");
}

}  // namespace
}  // namespace glimpse::terminal
