#include "engine/constrain/regex.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/constrain/frontends.h"
#include "tokenizer/utf8.h"

namespace glimpse::constrain {
namespace {

using Expr = GrammarBuilder::Expr;

constexpr int kMaxNesting = 200;

const CodePointSet kDigits = {{'0', '9'}};
const CodePointSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
// What \s may be, and what \S may not be: languages differ beyond ASCII.
const CodePointSet kSpace = {{'\t', '\r'}, {' ', ' '}};
const CodePointSet kAnySpace = {{'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
                                {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodePointSet kLineBreaks = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser {
 public:
  Parser(std::string_view text, GrammarBuilder& builder, const RegexOptions& options)
      : text_(text), builder_(builder), options_(options) {}

  Result<Expr> parse() {
    GLIMPSE_ASSIGN(const Expr expr, alternatives(0));
    if (!at_end()) return error("there is a ')' without '('");
    return expr;
  }

 private:
  bool at_end() const { return pos_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[pos_]; }
  bool looking_at(std::string_view what) const { return text_.substr(pos_, what.size()) == what; }
  bool take(std::string_view what) {
    if (!looking_at(what)) return false;
    pos_ += what.size();
    return true;
  }
  char32_t next() {
    const Utf8Char c = utf8_at(text_, pos_);
    pos_ += c.n_bytes;
    return c.code_point;
  }
  Error error(std::string_view what, ErrorCode code = ErrorCode::kInvalidArgument) const {
    const auto n = std::count_if(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(pos_),
                                 [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    return make_error(code, "character %d: %s", n + 1, what);
  }
  Error unsupported(std::string_view what) const { return error(what, ErrorCode::kUnsupported); }

  Expr characters(const CodePointSet& set) const {
    return options_.characters ? options_.characters(set) : builder_.code_points(set);
  }
  // Any text, what is before or behind a match of a pattern that may be anywhere.
  Expr anything() const { return builder_.repeat(characters(CodePointSet::all()), 0, GrammarBuilder::kUnbounded); }

  Result<Expr> alternatives(int depth) {
    if (depth > kMaxNesting) return error("groups are nested too deeply", ErrorCode::kTooLarge);
    std::vector<Expr> found;
    do {
      GLIMPSE_ASSIGN(const Expr one, sequence(depth));
      found.push_back(one);
      if (builder_.too_large()) return error("the expression is too large", ErrorCode::kTooLarge);
    } while (take("|"));
    return builder_.choice(std::move(found));
  }

  // ^ and $ say where a text begins and ends: the expression is a text already.
  Result<Expr> sequence(int depth) {
    std::vector<Expr> parts;
    bool begins = false, ends = false;
    while (!at_end() && peek() != '|' && peek() != ')') {
      if (ends) return unsupported("'$' stands before other things: no text has anything behind its end");
      if (take("^") || take("\\A")) {
        if (depth > 0 || !parts.empty())
          return unsupported(
              "'^' stands inside: only at the start of the expression, or of an alternative outside of groups");
        begins = true;
      } else if (take("$") || take("\\z") || take("\\Z")) {
        if (depth > 0)
          return unsupported(
              "'$' stands in a group: only at the end of the expression, or of an alternative outside of groups");
        ends = true;
      } else {
        GLIMPSE_ASSIGN(const Expr part, quantified(depth));
        parts.push_back(part);
      }
    }
    if (options_.anywhere && depth == 0) {
      if (!begins) parts.insert(parts.begin(), anything());
      if (!ends) parts.push_back(anything());
    }
    return builder_.sequence(std::move(parts));
  }

  Result<Expr> quantified(int depth) {
    GLIMPSE_ASSIGN(const Expr part, atom(depth));
    GLIMPSE_ASSIGN(const auto range, quantifier());
    if (!range) return part;
    if (take("+")) return unsupported("possessive quantifiers are not regular");
    take("?");  // lazy: the texts are the same
    const size_t behind = pos_;
    GLIMPSE_ASSIGN(const auto second, quantifier());
    pos_ = behind;
    if (second) return error("there is nothing to repeat");
    return builder_.repeat(part, range->first, range->second);
  }

  Result<std::optional<std::pair<uint32_t, uint32_t>>> quantifier() {
    using Range = std::optional<std::pair<uint32_t, uint32_t>>;
    constexpr uint32_t kMany = GrammarBuilder::kUnbounded;
    if (take("*")) return Range({0, kMany});
    if (take("+")) return Range({1, kMany});
    if (take("?")) return Range({0, 1});
    if (peek() != '{') return Range();
    // A brace that is no quantifier is a brace.
    size_t i = pos_ + 1;
    const auto number = [&]() -> std::optional<uint32_t> {
      std::optional<uint32_t> n;
      for (; i < text_.size() && text_[i] >= '0' && text_[i] <= '9'; ++i) {
        n = std::min(n.value_or(0) * 10 + static_cast<uint32_t>(text_[i] - '0'), GrammarBuilder::kMaxRepeats + 1);
      }
      return n;
    };
    const std::optional<uint32_t> min = number();
    std::optional<uint32_t> max = min;
    if (i < text_.size() && text_[i] == ',') {
      ++i;
      max = number();
      if (!max && min) max = kMany;
    }
    if (i >= text_.size() || text_[i] != '}' || !max) return Range();
    if (*max < min.value_or(0)) return error("a repetition whose most is less than its least");
    if (min.value_or(0) > GrammarBuilder::kMaxRepeats || (*max != kMany && *max > GrammarBuilder::kMaxRepeats)) {
      return error(format("a repetition of more than %d times", GrammarBuilder::kMaxRepeats), ErrorCode::kTooLarge);
    }
    pos_ = i + 1;
    return Range({min.value_or(0), *max});
  }

  Result<Expr> atom(int depth) {
    switch (peek()) {
      case '(':
        return group(depth);
      case '[': {
        GLIMPSE_ASSIGN(const CodePointSet set, character_class());
        return characters(set);
      }
      case '.':
        ++pos_;
        return characters(kLineBreaks.complement());
      case '\\': {
        GLIMPSE_ASSIGN(const CodePointSet set, escape(false));
        return characters(set);
      }
      case '*':
      case '+':
      case '?':
        return error("there is nothing to repeat");
      default: {
        const size_t begin = pos_;
        GLIMPSE_ASSIGN(const auto range, quantifier());
        pos_ = begin;
        if (range) return error("there is nothing to repeat: a brace as itself is \\{");
        const char32_t c = next();
        return characters({{c, c}});
      }
    }
  }

  Result<Expr> group(int depth) {
    const size_t open = pos_;
    ++pos_;
    if (take("?")) {
      if (peek() == '=' || peek() == '!' || looking_at("<=") || looking_at("<!")) {
        return unsupported("look-around is not supported");
      }
      if (take("P<") || take("<")) {
        while (!at_end() && peek() != '>') ++pos_;
        if (!take(">")) return error("the name of a group has no end");
      } else if (!take(":")) {
        return unsupported("this kind of group is not supported: (..), (?:..) and (?P<name>..) are");
      }
    }
    GLIMPSE_ASSIGN(const Expr inside, alternatives(depth + 1));
    if (!take(")")) {
      pos_ = open;
      return error("a group has no ')'");
    }
    return inside;
  }

  Result<CodePointSet> character_class() {
    const size_t open = pos_;
    ++pos_;
    const bool negated = take("^");
    if (peek() == ']') return error("a ']' first in a class: write \\]");
    if (looking_at("[:")) return unsupported("POSIX classes such as [:alpha:] are not supported");
    CodePointSet set, at_most;  // at_most: in any language, for what is negated
    while (peek() != ']') {
      if (at_end()) {
        pos_ = open;
        return error("a class has no ']'");
      }
      const bool is_space = looking_at("\\s"), is_no_space = looking_at("\\S");
      GLIMPSE_ASSIGN(const CodePointSet first, class_member());
      const bool single = first.ranges().size() == 1 && first.ranges()[0].first == first.ranges()[0].last;
      if (peek() == '-' && pos_ + 1 < text_.size() && text_[pos_ + 1] != ']') {
        ++pos_;
        GLIMPSE_ASSIGN(const CodePointSet last, class_member());
        const bool one = last.ranges().size() == 1 && last.ranges()[0].first == last.ranges()[0].last;
        if (!single || !one) return error("a range between things that are not single characters");
        if (first.ranges()[0].first > last.ranges()[0].first) return error("a range whose end comes before its start");
        set.add(first.ranges()[0].first, last.ranges()[0].first);
      } else {
        set.add(first);
        if (is_space) at_most.add(kAnySpace);
        if (is_no_space) at_most.add(kSpace.complement());
      }
      if (set.ranges().size() > 10000) return error("a class has too many ranges", ErrorCode::kTooLarge);
    }
    ++pos_;
    if (!negated) return set;
    at_most.add(set);
    return at_most.complement();
  }

  Result<CodePointSet> class_member() {
    if (at_end()) return error("a class has no ']'");
    if (peek() == '\\') return escape(true);
    const char32_t c = next();
    return CodePointSet{{c, c}};
  }

  // Hexadecimal digits, at least `min` and at most `max` of them.
  Result<char32_t> hexadecimal(int min, int max) {
    char32_t value = 0;
    int n = 0;
    for (; n < max && !at_end(); ++n, ++pos_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (n < min || value > kLastCodePoint) return error("an escape is no code point");
    if (value >= 0xD800 && value <= 0xDFFF) return error("an escape is half of a surrogate pair: write the character");
    return value;
  }

  // \xHH, \uHHHH and \u{H..}.
  Result<char32_t> numbered(char32_t kind) {
    if (take("{")) {
      GLIMPSE_ASSIGN(const char32_t value, hexadecimal(1, 6));
      if (!take("}")) return error("an escape has no '}'");
      return value;
    }
    const int n = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    return hexadecimal(n, n);
  }

  Result<CodePointSet> escape(bool in_class) {
    ++pos_;
    if (at_end()) return error("a backslash at the end");
    const char32_t c = next();
    const auto one = [](char32_t x) { return CodePointSet{{x, x}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return kDigits.complement();
      case 'w':
        return kWord;
      case 'W':
        return kWord.complement();
      case 's':
        return kSpace;
      case 'S':
        return kAnySpace.complement();
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x':
      case 'u':
      case 'U': {
        GLIMPSE_ASSIGN(const char32_t value, numbered(c));
        return one(value);
      }
      case 'b':
        if (in_class) return one('\b');
        return unsupported("\\b is not supported");
      case '0':
        if (peek() >= '0' && peek() <= '9') return unsupported("octal escapes are not supported: write \\x..");
        return one(0);
      default:
        if (c >= '1' && c <= '9') return unsupported("back references are not regular");
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
          return unsupported(format("\\%s is not supported", std::string(1, static_cast<char>(c))));
        }
        return one(c);
    }
  }

  const std::string_view text_;
  size_t pos_ = 0;
  GrammarBuilder& builder_;
  const RegexOptions& options_;
};

}  // namespace

Result<Expr> parse_regex(std::string_view expression, GrammarBuilder& builder, const RegexOptions& options) {
  if (const size_t bad = find_invalid_utf8(expression); bad != std::string_view::npos) {
    return make_error(ErrorCode::kInvalidArgument, "byte %d: it is not valid UTF-8", bad);
  }
  return Parser(expression, builder, options).parse();
}

Result<Grammar> regex_grammar(std::string_view expression) {
  GrammarBuilder builder;
  const auto compile = [&]() -> Result<Grammar> {
    const GrammarBuilder::Rule root = builder.add_rule("the expression");
    GLIMPSE_ASSIGN(const Expr expr, parse_regex(expression, builder, {}));
    builder.define(root, expr);
    return builder.build(root);
  };
  auto grammar = compile();
  if (!grammar.ok()) return with_context(std::move(grammar).error(), "the regular expression");
  return grammar;
}

}  // namespace glimpse::constrain
