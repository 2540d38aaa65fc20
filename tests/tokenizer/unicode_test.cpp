#include "tokenizer/unicode.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

// The library's normalisation of a whole text, whose sorting is slow and whose answer is right.
std::string reference_nfc(const std::string& text) {
  utf8proc_uint8_t* out = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::string result(reinterpret_cast<char*>(out), n > 0 ? static_cast<size_t>(n) : 0);
  std::free(out);
  return result;
}

TEST(CharClass, MatchesTheRegexEngineOfTheTokenizersLibrary) {
  std::string expected(0x110000, '-');
  for (const std::string& line : test::split_lines(test::read_data("unicode_classes.txt"))) {
    unsigned first = 0, last = 0;
    char name = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "%X %X %c", &first, &last, &name), 3) << line;
    ASSERT_LT(last, expected.size());
    for (unsigned c = first; c <= last; ++c) expected[c] = name;
  }
  int n_compared = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    // What one side's version of Unicode has not yet assigned is not comparable.
    if (expected[c] == 'U' || utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_CN) continue;
    ++n_compared;
    const char* const names = "-LNS";
    ASSERT_EQ(names[static_cast<int>(char_class(c))], expected[c]) << std::hex << static_cast<uint32_t>(c);
  }
  EXPECT_GT(n_compared, 130000);
}

// Every assigned code point alone, doubled, behind and before letters, marks and the parts of Hangul syllables. The
// only difference there was: U+11A7 behind a syllable without a trailing consonant was lost.
TEST(Nfc, EqualsPythonsOnEveryCodePointInContext) {
  const std::vector<std::string> contexts = {"%",
                                             "a%",
                                             "%\u0301",
                                             "\uac00%",
                                             "\uac01%",
                                             "\u1100%",
                                             "\u1100\u1161%\u11a8",
                                             "%%",
                                             "e\u0323%\u0301",
                                             "\uac00%\u11a8"};
  std::vector<char32_t> assigned;
  std::string text;
  size_t n_hashes = 0;
  for (const std::string& line : test::split_lines(test::read_data("nfc.txt"))) {
    unsigned n = 0, first = 0, last = 0;
    unsigned long long want = 0;
    if (std::sscanf(line.c_str(), "R %X %X", &first, &last) == 2) {
      for (char32_t c = first; c <= last; ++c) assigned.push_back(c);
    } else if (std::sscanf(line.c_str(), "H %u %X %llX", &n, &first, &want) == 3) {
      ASSERT_LT(n, contexts.size());
      ++n_hashes;
      uint64_t hash = 0xCBF29CE484222325u;
      auto c = std::lower_bound(assigned.begin(), assigned.end(), first << 12);
      for (; c != assigned.end() && *c >> 12 == first; ++c) {
        text.clear();
        for (const char byte : contexts[n]) byte == '%' ? append_utf8(*c, text) : text.push_back(byte);
        for (const char byte : to_nfc(text) + "\n") {
          hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
        }
      }
      EXPECT_EQ(hash, want) << "context " << n << ", from U+" << std::hex << (first << 12);
    }
  }
  EXPECT_GT(assigned.size(), 280000u);
  EXPECT_GT(n_hashes, 500u);
}

TEST(Nfc, ComposesAndReorders) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u00e9"), "\u00e9");
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");  // marks in the order of their classes
  EXPECT_EQ(to_nfc("\u1e9b\u0323"), "\u1e9b\u0323");    // UAX #15, figure 5
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8"), "\uac01");    // Hangul is composed by arithmetic
  EXPECT_EQ(to_nfc("\uac00\u11a8"), "\uac01");
  EXPECT_EQ(to_nfc("\uac00\u11a7"), "\uac00\u11a7");  // no trailing consonant
  EXPECT_EQ(to_nfc("\uac00\u11a7\u11a8 \u11a7\u0301"), "\uac00\u11a7\u11a8 \u11a7\u0301");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");        // singleton
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");  // composition exclusion
  EXPECT_EQ(to_nfc("\ufb01"), "\ufb01");        // compatibility only
  EXPECT_EQ(to_nfc("\u0301"), "\u0301");
  EXPECT_EQ(to_nfc("abc\u0301d e\u0301"), "ab\u0107d \u00e9");
}

TEST(Nfc, CutsNowhereThatMatters) {
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = test::random_text(random, random() % 12);
    if (text.find('\0') != std::string::npos) continue;
    ASSERT_EQ(to_nfc(text), reference_nfc(text)) << testing::PrintToString(text);
  }
}

TEST(Nfc, QuickCheckIsNeverWrong) {
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "e";
    append_utf8(c, text);
    const std::string expected = reference_nfc(text);
    if (is_nfc_quickly(text)) {
      ASSERT_EQ(expected, text) << std::hex << static_cast<uint32_t>(c);
    }
    ASSERT_EQ(to_nfc(text), expected) << std::hex << static_cast<uint32_t>(c);
  }
}

TEST(NfcTiming, SortsLongRunsOfMarksQuickly) {
  std::string text = "a";
  for (int i = 0; i < 300000; ++i) text += i % 2 ? "\u0327" : "\u0301";  // classes 202 and 230, out of order
  const auto start = std::chrono::steady_clock::now();
  const std::string normal = to_nfc(text);
  // Exchanging neighbours takes minutes for this.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(normal.substr(0, 4), "\u00e1\u0327");
  EXPECT_EQ(to_nfc(normal), normal);
}

}  // namespace
}  // namespace glimpse
