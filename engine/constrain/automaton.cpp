#include "engine/constrain/automaton.h"

#include <algorithm>
#include <utility>

namespace glimpse::constrain {
namespace {

using Kind = Grammar::Kind;

constexpr size_t kByteValues = 256;
constexpr size_t kStackBytes = 72;  // with its entry in the map
constexpr size_t kStateBytes = 48;  // of an entry in the map

uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ x >> 29;
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
                     const AutomatonLimits& limits)
    : grammar_(std::move(grammar)), trie_(std::move(trie)), limits_(limits), stacks_(1), seen_(64) {
  states_.emplace_back();  // kDead
  next_.resize(kByteValues, kDead);
}

// Forgets what the last step found.
void Automaton::begin() {
  open_.clear();
  found_.clear();
  can_end_ = has_tokens_ = false;
  if (seen_.size() > 64 * (visited_.size() + 16)) {
    seen_.assign(64, 0);
  } else {
    std::fill(seen_.begin(), seen_.end(), 0);
  }
  visited_.clear();
}

// A place to look at, unless it was.
void Automaton::open(Place place) {
  if (2 * (visited_.size() + 1) > seen_.size()) {
    seen_.assign(2 * seen_.size(), 0);
    for (size_t i = 0; i < visited_.size(); ++i) {
      size_t slot = mix(visited_[i]) & (seen_.size() - 1);
      while (seen_[slot] != 0) slot = (slot + 1) & (seen_.size() - 1);
      seen_[slot] = static_cast<uint32_t>(i + 1);
    }
  }
  size_t slot = mix(place) & (seen_.size() - 1);
  for (; seen_[slot] != 0; slot = (slot + 1) & (seen_.size() - 1)) {
    if (visited_[seen_[slot] - 1] == place) return;
  }
  visited_.push_back(place);
  seen_[slot] = static_cast<uint32_t>(visited_.size());
  open_.push_back(place);
}

uint32_t Automaton::push(uint32_t node, uint32_t parent) {
  const auto [found, added] = stack_ids_.emplace(place(node, parent), static_cast<uint32_t>(stacks_.size()));
  if (added) {
    stacks_.push_back({node, parent});
    n_bytes_ += kStackBytes;
  }
  return found->second;
}

// From the open places to those that wait for a byte or a token, through splits, calls and ends of rules.
Status Automaton::close() {
  const Grammar& g = *grammar_;
  while (!open_.empty()) {
    const Place at = open_.back();
    open_.pop_back();
    if (work_left_-- == 0 || visited_.size() > 8 * limits_.n_places) {
      work_left_ = 0;
      return make_error(ErrorCode::kTooLarge, "the constraint is too ambiguous: too many ways to read the text so far");
    }
    const Grammar::Node& node = g.nodes[node_of(at)];
    const uint32_t stack = stack_of(at);
    switch (node.kind) {
      case Kind::kAccept:
        if (stack == 0) {
          can_end_ = true;
        } else {
          open(place(stacks_[stack].node, stacks_[stack].parent));
        }
        break;
      case Kind::kToken:
        has_tokens_ = true;
        [[fallthrough]];
      case Kind::kBytes:
        found_.push_back(at);
        break;
      case Kind::kSplit:
        for (uint32_t i = 0; i < node.next; ++i) open(place(g.targets[node.data + i], stack));
        break;
      case Kind::kCall:  // the last call of a rule needs no return
        open(place(g.starts[node.data], g.nodes[node.next].kind == Kind::kAccept ? stack : push(node.next, stack)));
        break;
      case Kind::kDead:
        break;
    }
  }
  if (found_.size() > limits_.n_places) {
    return make_error(ErrorCode::kTooLarge,
                      "the constraint is too ambiguous: more than %d ways to read the text so far", limits_.n_places);
  }
  return {};
}

// The state of the places found.
Result<Automaton::State> Automaton::intern() {
  std::sort(found_.begin(), found_.end());
  found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
  if (found_.empty() && !can_end_) return kDead;
  uint64_t hash = can_end_ ? 1 : 2;
  for (const Place p : found_) hash = mix(hash ^ p);
  const auto [begin, end] = state_ids_.equal_range(hash);
  for (auto i = begin; i != end; ++i) {
    const std::span<const Place> known = places(i->second);
    if (states_[i->second].can_end == can_end_ &&
        std::equal(known.begin(), known.end(), found_.begin(), found_.end())) {
      return i->second;
    }
  }
  if (is_full()) return make_error(ErrorCode::kTooLarge, "the constraint has too many states");
  const auto state = static_cast<State>(states_.size());
  states_.push_back({places_.size(), static_cast<uint32_t>(found_.size()), can_end_, has_tokens_, nullptr});
  places_.insert(places_.end(), found_.begin(), found_.end());
  next_.resize(next_.size() + kByteValues, kUnknown);
  state_ids_.emplace(hash, state);
  n_bytes_ += sizeof(Info) + kStateBytes + kByteValues * sizeof(uint32_t) + found_.size() * sizeof(Place);
  return state;
}

Result<Automaton::State> Automaton::start() {
  work_left_ = limits_.work;
  begin();
  open(place(grammar_->starts[grammar_->root], 0));
  GLIMPSE_TRY(close());
  return intern();
}

Result<Automaton::State> Automaton::step(State state, uint8_t byte) {
  const size_t slot = state * kByteValues + byte;
  if (next_[slot] != kUnknown) return next_[slot];
  begin();
  const std::span<const Place> here = places(state);
  work_left_ -= std::min<uint64_t>(work_left_, here.size());
  for (const Place at : here) {
    const Grammar::Node& node = grammar_->nodes[node_of(at)];
    if (node.kind == Kind::kBytes && has_byte(grammar_->sets[node.data], byte)) {
      open(place(node.next, stack_of(at)));
    }
  }
  GLIMPSE_TRY(close());
  GLIMPSE_ASSIGN(const State next, intern());
  next_[slot] = next;
  return next;
}

Result<Automaton::State> Automaton::next(State state, uint8_t byte) {
  work_left_ = limits_.work;
  return step(state, byte);
}

Result<Automaton::State> Automaton::next_token(State state, TokenId id, std::string_view bytes) {
  work_left_ = limits_.work;
  State by_bytes = bytes.empty() ? kDead : state;
  for (const char byte : bytes) {
    GLIMPSE_ASSIGN(by_bytes, step(by_bytes, static_cast<uint8_t>(byte)));
    if (by_bytes == kDead) break;
  }
  if (!states_[state].has_tokens) return by_bytes;
  begin();
  for (const Place at : places(state)) {
    const Grammar::Node& node = grammar_->nodes[node_of(at)];
    if (node.kind != Kind::kToken) continue;
    const TokenTerminal& terminal = grammar_->terminals[node.data];
    if (terminal.matches(id) && !(terminal.any_but && bytes.empty())) open(place(node.next, stack_of(at)));
  }
  GLIMPSE_TRY(close());
  const std::span<const Place> also = places(by_bytes);
  found_.insert(found_.end(), also.begin(), also.end());
  can_end_ |= states_[by_bytes].can_end;
  has_tokens_ |= states_[by_bytes].has_tokens;
  return intern();
}

std::optional<uint8_t> Automaton::forced_byte(State state) const {
  const Info& info = states_[state];
  if (info.can_end || info.has_tokens || info.n_places == 0) return std::nullopt;
  int forced = -1;
  for (const Place at : places(state)) {
    const ByteSet& set = grammar_->sets[grammar_->nodes[node_of(at)].data];
    for (size_t word = 0; word < set.size(); ++word) {
      if (set[word] == 0) continue;
      const int byte = static_cast<int>(64 * word) + __builtin_ctzll(set[word]);
      if ((set[word] & (set[word] - 1)) != 0 || (forced >= 0 && forced != byte)) return std::nullopt;
      forced = byte;
    }
  }
  return static_cast<uint8_t>(forced);
}

// Every token whose bytes lead somewhere: down the tree, over what is below a byte that does not fit. Nearly half of
// the nodes end a token, in no order that a processor could foresee: the others set a bit behind the last.
Status Automaton::walk(State state, TokenMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_->nodes();
  std::vector<State> path_of(trie_->n_levels() + 1);
  State* const path = path_of.data();
  path[0] = state;
  const auto nowhere = static_cast<uint32_t>(64 * mask.words.size());
  mask.words.push_back(0);
  uint64_t* const words = mask.words.data();
  const uint32_t* table = next_.data();
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    State next = table[path[node.depth] * kByteValues + node.byte];
    if (next == kUnknown) {
      GLIMPSE_ASSIGN(next, step(path[node.depth], node.byte));
      table = next_.data();
    }
    if (next == kDead) {
      i = node.end;
      continue;
    }
    path[node.depth + size_t{1}] = next;
    const uint32_t bit = node.token < 0 ? nowhere : static_cast<uint32_t>(node.token);
    words[bit / 64] |= uint64_t{1} << (bit % 64);
    ++i;
  }
  mask.words.pop_back();
  for (const auto& [token, twin] : trie_->twins()) {
    if (mask.allows(token)) mask.words[static_cast<size_t>(twin) / 64] |= uint64_t{1} << (twin % 64);
  }
  return {};
}

Result<std::shared_ptr<const TokenMask>> Automaton::mask(State state) {
  if (states_[state].mask != nullptr) return states_[state].mask;
  work_left_ = limits_.work;
  const auto mask = std::make_shared<TokenMask>();
  mask->words.resize((static_cast<size_t>(trie_->n_tokens()) + 63) / 64);
  const auto set = [&](TokenId id) { mask->words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64); };
  GLIMPSE_TRY(walk(state, *mask));
  if (states_[state].has_tokens) {
    std::optional<std::vector<TokenId>> refused;  // by all places that take any token but some
    for (const Place at : places(state)) {
      const Grammar::Node& node = grammar_->nodes[node_of(at)];
      if (node.kind != Kind::kToken) continue;
      const TokenTerminal& terminal = grammar_->terminals[node.data];
      if (!terminal.any_but) {
        std::for_each(terminal.ids.begin(), terminal.ids.end(), set);
      } else if (!refused) {
        refused = terminal.ids;
      } else {
        std::erase_if(*refused, [&](TokenId id) { return terminal.matches(id); });
      }
    }
    const auto fits = [&](TokenId id) { return id >= 0 && !std::binary_search(refused->begin(), refused->end(), id); };
    for (size_t i = 0; refused && i < trie_->nodes().size(); ++i) {
      if (const TokenId id = trie_->nodes()[i].token; fits(id)) set(id);
    }
    for (size_t i = 0; refused && i < trie_->twins().size(); ++i) {
      if (const TokenId twin = trie_->twins()[i].second; fits(twin)) set(twin);
    }
  }
  if (can_end(state)) std::for_each(trie_->ends().begin(), trie_->ends().end(), set);
  states_[state].mask = mask;
  n_bytes_ += mask->words.size() * sizeof(uint64_t);
  return states_[state].mask;
}

Automaton::Exported Automaton::export_state(State state) const {
  Exported result;
  result.can_end = states_[state].can_end;
  std::unordered_map<uint32_t, uint32_t> index;  // stack to frame plus 1
  std::vector<uint32_t> chain;
  for (const Place at : places(state)) {
    for (uint32_t stack = stack_of(at); stack != 0 && index.count(stack) == 0; stack = stacks_[stack].parent) {
      chain.push_back(stack);
    }
    for (; !chain.empty(); chain.pop_back()) {
      const Stack& frame = stacks_[chain.back()];
      result.frames.push_back({frame.node, frame.parent == 0 ? 0 : index.at(frame.parent)});
      index[chain.back()] = static_cast<uint32_t>(result.frames.size());
    }
    result.places.emplace_back(node_of(at), stack_of(at) == 0 ? 0 : index.at(stack_of(at)));
  }
  return result;
}

Result<Automaton::State> Automaton::import_state(const Exported& from) {
  work_left_ = limits_.work;
  begin();
  std::vector<uint32_t> stacks = {0};
  for (const Exported::Frame& frame : from.frames) stacks.push_back(push(frame.node, stacks[frame.parent]));
  for (const auto& [node, frame] : from.places) {
    found_.push_back(place(node, stacks[frame]));
    has_tokens_ |= grammar_->nodes[node].kind == Kind::kToken;
  }
  can_end_ = from.can_end;
  return intern();
}

}  // namespace glimpse::constrain
