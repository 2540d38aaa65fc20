#include "engine/constrain/json_strings.h"

#include <map>
#include <utility>

#include "tokenizer/json.h"
#include "tokenizer/utf8.h"

namespace glimpse::constrain {
namespace {

using Expr = GrammarBuilder::Expr;

// What JSON does not let stand for itself.
const CodePointSet kEscaped = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};

// Sources: RFC 3339 (dates, times, durations; leap seconds left out), RFC 4122, RFC 2673 and 4291 (addresses), RFC 1123
// (host names), RFC 3986; each a part of what the format allows that no reader refuses.
#define GLIMPSE_YEAR "(000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define GLIMPSE_LEAP_YEAR "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define GLIMPSE_DATE                                                                                   \
  "(" GLIMPSE_YEAR                                                                                     \
  "-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))" \
  "|" GLIMPSE_LEAP_YEAR "-02-29)"
#define GLIMPSE_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define GLIMPSE_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,40}[A-Za-z0-9])?"
#define GLIMPSE_HOST GLIMPSE_LABEL "(\\." GLIMPSE_LABEL "){0,4}"
#define GLIMPSE_H "[0-9a-f]{1,4}"

const std::pair<std::string_view, const char*> kFormats[] = {
    {"date", GLIMPSE_DATE},
    {"time", GLIMPSE_TIME},
    {"date-time", GLIMPSE_DATE "T" GLIMPSE_TIME},
    {"duration",
     "P((\\d{1,4}Y(\\d{1,4}M(\\d{1,4}D)?)?|\\d{1,4}M(\\d{1,4}D)?|\\d{1,4}D)"
     "(T(\\d{1,4}H(\\d{1,4}M(\\d{1,4}S)?)?|\\d{1,4}M(\\d{1,4}S)?|\\d{1,4}S))?"
     "|T(\\d{1,4}H(\\d{1,4}M(\\d{1,4}S)?)?|\\d{1,4}M(\\d{1,4}S)?|\\d{1,4}S)|\\d{1,4}W)"},
    {"email", "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@" GLIMPSE_LABEL "(\\." GLIMPSE_LABEL "){1,4}"},
    {"hostname", GLIMPSE_HOST},
    {"ipv4", "((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"},
    {"ipv6",
     "(" GLIMPSE_H ":){7}" GLIMPSE_H "|(" GLIMPSE_H ":){1,7}:|(" GLIMPSE_H ":){1,6}:" GLIMPSE_H "|(" GLIMPSE_H
     ":){1,5}(:" GLIMPSE_H "){1,2}|(" GLIMPSE_H ":){1,4}(:" GLIMPSE_H "){1,3}|(" GLIMPSE_H ":){1,3}(:" GLIMPSE_H
     "){1,4}|(" GLIMPSE_H ":){1,2}(:" GLIMPSE_H "){1,5}|" GLIMPSE_H ":(:" GLIMPSE_H "){1,6}|:(:" GLIMPSE_H "){1,7}|::"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"uri",
     "[a-z][a-z0-9+.-]{1,15}://" GLIMPSE_HOST "(:\\d{1,4})?(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2}){0,200}){0,20}"
     "(\\?([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2}){0,200})?(#([A-Za-z0-9._~!$&'()*+,;=:@/"
     "-]|%[0-9A-F]{2}){0,200})?"},
};

}  // namespace

Expr json_characters(GrammarBuilder& builder, const CodePointSet& set) {
  std::vector<Expr> found = {builder.code_points(set.without(kEscaped))};
  for (const CodePointSet::Range& range : kEscaped.ranges()) {
    for (char32_t c = range.first; c <= range.last; ++c) {
      if (!set.contains(c)) continue;
      std::string text = json_quoted(std::string(1, static_cast<char>(c)));
      found.push_back(builder.literal(std::string_view(text).substr(1, text.size() - 2)));
    }
  }
  return builder.choice(std::move(found));
}

// Surrogates are left out: half a pair is no character, and a whole one can be written as itself.
Expr json_character(GrammarBuilder& builder) {
  const auto set = [&](std::string_view characters) {
    ByteSet bytes{};
    for (const char c : characters)
      bytes[static_cast<uint8_t>(c) >> 6] |= uint64_t{1} << (static_cast<uint8_t>(c) & 63);
    return builder.bytes(bytes);
  };
  const Expr hex = set("0123456789abcdefABCDEF");
  const Expr low = builder.sequence({set("0123456789abcefABCEF"), builder.repeat(hex, 3, 3)});
  const Expr below_surrogates = builder.sequence({set("dD"), set("01234567"), builder.repeat(hex, 2, 2)});
  const Expr numbered = builder.sequence({builder.literal("u"), builder.choice({low, below_surrogates})});
  const Expr escape = builder.sequence({builder.literal("\\"), builder.choice({set("\"\\bfnrt"), numbered})});
  return builder.choice({builder.code_points(kEscaped.complement()), escape});
}

const char* format_expression(std::string_view format) {
  for (const auto& [name, expression] : kFormats) {
    if (name == format) return expression;
  }
  return nullptr;
}

std::string known_formats() {
  std::string text;
  for (const auto& [name, expression] : kFormats) {
    if (!text.empty()) text += ", ";
    text += name;
  }
  return text;
}

// A tree of the names: what leaves it, or ends inside it, is none of them.
Expr other_name(GrammarBuilder& builder, const std::vector<std::string>& names) {
  struct Node {
    std::map<char32_t, size_t> next;
    bool is_name = false;
  };
  std::vector<Node> tree(1);
  const CodePointSet plain = kEscaped.complement();
  for (const std::string& name : names) {
    size_t at = 0;
    bool sayable = true;  // without an escape
    for (size_t i = 0; i < name.size() && sayable;) {
      const Utf8Char c = utf8_at(name, i);
      i += c.n_bytes;
      sayable = plain.contains(c.code_point);
      const auto [found, added] = tree[at].next.emplace(c.code_point, tree.size());
      at = found->second;
      if (added) tree.emplace_back();
    }
    tree[at].is_name |= sayable;
  }
  const Expr quote = builder.literal("\"");
  const Expr any_rest =
      builder.sequence({builder.repeat(builder.code_points(plain), 0, GrammarBuilder::kUnbounded), quote});
  std::vector<GrammarBuilder::Rule> rules;
  for (size_t i = 0; i < tree.size(); ++i) rules.push_back(builder.add_rule("a name"));
  for (size_t i = 0; i < tree.size() && !builder.too_large(); ++i) {
    std::vector<Expr> found;
    if (!tree[i].is_name) found.push_back(quote);
    CodePointSet others = plain;
    CodePointSet known;
    for (const auto& [c, next] : tree[i].next) {
      known.add(c, c);
      if (plain.contains(c))
        found.push_back(builder.sequence({builder.code_points({{c, c}}), builder.call(rules[next])}));
    }
    if (!known.empty()) others = others.without(known);
    found.push_back(builder.sequence({builder.code_points(others), any_rest}));
    builder.define(rules[i], builder.choice(std::move(found)));
  }
  return builder.sequence({quote, builder.call(rules[0])});
}

}  // namespace glimpse::constrain
