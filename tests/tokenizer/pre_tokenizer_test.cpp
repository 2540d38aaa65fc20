#include "tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/tokenizer/fixtures.h"

namespace glimpse {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(std::string_view text) {
  Pieces result;
  for (size_t begin = 0; begin < text.size();) {
    const size_t n = next_piece(text, begin);
    result.emplace_back(text.substr(begin, n));
    begin += n;
  }
  return result;
}

TEST(PreTokenizer, Rule1CutsContractions) {
  EXPECT_EQ(pieces("it's we're I've I'm you'll he'd don't"),
            (Pieces{"it", "'s", " we", "'re", " I", "'ve", " I", "'m", " you", "'ll", " he", "'d", " don", "'t"}));
  EXPECT_EQ(pieces("x'S'T'Re'vE'M'lL'D"), (Pieces{"x", "'S", "'T", "'Re", "'vE", "'M", "'lL", "'D"}));
  EXPECT_EQ(pieces("x'sy"), (Pieces{"x", "'s", "y"}));
  EXPECT_EQ(pieces("x'\u017fy"), (Pieces{"x", "'\u017f", "y"}));  // long s folds to s
  EXPECT_EQ(pieces("'ra 'v' l"), (Pieces{"'ra", " '", "v", "'", " l"}));
  EXPECT_EQ(pieces("'"), (Pieces{"'"}));
  EXPECT_EQ(pieces("'r"), (Pieces{"'r"}));
  EXPECT_EQ(pieces(" 'RE"), (Pieces{" '", "RE"}));  // the space takes the apostrophe along by rule 4
}

TEST(PreTokenizer, Rule2TakesOneLeadBeforeLetters) {
  EXPECT_EQ(pieces("ab cd"), (Pieces{"ab", " cd"}));
  EXPECT_EQ(pieces("(ab)"), (Pieces{"(ab", ")"}));
  EXPECT_EQ(pieces("((ab"), (Pieces{"((", "ab"}));  // rule 4 is greedy and leaves no lead
  EXPECT_EQ(pieces("\tab\u00a0cd"), (Pieces{"\tab", "\u00a0cd"}));
  EXPECT_EQ(pieces("\nab\rcd"), (Pieces{"\n", "ab", "\r", "cd"}));
  EXPECT_EQ(pieces("e\u0301a"), (Pieces{"e", "\u0301a"}));  // a mark is no letter, but may lead
  EXPECT_EQ(pieces("1a"), (Pieces{"1", "a"}));
  EXPECT_EQ(pieces("\u4e2d\u6587abc"), (Pieces{"\u4e2d\u6587abc"}));
}

TEST(PreTokenizer, Rule3NeverGroupsNumbers) {
  EXPECT_EQ(pieces("123 4\u00b2\u2167\u0663"), (Pieces{"1", "2", "3", " ", "4", "\u00b2", "\u2167", "\u0663"}));
}

TEST(PreTokenizer, Rule4TakesPunctuationWithItsLineEnds) {
  EXPECT_EQ(pieces("a !?"), (Pieces{"a", " !?"}));
  EXPECT_EQ(pieces("!?\r\n\n a"), (Pieces{"!?\r\n\n", " a"}));
  EXPECT_EQ(pieces("!\t\n"), (Pieces{"!", "\t\n"}));
  EXPECT_EQ(pieces("  !"), (Pieces{" ", " !"}));
  EXPECT_EQ(pieces("\t!"), (Pieces{"\t", "!"}));  // only U+0020 leads
  EXPECT_EQ(pieces("\U0001F600\u200d!x"), (Pieces{"\U0001F600\u200d!", "x"}));
}

TEST(PreTokenizer, Rule5TakesBlanksUpToTheLastLineEnd) {
  EXPECT_EQ(pieces("a \n\n  b"), (Pieces{"a", " \n\n", " ", " b"}));
  EXPECT_EQ(pieces(" \n \r "), (Pieces{" \n \r", " "}));
  EXPECT_EQ(pieces("\n\n"), (Pieces{"\n\n"}));
  EXPECT_EQ(pieces("\u2028\nx"), (Pieces{"\u2028\n", "x"}));
  EXPECT_EQ(pieces("\u2028x"), (Pieces{"\u2028x"}));  // a line separator is no CR or LF
}

TEST(PreTokenizer, Rule6LeavesOneBlankForWhatFollows) {
  EXPECT_EQ(pieces("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(pieces("   1"), (Pieces{"  ", " ", "1"}));
  EXPECT_EQ(pieces("\t\t!"), (Pieces{"\t", "\t", "!"}));
  EXPECT_EQ(pieces("\u3000\u3000\u4e2d"), (Pieces{"\u3000", "\u3000\u4e2d"}));
}

TEST(PreTokenizer, Rule7TakesBlanksAtTheEnd) {
  EXPECT_EQ(pieces("a   "), (Pieces{"a", "   "}));
  EXPECT_EQ(pieces(" 1"), (Pieces{" ", "1"}));
  EXPECT_EQ(pieces(" "), (Pieces{" "}));
}

TEST(PreTokenizer, LosesNothing) {
  std::mt19937 random(3);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = test::random_text(random, random() % 30);
    std::string joined;
    for (const std::string& piece : pieces(text)) {
      ASSERT_FALSE(piece.empty());
      joined += piece;
    }
    ASSERT_EQ(joined, text);
  }
}

}  // namespace
}  // namespace glimpse
