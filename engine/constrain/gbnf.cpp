// GBNF, the grammars of llama.cpp. Source of the notation: its grammars/README.md.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/constrain/frontends.h"
#include "tokenizer/utf8.h"

namespace glimpse::constrain {
namespace {

using Expr = GrammarBuilder::Expr;

constexpr int kMaxNesting = 200;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class Parser {
 public:
  Parser(std::string_view text, const Tokenizer& tokenizer) : text_(text), tokenizer_(tokenizer) {}

  Result<Grammar> parse() {
    skip(true);
    while (pos_ < text_.size()) GLIMPSE_TRY(rule());
    for (const auto& [name, info] : rules_) {
      if (info.defined) continue;
      pos_ = info.used_at;
      return error(format("rule '%s' is used and nowhere defined", name));
    }
    const auto root = rules_.find(std::string_view("root"));
    if (root == rules_.end()) return make_error(ErrorCode::kInvalidArgument, "there is no rule 'root'");
    return builder_.build(root->second.rule);
  }

 private:
  struct RuleInfo {
    GrammarBuilder::Rule rule = 0;
    bool defined = false;
    size_t used_at = 0;
  };

  char peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
  bool take(std::string_view what) {
    if (text_.substr(pos_, what.size()) != what) return false;
    pos_ += what.size();
    return true;
  }
  // Line and column, in characters, from 1.
  Error error(std::string_view what, ErrorCode code = ErrorCode::kInvalidArgument) const {
    const TextPlace place = text_place(text_, pos_);
    return make_error(code, "line %d, column %d: %s", place.line, place.column, what);
  }
  // Blanks and comments; line breaks only where the rule goes on behind them.
  void skip(bool over_lines) {
    for (;; ++pos_) {
      if (peek() == '#') {
        while (pos_ < text_.size() && text_[pos_] != '\n' && text_[pos_] != '\r') ++pos_;
      }
      const char c = peek();
      if (pos_ >= text_.size() || !(c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r')))) return;
    }
  }

  Result<std::string_view> name() {
    const size_t begin = pos_;
    while (is_word(peek())) ++pos_;
    if (pos_ == begin) return error("want the name of a rule");
    return text_.substr(begin, pos_ - begin);
  }

  RuleInfo& rule_of(std::string_view name) {
    const auto found = rules_.find(name);
    if (found != rules_.end()) return found->second;
    RuleInfo info{builder_.add_rule(format("rule '%s'", name)), false, pos_};
    return rules_.emplace(std::string(name), info).first->second;
  }

  Status rule() {
    const size_t begin = pos_;
    GLIMPSE_ASSIGN(const std::string_view called, name());
    RuleInfo& info = rule_of(called);
    if (info.defined) {
      pos_ = begin;
      return error(format("rule '%s' is defined twice", called));
    }
    info.defined = true;
    skip(false);
    if (!take("::=")) return error(format("want '::=' behind the name of rule '%s'", called));
    skip(true);
    GLIMPSE_ASSIGN(const Expr expr, alternatives(0));
    builder_.define(info.rule, expr);
    if (pos_ < text_.size() && peek() != '\n' && peek() != '\r')
      return error(format("rule '%s' goes on with something unknown", called));
    skip(true);
    return {};
  }

  Result<Expr> alternatives(int depth) {
    if (depth > kMaxNesting) return error("parentheses are nested too deeply", ErrorCode::kTooLarge);
    std::vector<Expr> found;
    while (true) {
      GLIMPSE_ASSIGN(const Expr one, sequence(depth));
      found.push_back(one);
      if (builder_.too_large()) return error("the grammar is too large", ErrorCode::kTooLarge);
      if (!take("|")) return builder_.choice(std::move(found));
      skip(true);
    }
  }

  Result<Expr> sequence(int depth) {
    std::vector<Expr> parts;
    while (true) {
      const char c = peek();
      Expr part = builder_.empty();
      if (c == '"') {
        GLIMPSE_ASSIGN(part, literal());
      } else if (c == '[') {
        GLIMPSE_ASSIGN(part, character_class());
      } else if (c == '(') {
        GLIMPSE_ASSIGN(part, group(depth));
      } else if (c == '.') {
        ++pos_;
        part = builder_.code_points(CodePointSet::all());
      } else if (c == '<' || c == '!') {
        GLIMPSE_ASSIGN(part, token());
      } else if (is_word(c)) {
        GLIMPSE_ASSIGN(const std::string_view called, name());
        part = builder_.call(rule_of(called).rule);
      } else {
        return builder_.sequence(std::move(parts));
      }
      skip(depth > 0);
      GLIMPSE_ASSIGN(part, repeated(part, depth));
      parts.push_back(part);
    }
  }

  // Any number of * + ? {m,n} behind a symbol.
  Result<Expr> repeated(Expr part, int depth) {
    while (true) {
      if (take("*")) {
        part = builder_.repeat(part, 0, GrammarBuilder::kUnbounded);
      } else if (take("+")) {
        part = builder_.repeat(part, 1, GrammarBuilder::kUnbounded);
      } else if (take("?")) {
        part = builder_.optional(part);
      } else if (take("{")) {
        GLIMPSE_ASSIGN(part, counted(part));
      } else {
        return part;
      }
      skip(depth > 0);
    }
  }

  Result<Expr> counted(Expr part) {
    const auto number = [&]() -> std::optional<uint32_t> {
      skip(false);
      std::optional<uint32_t> n;
      for (; peek() >= '0' && peek() <= '9'; ++pos_) {
        n = std::min(n.value_or(0) * 10 + static_cast<uint32_t>(peek() - '0'), GrammarBuilder::kMaxRepeats + 1);
      }
      skip(false);
      return n;
    };
    const std::optional<uint32_t> min = number();
    std::optional<uint32_t> max = min;
    if (take(",")) {
      max = number();
      if (!max) max = GrammarBuilder::kUnbounded;
    }
    if (!min || !take("}")) return error("want {m}, {m,} or {m,n}");
    if (*max < *min) return error("a repetition whose most is less than its least");
    if (*min > GrammarBuilder::kMaxRepeats ||
        (*max != GrammarBuilder::kUnbounded && *max > GrammarBuilder::kMaxRepeats)) {
      return error(format("a repetition of more than %d times", GrammarBuilder::kMaxRepeats), ErrorCode::kTooLarge);
    }
    return builder_.repeat(part, *min, *max);
  }

  Result<Expr> group(int depth) {
    const size_t open = pos_;
    ++pos_;
    skip(true);
    GLIMPSE_ASSIGN(const Expr inside, alternatives(depth + 1));
    if (!take(")")) {
      if (pos_ >= text_.size()) pos_ = open;
      return error("want ')'");
    }
    return inside;
  }

  Result<char32_t> character() {
    if (peek() != '\\') {
      const Utf8Char c = utf8_at(text_, pos_);
      pos_ += c.n_bytes;
      return c.code_point;
    }
    ++pos_;
    const char kind = peek();
    ++pos_;
    switch (kind) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'x':
      case 'u':
      case 'U': {
        char32_t value = 0;
        for (int n = kind == 'x' ? 2 : kind == 'u' ? 4 : 8; n > 0; --n, ++pos_) {
          const char c = peek();
          const int digit = c >= '0' && c <= '9'   ? c - '0'
                            : c >= 'a' && c <= 'f' ? c - 'a' + 10
                            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                   : -1;
          if (digit < 0) return error("an escape has too few hexadecimal digits");
          value = value * 16 + static_cast<char32_t>(digit);
          if (value > kLastCodePoint) return error("an escape is no code point");
        }
        if (value >= 0xD800 && value <= 0xDFFF) return error("an escape is half of a surrogate pair");
        return value;
      }
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return static_cast<char32_t>(kind);
      default:
        pos_ -= 2;
        pos_ = std::min(pos_, text_.size());
        return error("an unknown escape: \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ \\xHH \\uHHHH \\UHHHHHHHH are known");
    }
  }

  Result<Expr> literal() {
    const size_t open = pos_;
    ++pos_;
    std::string text;
    while (peek() != '"') {
      if (pos_ >= text_.size()) {
        pos_ = open;
        return error("a text in quotes has no end");
      }
      GLIMPSE_ASSIGN(const char32_t c, character());
      append_utf8(c, text);
    }
    ++pos_;
    return builder_.literal(text);
  }

  Result<Expr> character_class() {
    const size_t open = pos_;
    ++pos_;
    const bool negated = take("^");
    CodePointSet set;
    while (peek() != ']') {
      if (pos_ >= text_.size()) {
        pos_ = open;
        return error("a class has no ']'");
      }
      GLIMPSE_ASSIGN(const char32_t first, character());
      char32_t last = first;
      if (peek() == '-' && pos_ + 1 < text_.size() && text_[pos_ + 1] != ']') {
        ++pos_;
        GLIMPSE_ASSIGN(last, character());
      }
      if (last < first) return error("a range whose end comes before its start");
      set.add(first, last);
      if (set.ranges().size() > 10000) return error("a class has too many ranges", ErrorCode::kTooLarge);
    }
    ++pos_;
    return builder_.code_points(negated ? set.complement() : set);
  }

  // <[id]>, <text>, and ! before them: any token of text but that.
  Result<Expr> token() {
    const size_t begin = pos_;
    TokenTerminal terminal;
    terminal.any_but = take("!");
    if (!take("<")) return error("want a token, <[id]> or <text>, behind '!'");
    const size_t end = text_.find('>', pos_);
    if (end == std::string_view::npos) return error("a token has no '>'");
    TokenId id = -1;
    if (take("[")) {
      int64_t value = 0;
      const size_t digits = pos_;
      for (; peek() >= '0' && peek() <= '9'; ++pos_) value = std::min<int64_t>(value * 10 + (peek() - '0'), INT32_MAX);
      if (pos_ == digits || !take("]>")) return error("want <[id]>");
      id = static_cast<TokenId>(value);
    } else {
      const std::string text(text_.substr(begin, end + 1 - begin).substr(terminal.any_but ? 1 : 0));
      id = tokenizer_.find(text);
      pos_ = end + 1;
      if (id < 0) {
        pos_ = begin;
        return error(format("the vocabulary has no token '%s'", text));
      }
    }
    if (id >= tokenizer_.size() || tokenizer_.is_end_of_generation(id)) {
      pos_ = begin;
      return error(format("token %d: the vocabulary has ids 0 to %d, and one that ends the answer cannot be in it", id,
                          tokenizer_.size() - 1));
    }
    terminal.ids = {id};
    return builder_.token(std::move(terminal));
  }

  const std::string_view text_;
  const Tokenizer& tokenizer_;
  size_t pos_ = 0;
  GrammarBuilder builder_;
  std::map<std::string, RuleInfo, std::less<>> rules_;
};

}  // namespace

Result<Grammar> gbnf_grammar(std::string_view text, const Tokenizer& tokenizer) {
  const size_t bad = find_invalid_utf8(text);
  auto grammar = bad == std::string_view::npos
                     ? Parser(text, tokenizer).parse()
                     : Result<Grammar>(make_error(ErrorCode::kInvalidArgument, "byte %d: it is not valid UTF-8", bad));
  if (!grammar.ok()) return with_context(std::move(grammar).error(), "the grammar");
  return grammar;
}

}  // namespace glimpse::constrain
