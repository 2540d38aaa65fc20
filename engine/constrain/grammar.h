// Context-free grammars over bytes: how every front end says what it allows, and what the automaton runs on.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/constrain/code_points.h"
#include "tokenizer/tokenizer.h"

namespace glimpse::constrain {

/// 256 bits, one per byte.
using ByteSet = std::array<uint64_t, 4>;
inline bool has_byte(const ByteSet& set, uint8_t byte) {
  return (set[byte >> 6] >> (byte & 63) & 1) != 0;
}

/// A token as a terminal: these alone, or any but these.
struct TokenTerminal {
  std::vector<TokenId> ids;  // rising
  bool any_but = false;
  bool matches(TokenId id) const;
  auto operator<=>(const TokenTerminal&) const = default;
};

/// A grammar as a network: texts are the paths from a rule's start to its kAccept.
struct Grammar {
  enum class Kind : uint8_t {
    kAccept,  // the rule is through
    kBytes,   // one byte of sets[data], then next
    kSplit,   // any of targets[data .. data + next)
    kCall,    // rule `data`, then next
    kToken,   // one token of terminals[data], then next; only where a token may begin
    kDead,    // nothing can follow: no text ends from here
  };
  struct Node {
    Kind kind = Kind::kDead;
    uint32_t data = 0;
    uint32_t next = 0;
  };
  std::vector<Node> nodes;
  std::vector<uint32_t> targets;
  std::vector<ByteSet> sets;
  std::vector<TokenTerminal> terminals;
  std::vector<uint32_t> starts;  // of each rule
  uint32_t root = 0;             // its rule
};

/// Makes grammars from expressions. What exceeds a limit is remembered and told by build(): until then calls may go on.
class GrammarBuilder {
 public:
  using Expr = uint32_t;
  using Rule = uint32_t;
  static constexpr uint32_t kUnbounded = UINT32_MAX;
  /// What untrusted grammars may take. An expression has about 30 bytes, a node 12.
  static constexpr size_t kMaxExpressions = size_t{1} << 20;
  static constexpr size_t kMaxNodes = size_t{1} << 20;
  static constexpr uint32_t kMaxRepeats = 100000;  // of a bounded repetition
  static constexpr uint32_t kMaxDepth = 1000;      // of expressions in one another

  GrammarBuilder();
  Expr empty() const { return 0; }
  /// No text at all.
  Expr nothing() const { return 1; }
  Expr bytes(const ByteSet& set);
  Expr byte_range(uint8_t first, uint8_t last);
  Expr literal(std::string_view text);
  Expr code_points(const CodePointSet& set);
  Expr token(TokenTerminal terminal);
  Expr sequence(std::vector<Expr> parts);
  Expr choice(std::vector<Expr> alternatives);
  /// min <= max; kUnbounded: any number.
  Expr repeat(Expr part, uint32_t min, uint32_t max);
  Expr optional(Expr part) { return repeat(part, 0, 1); }
  Expr call(Rule rule);

  /// name: for messages.
  Rule add_rule(std::string name);
  void define(Rule rule, Expr expr) { rules_[rule].expr = expr; }
  /// A rule of this expression alone; its uses cost one node each.
  Expr as_rule(Expr expr, std::string name);

  /// Whether a limit was exceeded, so that what is made from now on is of no use.
  bool too_large() const { return !too_large_.empty(); }

  /// The texts of rule `root`. Errors: kTooLarge; kInvalidArgument: a rule that begins with itself (names it), or no
  /// text that ends.
  Result<Grammar> build(Rule root);

 private:
  enum class Op : uint8_t { kEmpty, kNothing, kBytes, kToken, kSequence, kChoice, kRepeat, kCall };
  struct Node {
    Op op = Op::kEmpty;
    uint32_t depth = 0;
    uint32_t first = 0, n = 0;  // of children_; kBytes, kToken, kCall: what is meant
    uint32_t min = 0, max = 0;
  };
  struct RuleInfo {
    std::string name;
    Expr expr = 0;
  };

  Expr add(Node node);
  Expr add(Op op, const std::vector<Expr>& parts);
  uint32_t emit(Grammar::Node node);
  uint32_t emit_split(const std::vector<uint32_t>& targets);
  uint32_t lower(Expr expr, uint32_t next);
  uint32_t lower_repeat(const Node& node, uint32_t next);
  Status check_recursion() const;

  std::vector<Node> exprs_;
  std::vector<Expr> children_;
  std::vector<RuleInfo> rules_;
  std::map<ByteSet, uint32_t> set_ids_;
  std::map<Expr, Expr> wrapped_;  // expressions that became rules for their repetitions
  std::string too_large_;
  Grammar grammar_;
};

/// Marks nodes from which no text ends as kDead. Linear.
void remove_dead_nodes(Grammar& grammar);

/// For each node whether a rule may be through from it without a byte. Linear.
std::vector<bool> nullable_nodes(const Grammar& grammar);

}  // namespace glimpse::constrain
