// GBNF against a matcher that follows the definition of a grammar, and against llama.cpp's own examples.
#include <gmock/gmock.h>

#include <set>

#include "tests/constrain/support.h"

namespace glimpse::testing {
namespace {

using ::testing::HasSubstr;

Result<Constraint::Ptr> compile(const std::string& grammar) {
  return Constraint::compile_gbnf(small_tokenizer(), grammar);
}
Constraint::Ptr gbnf(const std::string& grammar) {
  return must(compile(grammar));
}

// -- random grammars with a slow twin

struct Symbol {
  enum Kind { kText, kClass, kRule, kGroup } kind;
  std::string text;  // kText: itself; kClass: its characters
  size_t rule = 0;
  std::vector<std::vector<Symbol>> alternatives;  // kGroup
  int min = 1, max = 1;                           // -1: any number
};
using Sequence = std::vector<Symbol>;
using Rules = std::vector<std::vector<Sequence>>;

class RandomGrammar {
 public:
  explicit RandomGrammar(uint32_t seed) : random_(seed) {
    const size_t n = 1 + random_() % 4;
    rules_.resize(n);
    for (size_t i = 0; i < n; ++i) rules_[i] = alternatives(2, i);
  }

  std::string text() const {
    std::string result;
    for (size_t i = 0; i < rules_.size(); ++i) {
      result +=
          (i == 0 ? "root" : "r-" + std::to_string(i)) + " ::= " + spell(rules_[i]) + (i % 2 ? " # rule\n" : "\n\n");
    }
    return result;
  }
  bool matches(const std::string& text) { return ends(rules_[0], text, 0).count(text.size()) > 0; }

 private:
  // A rule may call any behind a letter, else later ones only: none begins with itself.
  std::vector<Sequence> alternatives(int depth, size_t rule) {
    std::vector<Sequence> result(1 + random_() % 2);
    for (Sequence& sequence : result) {
      bool behind_letter = false;
      for (size_t i = 0, n = random_() % 4; i < n; ++i) {
        sequence.push_back(symbol(depth, rule, behind_letter));
        behind_letter |= (sequence.back().kind == Symbol::kText || sequence.back().kind == Symbol::kClass) &&
                         sequence.back().min > 0;
      }
    }
    return result;
  }
  Symbol symbol(int depth, size_t rule, bool behind_letter) {
    Symbol s{};
    switch (random_() % (depth > 0 ? 5 : 4)) {
      case 0:
        s.kind = Symbol::kText;
        s.text = random_() % 2 ? "a" : "ab";
        break;
      case 1:
        s.kind = Symbol::kClass;
        s.text = random_() % 2 ? "ab" : "b";
        break;
      case 2:
      case 3: {
        const size_t first = behind_letter ? 0 : rule + 1;
        if (first >= rules_.size()) {
          s.kind = Symbol::kText;
          s.text = "b";
          break;
        }
        s.kind = Symbol::kRule;
        s.rule = first + random_() % (rules_.size() - first);
        return s;
      }
      default:
        s.kind = Symbol::kGroup;
        s.alternatives = alternatives(depth - 1, rule);
    }
    static constexpr std::pair<int, int> kRepeats[] = {{1, 1}, {1, 1}, {0, -1}, {1, -1}, {0, 1},
                                                       {2, 2}, {1, 3}, {0, 2},  {2, -1}};
    std::tie(s.min, s.max) = kRepeats[random_() % 9];
    return s;
  }

  static std::string spell(const std::vector<Sequence>& alternatives) {
    std::string result;
    for (size_t i = 0; i < alternatives.size(); ++i) {
      if (i > 0) result += " | ";
      for (const Symbol& s : alternatives[i]) {
        if (s.kind == Symbol::kText) result += '"' + s.text + '"';
        if (s.kind == Symbol::kClass) result += s.text == "b" ? "[^ac]" : "[a-b]";
        if (s.kind == Symbol::kRule) result += s.rule == 0 ? "root" : "r-" + std::to_string(s.rule);
        if (s.kind == Symbol::kGroup) result += "(\n " + spell(s.alternatives) + " )";
        if (s.max < 0) result += s.min == 0 ? "*" : s.min == 1 ? "+" : "{" + std::to_string(s.min) + ",}";
        if (s.max == 1 && s.min == 0) result += "?";
        if (s.max > 1)
          result += "{" + std::to_string(s.min) + (s.max == s.min ? "" : "," + std::to_string(s.max)) + "}";
        result += " ";
      }
      if (alternatives[i].empty()) result += "\"\"";
    }
    return result;
  }

  using Ends = std::set<size_t>;
  Ends ends(const std::vector<Sequence>& alternatives, const std::string& text, size_t begin) {
    Ends result;
    for (const Sequence& sequence : alternatives) {
      Ends at = {begin};
      for (const Symbol& s : sequence) at = repeated(s, text, at);
      result.insert(at.begin(), at.end());
    }
    return result;
  }
  Ends repeated(const Symbol& s, const std::string& text, Ends at) {
    Ends result;
    if (s.min == 0) result = at;
    // More rounds than bytes bring nothing new.
    for (int i = 1; (s.max < 0 || i <= s.max) && i <= s.min + static_cast<int>(text.size()) + 1 && !at.empty(); ++i) {
      Ends next;
      for (const size_t begin : at) {
        const Ends one = once(s, text, begin);
        next.insert(one.begin(), one.end());
      }
      at = next;
      if (i >= s.min) result.insert(at.begin(), at.end());
    }
    return result;
  }
  Ends once(const Symbol& s, const std::string& text, size_t begin) {
    switch (s.kind) {
      case Symbol::kText:
        return text.compare(begin, s.text.size(), s.text) == 0 ? Ends{begin + s.text.size()} : Ends{};
      case Symbol::kClass:
        return begin < text.size() && s.text.find(text[begin]) != std::string::npos ? Ends{begin + 1} : Ends{};
      case Symbol::kRule: {
        const auto key = std::make_tuple(s.rule, begin, text);
        const auto known = memo_.find(key);
        if (known != memo_.end()) return known->second;
        return memo_[key] = ends(rules_[s.rule], text, begin);
      }
      default:
        return ends(s.alternatives, text, begin);
    }
  }

  std::mt19937 random_;
  Rules rules_;
  std::map<std::tuple<size_t, size_t, std::string>, Ends> memo_;
};

TEST(Gbnf, MatchesWhatTheDefinitionMatches) {
  std::vector<std::string> texts = {""};
  for (size_t i = 0; texts[i].size() < 5; ++i) {
    for (const char c : {'a', 'b'}) texts.push_back(texts[i] + c);
  }
  size_t n_matches = 0, n_grammars = 0, n_ambiguous = 0;
  for (uint32_t seed = 0; seed < 250; ++seed) {
    RandomGrammar grammar(seed);
    const auto constraint = compile(grammar.text());
    if (!constraint.ok()) {
      // Rules that go round behind what may be empty, or never end.
      ASSERT_THAT(constraint.error().message,
                  ::testing::AnyOf(HasSubstr("begins with itself"), HasSubstr("no text can match")))
          << grammar.text();
      continue;
    }
    ++n_grammars;
    for (const std::string& text : texts) {
      const bool expected = grammar.matches(text);
      n_matches += expected;
      try {
        ASSERT_EQ(accepts(*constraint.value(), text), expected) << grammar.text() << "on '" << text << "'";
      } catch (const TooAmbiguous&) {
        ++n_ambiguous;
      }
    }
  }
  EXPECT_EQ(n_ambiguous, 0u);
  EXPECT_GT(n_grammars, 150u);
  EXPECT_GT(n_matches, 1000u);
}

TEST(Gbnf, ReadsTheNotation) {
  const Constraint::Ptr one = gbnf(R"(# comment
root ::= item ("," ws item)* # behind
item ::=
  "a\"\\\n\x41é" | [^\]a-c\-\u3042] |
  "\U0001F600" |
  .
ws ::= [ \t]{0,2}
)");
  EXPECT_TRUE(accepts(*one, "a\"\\\nAé,x,  😀,]"));
  EXPECT_FALSE(accepts(*one, "a\"\\\nAé,x,   y"));
  EXPECT_TRUE(accepts(*gbnf("root ::= (\n\"a\"\n|\n\"b\"\n)+\n"), "abba"));
  EXPECT_TRUE(accepts(*gbnf("root ::= [^x]"), "日"));
  EXPECT_TRUE(accepts(*gbnf("root::=\"a\"{2}\r\n"), "aa"));
}

// The grammars that come with llama.cpp use what people use. As of its grammars/ folder: chess, the list, arithmetic.
TEST(Gbnf, TakesTheWaysOfLlamaCpp) {
  const Constraint::Ptr chess = gbnf(R"(root    ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move    ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn    ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle  ::= "O-O" "-O"?
)");
  EXPECT_TRUE(accepts(*chess, "1. e4 e5\n2. Nf3 Nc6\n3. Bb5 a6\n"));
  EXPECT_FALSE(accepts(*chess, "1. e4 e9\n2. Nf3 Nc6\n"));
  const Constraint::Ptr json = gbnf(R"(root ::= object
value  ::= object | array | string | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
ws ::= | " " | "\n" [ \t]{0,20}
)");
  EXPECT_TRUE(accepts(*json, "{\"a\":[true, {}],\n  \"é\\u00e9\": {\"b\": null}}"));
  EXPECT_FALSE(accepts(*json, "{\"a\":tru}"));
  const Constraint::Ptr sums = gbnf(
      "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" ws expr "
      "\")\" ws\n"
      "ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*\n");
  EXPECT_TRUE(accepts(*sums, "(a+1)*2=b3 \n1=1\n"));
}

// Tokens as terminals: those that are no text, too.
TEST(Gbnf, TokensAreSymbols) {
  const Tokenizer& tokenizer = small_tokenizer();
  const TokenId box = tokenizer.find("<|box_start|>"), call = tokenizer.find("<tool_call>"), a = tokenizer.find("a");
  ConstraintState state = must(gbnf("root ::= <|box_start|> \"a\" !<tool_call>* <tool_call>")->start());
  EXPECT_TRUE(must(state.mask())->allows(box));
  EXPECT_FALSE(must(state.mask())->allows(a));
  ASSERT_TRUE(state.accept(box).ok());
  ASSERT_TRUE(state.accept(a).ok());
  const auto mask = must(state.mask());
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    const bool is_text = !tokenizer.token_bytes(id, false).empty();
    EXPECT_EQ(mask->allows(id), is_text) << id;
    EXPECT_EQ(must(state.allows(id)), is_text) << id;
  }
  ASSERT_TRUE(state.accept(tokenizer.find("b")).ok());
  ASSERT_TRUE(state.accept(call).ok());
  EXPECT_TRUE(state.is_complete());
  EXPECT_TRUE(accepts(*gbnf("root ::= <[" + std::to_string(a) + "]>"), "a"));
}

// Any token but one, or any but another: each of thousands of places is not asked about each token.
TEST(Gbnf, TokensThatAreRefusedAreThoseThatAllPlacesRefuse) {
  const Tokenizer& tokenizer = small_tokenizer();
  const TokenId a = tokenizer.find("a"), b = tokenizer.find("b");
  const auto mask_of = [](const std::string& text) {
    ConstraintState state = must(gbnf(text)->start());
    return must(state.mask());
  };
  const std::string but_a = format("!<[%d]>", a), but_b = format("!<[%d]>", b);
  EXPECT_FALSE(mask_of("root ::= " + but_a + " | " + but_a + " \"x\"")->allows(a));
  EXPECT_TRUE(mask_of("root ::= " + but_a + " | " + but_a + " \"x\"")->allows(b));
  EXPECT_TRUE(mask_of("root ::= " + but_a + " | " + but_b)->allows(a));
  EXPECT_TRUE(mask_of("root ::= " + but_a + format(" | <[%d]>", a))->allows(a));
  std::string many = "root ::= ";
  for (int i = 0; i < 16000; ++i) many += (i > 0 ? "|" : "") + but_a;
  const auto mask = mask_of(many);
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    EXPECT_EQ(mask->allows(id), id != a && !tokenizer.token_bytes(id, false).empty()) << id;
  }
}

TEST(Gbnf, ErrorsNameLineAndColumn) {
  expect_errors(compile, "the grammar: ", ErrorCode::kInvalidArgument,
                {
                    {"", "there is no rule 'root'"},
                    {"start ::= \"a\"", "there is no rule 'root'"},
                    {"root ::= a\n", "line 1, column 11: rule 'a' is used and nowhere defined"},
                    {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: rule 'root' is defined twice"},
                    {"root = \"a\"", "line 1, column 6: want '::='"},
                    {"root ::= \"a", "line 1, column 10: a text in quotes has no end"},
                    {"root ::= [a", "line 1, column 10: a class has no ']'"},
                    {"root ::= (\"a\"", "line 1, column 10: want ')'"},
                    {"root ::= \"é\" )", "line 1, column 14: rule 'root' goes on with something unknown"},
                    {"root ::= \"a\"{2", "want {m}, {m,} or {m,n}"},
                    {"root ::= \"a\"{3,2}", "less than its least"},
                    {"root ::= [z-a]", "end comes before its start"},
                    {"root ::= \"\\q\"", "line 1, column 11: an unknown escape"},
                    {"root ::= \"\\x4\"", "too few hexadecimal digits"},
                    {"root ::= \"\\uD800\"", "surrogate"},
                    {"root ::= \"\\UFFFFFFFF\"", "no code point"},
                    {"root ::= root \"a\" | \"b\"", "rule 'root' begins with itself"},
                    {"root ::= \"a\" root", "no text can match"},
                    {"root ::= <nothing>", "line 1, column 10: the vocabulary has no token '<nothing>'"},
                    {"root ::= <[99999]>", "token 99999: the vocabulary has ids 0 to"},
                    {"root ::= <|im_end|>", "ends the answer"},
                    {"root ::= <[1]", "a token has no '>'"},
                    {"root ::= !a", "want a token"},
                    {"root ::= \"\xFF\"", "not valid UTF-8"},
                });
  expect_errors(compile, "the grammar: ", ErrorCode::kTooLarge,
                {
                    {"root ::= \"a\"{1000000}", "more than 100000 times"},
                });
  std::string deep = "root ::= ";
  for (int i = 0; i < 300; ++i) deep += "(";
  EXPECT_EQ(compile(deep).error().code, ErrorCode::kTooLarge);
}

// Right recursion costs no memory: the last call of a rule needs no return.
TEST(Gbnf, ListsMayBeWrittenAsRecursion) {
  const Constraint::Ptr list = gbnf("root ::= \"a\" root | \"b\"");
  EXPECT_TRUE(accepts(*list, std::string(20000, 'a') + "b"));
  const Constraint::Ptr nested = gbnf("root ::= \"(\" root \")\" | \"a\"");
  EXPECT_TRUE(accepts(*nested, std::string(3000, '(') + "a" + std::string(3000, ')')));
  EXPECT_FALSE(accepts(*nested, std::string(3000, '(') + "a" + std::string(2999, ')')));
}

// Which alternative a text is of may be open for as long as it likes: what they have in common is read once. With a
// stack for each way to read it there are 2, 3, 4 of them after a letter and that to the power of ten after ten.
TEST(Gbnf, AlternativesThatBeginAlikeMayRecurse) {
  const std::string deep(100, 'a');
  const Constraint::Ptr ends = gbnf("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root | \"x\"");
  std::string behind;
  for (int i = 0; i < 100; ++i) behind += i % 3 == 0 ? "b" : "c";
  EXPECT_TRUE(accepts(*ends, deep + "x" + behind));
  EXPECT_TRUE(accepts(*ends, deep + "x" + behind.substr(0, 60)));
  EXPECT_FALSE(accepts(*ends, deep + "x" + behind + "b"));
  EXPECT_FALSE(accepts(*ends, deep + behind));
  const Constraint::Ptr sums = gbnf(
      "root ::= sum\nsum ::= product \"+\" sum | product \"-\" sum | product\n"
      "product ::= value \"*\" product | value \"/\" product | value\nvalue ::= \"(\" sum \")\" | [a-z]+\n");
  std::string open, close;
  for (int i = 0; i < 200; ++i) open += "(a*(", close += ")-b)";
  EXPECT_TRUE(accepts(*sums, open + "c/d+e" + close));
  EXPECT_FALSE(accepts(*sums, open + "c/d+e" + close + ")"));
  EXPECT_FALSE(accepts(*sums, open + "c/+e" + close));
  // Wherever an answer is, what it may say next is known.
  ConstraintState state = must(sums->start());
  for (const char c : open + "c") {
    const auto mask = must(state.mask());
    EXPECT_TRUE(mask->allows(small_tokenizer().find(std::string(1, c)))) << c;
    ASSERT_TRUE(state.accept(small_tokenizer().find(std::string(1, c))).ok());
  }
  const auto mask = must(state.mask());
  for (const char c : {')', '*', '/', '+', '-', 'x'}) {
    EXPECT_TRUE(mask->allows(small_tokenizer().find(std::string(1, c)))) << c;
  }
  EXPECT_FALSE(mask->allows(small_tokenizer().find("(")));
  EXPECT_FALSE(state.can_end());
}

}  // namespace
}  // namespace glimpse::testing
