#include "engine/constrain/grammar.h"

#include <algorithm>
#include <utility>

namespace glimpse::constrain {

using Kind = Grammar::Kind;

bool TokenTerminal::matches(TokenId id) const {
  return std::binary_search(ids.begin(), ids.end(), id) != any_but;
}

GrammarBuilder::GrammarBuilder() {
  exprs_.push_back({Op::kEmpty, 0, 0, 0, 0, 0});
  exprs_.push_back({Op::kNothing, 0, 0, 0, 0, 0});
}

GrammarBuilder::Expr GrammarBuilder::add(Node node) {
  if (exprs_.size() + children_.size() >= kMaxExpressions) too_large_ = "it has too many parts";
  if (node.depth > kMaxDepth) too_large_ = "its parts are nested too deeply";
  if (too_large()) return empty();
  exprs_.push_back(node);
  return static_cast<Expr>(exprs_.size() - 1);
}

GrammarBuilder::Expr GrammarBuilder::add(Op op, const std::vector<Expr>& parts) {
  Node node{op, 0, static_cast<uint32_t>(children_.size()), static_cast<uint32_t>(parts.size()), 0, 0};
  for (const Expr part : parts) node.depth = std::max(node.depth, exprs_[part].depth + 1);
  const Expr expr = add(node);
  if (!too_large()) children_.insert(children_.end(), parts.begin(), parts.end());
  return expr;
}

GrammarBuilder::Expr GrammarBuilder::bytes(const ByteSet& set) {
  if (set == ByteSet{}) return nothing();
  const auto [found, added] = set_ids_.emplace(set, static_cast<uint32_t>(grammar_.sets.size()));
  if (added) grammar_.sets.push_back(set);
  return add({Op::kBytes, 0, found->second, 0, 0, 0});
}

GrammarBuilder::Expr GrammarBuilder::byte_range(uint8_t first, uint8_t last) {
  ByteSet set{};
  for (unsigned byte = first; byte <= last; ++byte) set[byte >> 6] |= uint64_t{1} << (byte & 63);
  return bytes(set);
}

GrammarBuilder::Expr GrammarBuilder::literal(std::string_view text) {
  std::vector<Expr> parts;
  for (const char c : text) parts.push_back(byte_range(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  return sequence(std::move(parts));
}

// Single bytes are one set; the rest are sequences of ranges.
GrammarBuilder::Expr GrammarBuilder::code_points(const CodePointSet& set) {
  ByteSet ascii{};
  std::vector<Expr> alternatives;
  for (const CodePointSet::Range& range : set.ranges()) {
    for (const ByteRanges& sequence_of : utf8_ranges(range)) {
      if (sequence_of.n == 1) {
        for (unsigned b = sequence_of.bytes[0].first; b <= sequence_of.bytes[0].last; ++b) {
          ascii[b >> 6] |= uint64_t{1} << (b & 63);
        }
        continue;
      }
      std::vector<Expr> parts;
      for (int i = 0; i < sequence_of.n; ++i) {
        parts.push_back(byte_range(sequence_of.bytes[i].first, sequence_of.bytes[i].last));
      }
      alternatives.push_back(sequence(std::move(parts)));
    }
  }
  if (ascii != ByteSet{}) alternatives.push_back(bytes(ascii));
  return choice(std::move(alternatives));
}

GrammarBuilder::Expr GrammarBuilder::token(TokenTerminal terminal) {
  std::sort(terminal.ids.begin(), terminal.ids.end());
  grammar_.terminals.push_back(std::move(terminal));
  return add({Op::kToken, 0, static_cast<uint32_t>(grammar_.terminals.size() - 1), 0, 0, 0});
}

GrammarBuilder::Expr GrammarBuilder::sequence(std::vector<Expr> parts) {
  std::erase(parts, empty());
  if (parts.empty()) return empty();
  if (std::find(parts.begin(), parts.end(), nothing()) != parts.end()) return nothing();
  return parts.size() == 1 ? parts[0] : add(Op::kSequence, parts);
}

GrammarBuilder::Expr GrammarBuilder::choice(std::vector<Expr> alternatives) {
  std::erase(alternatives, nothing());
  if (alternatives.empty()) return nothing();
  return alternatives.size() == 1 ? alternatives[0] : add(Op::kChoice, alternatives);
}

GrammarBuilder::Expr GrammarBuilder::repeat(Expr part, uint32_t min, uint32_t max) {
  if (max == 0 || part == empty()) return empty();
  if (part == nothing()) return min == 0 ? empty() : nothing();
  if (min == 1 && max == 1) return part;
  if (min > kMaxRepeats || (max != kUnbounded && max > kMaxRepeats)) {
    too_large_ = format("it repeats something more than %d times", kMaxRepeats);
  }
  return add({Op::kRepeat, exprs_[part].depth + 1, part, 0, min, max});
}

GrammarBuilder::Expr GrammarBuilder::call(Rule rule) {
  return add({Op::kCall, 0, rule, 0, 0, 0});
}

GrammarBuilder::Rule GrammarBuilder::add_rule(std::string name) {
  rules_.push_back({std::move(name), nothing()});
  return static_cast<Rule>(rules_.size() - 1);
}

GrammarBuilder::Expr GrammarBuilder::as_rule(Expr expr, std::string name) {
  if (expr == empty() || expr == nothing()) return expr;
  const Rule rule = add_rule(std::move(name));
  define(rule, expr);
  return call(rule);
}

// ----------------------------------------------------------------------------------------------------------------------

uint32_t GrammarBuilder::emit(Grammar::Node node) {
  if (grammar_.nodes.size() + grammar_.targets.size() >= kMaxNodes) {
    too_large_ = "its network has too many nodes";
    return 0;
  }
  grammar_.nodes.push_back(node);
  return static_cast<uint32_t>(grammar_.nodes.size() - 1);
}

uint32_t GrammarBuilder::emit_split(const std::vector<uint32_t>& targets) {
  if (targets.size() == 1) return targets[0];
  const auto first = static_cast<uint32_t>(grammar_.targets.size());
  const uint32_t split = emit({Kind::kSplit, first, static_cast<uint32_t>(targets.size())});
  grammar_.targets.insert(grammar_.targets.end(), targets.begin(), targets.end());
  return split;
}

// The node where `expr` begins, when `next` comes after it.
uint32_t GrammarBuilder::lower(Expr expr, uint32_t next) {
  if (too_large()) return 0;
  const Node node = exprs_[expr];
  switch (node.op) {
    case Op::kEmpty:
      return next;
    case Op::kNothing:
      return emit({Kind::kDead, 0, 0});
    case Op::kBytes:
      return emit({Kind::kBytes, node.first, next});
    case Op::kToken:
      return emit({Kind::kToken, node.first, next});
    case Op::kCall:
      return emit({Kind::kCall, node.first, next});
    case Op::kSequence:
      for (uint32_t i = node.n; i-- > 0;) next = lower(children_[node.first + i], next);
      return next;
    case Op::kChoice: {
      std::vector<uint32_t> targets;
      targets.reserve(node.n);
      for (uint32_t i = 0; i < node.n; ++i) targets.push_back(lower(children_[node.first + i], next));
      return emit_split(targets);
    }
    case Op::kRepeat:
      return lower_repeat(node, next);
  }
  return next;
}

// Copies of more than a node would multiply where repetitions are nested: what is repeated becomes a rule.
uint32_t GrammarBuilder::lower_repeat(const Node& node, uint32_t next) {
  Expr part = node.first;
  const Op op = exprs_[part].op;
  const bool small = op == Op::kBytes || op == Op::kToken || op == Op::kCall;
  if (!small && node.min + (node.max == kUnbounded ? 1 : node.max - node.min) > 1) {
    const auto [found, added] = wrapped_.emplace(part, 0);
    if (added) found->second = as_rule(part, "a repetition");
    part = found->second;
    if (too_large()) return 0;
  }
  uint32_t at = next;
  if (node.max == kUnbounded) {
    const auto targets = static_cast<uint32_t>(grammar_.targets.size());
    const uint32_t split = emit({Kind::kSplit, targets, 2});
    grammar_.targets.insert(grammar_.targets.end(), {0, next});
    const uint32_t body = lower(part, split);
    if (too_large()) return 0;
    grammar_.targets[targets] = body;
    at = split;
  } else {
    for (uint32_t i = node.min; i < node.max && !too_large(); ++i) at = emit_split({lower(part, at), next});
  }
  for (uint32_t i = 0; i < node.min && !too_large(); ++i) at = lower(part, at);
  return at;
}

namespace {

// Nodes from which `accepting` follows, found backwards: a call holds when its rule and what comes after it do.
// through_bytes: whether a byte may be passed.
std::vector<bool> nodes_that_end(const Grammar& g, bool through_bytes) {
  const size_t n = g.nodes.size();
  std::vector<std::vector<uint32_t>> before(n), callers(g.starts.size());
  std::vector<std::vector<uint32_t>> rules_at(n);
  for (uint32_t i = 0; i < n; ++i) {
    const Grammar::Node& node = g.nodes[i];
    if (node.kind == Kind::kSplit) {
      for (uint32_t k = 0; k < node.next; ++k) before[g.targets[node.data + k]].push_back(i);
    } else if (node.kind == Kind::kCall) {
      before[node.next].push_back(i);
      callers[node.data].push_back(i);
    } else if (through_bytes && (node.kind == Kind::kBytes || node.kind == Kind::kToken)) {
      before[node.next].push_back(i);
    }
  }
  for (uint32_t rule = 0; rule < g.starts.size(); ++rule) rules_at[g.starts[rule]].push_back(rule);
  std::vector<bool> ends(n, false);
  std::vector<uint32_t> work;
  const auto mark = [&](uint32_t i) {
    if (ends[i]) return;
    ends[i] = true;
    work.push_back(i);
  };
  const auto try_mark = [&](uint32_t i) {
    const Grammar::Node& node = g.nodes[i];
    if (node.kind != Kind::kCall || (ends[node.next] && ends[g.starts[node.data]])) mark(i);
  };
  for (uint32_t i = 0; i < n; ++i) {
    if (g.nodes[i].kind == Kind::kAccept) mark(i);
  }
  while (!work.empty()) {
    const uint32_t i = work.back();
    work.pop_back();
    for (const uint32_t earlier : before[i]) try_mark(earlier);
    for (const uint32_t rule : rules_at[i]) {
      for (const uint32_t caller : callers[rule]) try_mark(caller);
    }
  }
  return ends;
}

}  // namespace

void remove_dead_nodes(Grammar& grammar) {
  const std::vector<bool> alive = nodes_that_end(grammar, true);
  for (size_t i = 0; i < grammar.nodes.size(); ++i) {
    if (!alive[i]) grammar.nodes[i] = {Kind::kDead, 0, 0};
  }
}

std::vector<bool> nullable_nodes(const Grammar& grammar) {
  return nodes_that_end(grammar, false);
}

// A rule that begins with itself would be called for ever. Depth first over the rules that can be called before a byte.
Status GrammarBuilder::check_recursion() const {
  const Grammar& g = grammar_;
  const std::vector<bool> nullable = nullable_nodes(g);
  std::vector<bool> seen_node(g.nodes.size(), false);
  // Rules that follow `from` before any byte.
  const auto called_first = [&](uint32_t from) {
    std::vector<uint32_t> rules, work = {from}, touched;
    while (!work.empty()) {
      const uint32_t i = work.back();
      work.pop_back();
      if (seen_node[i]) continue;
      seen_node[i] = true;
      touched.push_back(i);
      const Grammar::Node& node = g.nodes[i];
      if (node.kind == Kind::kSplit) {
        for (uint32_t k = 0; k < node.next; ++k) work.push_back(g.targets[node.data + k]);
      } else if (node.kind == Kind::kCall) {
        rules.push_back(node.data);
        if (nullable[g.starts[node.data]]) work.push_back(node.next);
      }
    }
    for (const uint32_t i : touched) seen_node[i] = false;
    return rules;
  };
  enum class Color : uint8_t { kNew, kOpen, kDone };
  std::vector<Color> color(g.starts.size(), Color::kNew);
  struct Frame {
    uint32_t rule;
    std::vector<uint32_t> next;
  };
  for (uint32_t first = 0; first < g.starts.size(); ++first) {
    if (color[first] != Color::kNew) continue;
    std::vector<Frame> stack;
    color[first] = Color::kOpen;
    stack.push_back({first, called_first(g.starts[first])});
    while (!stack.empty()) {
      if (stack.back().next.empty()) {
        color[stack.back().rule] = Color::kDone;
        stack.pop_back();
        continue;
      }
      const uint32_t rule = stack.back().next.back();
      stack.back().next.pop_back();
      if (color[rule] == Color::kOpen) {
        return make_error(ErrorCode::kInvalidArgument,
                          "%s begins with itself: it could go on for ever before its first character",
                          rules_[rule].name);
      }
      if (color[rule] == Color::kDone) continue;
      color[rule] = Color::kOpen;
      stack.push_back({rule, called_first(g.starts[rule])});
    }
  }
  return {};
}

Result<Grammar> GrammarBuilder::build(Rule root) {
  // Repetitions add rules while the loop runs. All rules end in one node: what comes after it is the caller's.
  const uint32_t accept = emit({Kind::kAccept, 0, 0});
  for (size_t rule = 0; rule < rules_.size() && !too_large(); ++rule) {
    const uint32_t start = lower(rules_[rule].expr, accept);
    grammar_.starts.push_back(start);
  }
  if (too_large()) return make_error(ErrorCode::kTooLarge, "%s", too_large_);
  grammar_.root = root;
  remove_dead_nodes(grammar_);
  GLIMPSE_TRY(check_recursion());
  if (grammar_.nodes[grammar_.starts[root]].kind == Kind::kDead) {
    return make_error(ErrorCode::kInvalidArgument, "no text can match it");
  }
  return std::move(grammar_);
}

}  // namespace glimpse::constrain
