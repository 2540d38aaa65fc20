// Regular expressions against std::regex, on every short text.
#include <gmock/gmock.h>

#include <regex>

#include "tests/constrain/support.h"
#include "tokenizer/utf8.h"

namespace glimpse::testing {
namespace {

using ::testing::HasSubstr;

Constraint::Ptr regex(const std::string& expression) {
  return must(Constraint::compile_regex(small_tokenizer(), expression));
}

// A random expression over a, b and c.
std::string random_expression(std::mt19937& random, int depth) {
  const auto pick = [&](unsigned n) { return random() % n; };
  switch (depth == 0 ? pick(4) : pick(9)) {
    case 0:
      return "a";
    case 1:
      return "b";
    case 2:
      return pick(2) ? "[ab]" : "[^a]";
    case 3:
      return pick(2) ? "." : "\\w";
    case 4:
    case 5:
      return random_expression(random, depth - 1) + random_expression(random, depth - 1);
    case 6:
      return "(" + random_expression(random, depth - 1) + "|" + random_expression(random, depth - 1) + ")";
    default: {
      static const char* const kQuantifiers[] = {"*", "+", "?", "{2}", "{1,}", "{0,2}", "{2,3}", "*?"};
      return "(?:" + random_expression(random, depth - 1) + ")" + kQuantifiers[pick(8)];
    }
  }
}

std::vector<std::string> short_texts() {
  std::vector<std::string> texts = {""};
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() == 4) break;
    for (const char c : {'a', 'b', 'c'}) texts.push_back(texts[i] + c);
  }
  return texts;
}

TEST(Regex, MatchesWhatTheStandardLibraryMatches) {
  std::mt19937 random(7);
  const std::vector<std::string> texts = short_texts();
  int n_matches = 0;
  for (int i = 0; i < 250; ++i) {
    const std::string expression = random_expression(random, 4);
    const std::regex reference(expression);
    const Constraint::Ptr constraint = regex(expression);
    for (const std::string& text : texts) {
      const bool expected = std::regex_match(text, reference);
      n_matches += expected;
      ASSERT_EQ(accepts(*constraint, text), expected) << expression << " on '" << text << "'";
    }
  }
  EXPECT_GT(n_matches, 2000);
}

// The mask holds what allows() says, token by token, wherever the text is; what may be said can always be ended.
TEST(Regex, MasksAreWhatEachTokenSays) {
  std::mt19937 random(11);
  const Tokenizer& tokenizer = small_tokenizer();
  for (int i = 0; i < 40; ++i) {
    const std::string expression = random_expression(random, 4) + "(, \"(é|日|\\w+)\": )?";
    const Constraint::Ptr masks = regex(expression), tokens = regex(expression);
    ConstraintState by_mask = must(masks->start()), by_token = must(tokens->start());
    for (int step = 0; step < 6; ++step) {
      const auto mask = must(by_mask.mask());
      std::vector<TokenId> allowed;
      for (TokenId id = -1; id <= tokenizer.size(); ++id) {
        const bool allows = must(by_token.allows(id));
        ASSERT_EQ(id >= 0 && mask->allows(id), allows) << expression << ", token " << id;
        if (allows && !tokenizer.is_end_of_generation(id)) allowed.push_back(id);
      }
      if (allowed.empty()) break;
      const TokenId id = allowed[random() % allowed.size()];
      ASSERT_TRUE(by_mask.accept(id).ok() && by_token.accept(id).ok());
    }
  }
}

TEST(Regex, DrawnTextsMatch) {
  const char* const expressions[] = {R"((yes|no|maybe)( not)?)", R"([a-c]{3,8}\d{0,2})",
                                     R"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)",
                                     R"(\{"name": "[^"\\]{0,12}", "list": \[\d(, \d){0,3}\]\})", R"((ab|a)*b?c+)"};
  for (const char* expression : expressions) {
    const Constraint::Ptr constraint = regex(expression);
    const std::regex reference(expression);
    for (uint64_t seed = 0; seed < 40; ++seed) {
      const auto text = draw_text(*constraint, seed, 400);
      ASSERT_TRUE(text.has_value()) << expression;
      if (std::all_of(text->begin(), text->end(), [](char c) { return c > 0 && c != '\n' && c != '\r'; })) {
        ASSERT_TRUE(std::regex_match(*text, reference)) << expression << ": '" << *text << "'";
      }
    }
  }
}

TEST(Regex, CharactersAreCodePoints) {
  EXPECT_TRUE(accepts(*regex("[é-ë]"), "ê"));
  EXPECT_FALSE(accepts(*regex("[é-ë]"), "è"));
  EXPECT_TRUE(accepts(*regex("^.$"), "😀"));
  EXPECT_FALSE(accepts(*regex("."), "\xF0\x9F\x98"));
  EXPECT_FALSE(accepts(*regex("."), "\xED\xA0\x80"));  // a surrogate
  EXPECT_FALSE(accepts(*regex("."), "\xC0\x80"));      // overlong
  EXPECT_TRUE(accepts(*regex("[^a]{2}"), "日\n"));
  EXPECT_TRUE(accepts(*regex(R"(\u00e9\x41\u{1F600}\.)"), "éA😀."));
  EXPECT_TRUE(accepts(*regex(R"({"a": \d})"), "{\"a\": 3}"));         // a brace that is no quantifier
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 0x101) {  // each as itself, alone
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    if (c < 0x80) {
      text.push_back(static_cast<char>(c));
    } else {
      const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
      for (int i = n - 1; i > 0; --i)
        text.insert(text.begin(), static_cast<char>(0x80 | (c >> 6 * (n - 1 - i) & 0x3F)));
      text.insert(text.begin(), static_cast<char>((0xF0 << (4 - n) & 0xFF) | c >> 6 * (n - 1)));
    }
    static const Constraint::Ptr any = regex("[^\\u{10FFFF}]"), upper = regex("[\\u{800}-\\u{1234}]");
    ASSERT_EQ(accepts(*any, text), c != 0x10FFFF) << static_cast<uint32_t>(c);
    ASSERT_EQ(accepts(*upper, text), c >= 0x800 && c <= 0x1234) << static_cast<uint32_t>(c);
  }
}

// What is a space differs by language: what is none has to be none in all of them.
TEST(Regex, SpacesAreThoseOfEveryLanguage) {
  for (const char* const none : {"\\S", "[^\\s]", "[\\S]", "[^\\sb]"}) {
    EXPECT_TRUE(accepts(*regex(none), "a")) << none;
    EXPECT_FALSE(accepts(*regex(none), " ")) << none;
    EXPECT_FALSE(accepts(*regex(none), "\u00A0")) << none;
    EXPECT_FALSE(accepts(*regex(none), "\u3000")) << none;
  }
  for (const char* const space : {"\\s", "[\\s]", "[^\\S]"}) {
    EXPECT_TRUE(accepts(*regex(space), "\t")) << space;
    EXPECT_FALSE(accepts(*regex(space), "\u00A0")) << space;
  }
  EXPECT_TRUE(accepts(*regex("\\{[}]{2}{"), "{}}{"));  // braces that are no quantifiers
}

TEST(Regex, ErrorsNameTheCharacter) {
  const auto compile = [](const std::string& text) { return Constraint::compile_regex(small_tokenizer(), text); };
  expect_errors(compile, "the regular expression: ", ErrorCode::kInvalidArgument,
                {
                    {"é(a", "character 2: a group has no ')'"},
                    {"a)", "character 2: there is a ')' without '('"},
                    {"[a", "character 1: a class has no ']'"},
                    {"[z-a]", "end comes before its start"},
                    {"[]a]", "']' first in a class"},
                    {"a**", "nothing to repeat"},
                    {"+", "nothing to repeat"},
                    {"a{2}{3}", "nothing to repeat"},
                    {"a+?{3}", "nothing to repeat"},
                    {"x|{2}", "nothing to repeat: a brace as itself is \\{"},
                    {"a{3,2}", "less than its least"},
                    {"a\\", "a backslash at the end"},
                    {"\\ud800", "surrogate"},
                    {"\\u{110000}", "no code point"},
                    {"a\xFF", "not valid UTF-8"},
                    {"[^\\u{0}-\\u{10FFFF}]", "no text can match"},
                });
  expect_errors(compile, "the regular expression: ", ErrorCode::kUnsupported,
                {
                    {"(?=a)", "look-around"},
                    {"(?<!a)b", "look-around"},
                    {"(?i)a", "kind of group"},
                    {"(a)\\1", "back references"},
                    {"\\bword\\b", "\\b is not supported"},
                    {"\\p{L}", "\\p is not supported"},
                    {"a*+", "possessive"},
                    {"a^b", "'^' stands inside"},
                    {"a$b", "'$' stands before"},
                    {"[[:alpha:]]", "POSIX"},
                });
  expect_errors(compile, "the regular expression: ", ErrorCode::kTooLarge,
                {
                    {"a{100001}", "more than 100000 times"},
                });
}

// Untrusted expressions cost bounded time and memory, and say so.
TEST(Regex, LargeOnesAreRefusedOrCheap) {
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "(";
  EXPECT_EQ(Constraint::compile_regex(small_tokenizer(), deep).error().code, ErrorCode::kTooLarge);
  EXPECT_TRUE(accepts(*regex("((((a{0,999}){0,999}){0,999}){0,999}){0,999}b"), "aaab"));
  // A thousand letters can be cut into groups in many ways: refused on the way, not followed.
  ConstraintState state = must(regex("(((a{1,999}){1,999}){1,999}){1,999}b")->start());
  Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = state.accept(small_tokenizer().find("a"));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kTooLarge);
  // A class of many ranges, in which each further character is looked for.
  std::string wide = "[";
  for (char32_t c = 0x4E00; c < 0x4E00 + 2 * 9000; c += 2) append_utf8(c, wide);
  for (int i = 0; i < 300000; ++i) wide += wide.substr(wide.size() - 3);
  EXPECT_EQ(Constraint::compile_regex(small_tokenizer(), wide + "]").ok(), true);
  // The automaton of this one has 2^20 deterministic states; it is walked, not built.
  const Constraint::Ptr exponential = regex("(a|b)*a(a|b){20}");
  for (uint64_t seed = 0; seed < 5; ++seed) EXPECT_TRUE(draw_text(*exponential, seed, 3000).has_value());
}

}  // namespace
}  // namespace glimpse::testing
