#include "engine/constrain/automaton.h"

#include <algorithm>
#include <utility>

namespace glimpse::constrain {
namespace {

using Kind = Grammar::Kind;

constexpr size_t kByteValues = 256;
constexpr size_t kEntryBytes = 48;  // of a map

uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ x >> 29;
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
                     const AutomatonLimits& limits)
    : grammar_(std::move(grammar)),
      trie_(std::move(trie)),
      limits_(limits),
      seen_(64),
      here_of_(grammar_->starts.size()) {
  states_.emplace_back();  // kDead
  next_.resize(kByteValues, kDead);
  merged_ = {kEnd};
  intern_calls(merged_);  // kNoCalls
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
  for (const Here& here : here_) here_of_[here.rule] = 0;
  here_.clear();
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

// A rule begins here, or is called in one more way.
void Automaton::call(uint32_t rule, Place caller) {
  uint32_t& index = here_of_[rule];
  if (index == 0) {
    here_.push_back({rule, false, {caller}, kHere});
    index = static_cast<uint32_t>(here_.size());
    open(place(grammar_->starts[rule], kHere | (index - 1)));
    return;
  }
  Here& here = here_[index - 1];
  here.callers.push_back(caller);
  if (here.is_through) open(caller);
}

// A rule is through: on with those who called it.
void Automaton::leave(uint32_t calls) {
  if ((calls & kHere) != 0) {
    Here& here = here_[calls & ~kHere];
    here.is_through = true;  // for those who call it from now on
    for (const Place caller : here.callers) open(caller);
    return;
  }
  for (const Place caller : callers(calls)) {
    if (caller == kEnd) {
      can_end_ = true;
    } else {
      open(caller);
    }
  }
  work_left_ -= std::min<uint64_t>(work_left_, call_sets_[calls].n);
}

// From the open places to those that wait for a byte or a token, through splits, calls and ends of rules.
Status Automaton::close() {
  const Grammar& g = *grammar_;
  while (!open_.empty()) {
    const Place at = open_.back();
    open_.pop_back();
    if (work_left_ == 0 || visited_.size() > 8 * limits_.n_places) {
      work_left_ = 0;
      return make_error(ErrorCode::kTooLarge, "the constraint is too ambiguous: too many ways to read the text so far");
    }
    const Grammar::Node& node = g.nodes[node_of(at)];
    const uint32_t calls = calls_of(at);
    --work_left_;
    switch (node.kind) {
      case Kind::kAccept:
        leave(calls);
        break;
      case Kind::kToken:
        has_tokens_ = true;
        [[fallthrough]];
      case Kind::kBytes:
        found_.push_back(at);
        break;
      case Kind::kSplit:
        for (uint32_t i = 0; i < node.next; ++i) open(place(g.targets[node.data + i], calls));
        break;
      case Kind::kCall:
        call(node.data, place(node.next, calls));
        break;
      case Kind::kDead:
        break;
    }
  }
  if (found_.size() > limits_.n_places) {
    return make_error(ErrorCode::kTooLarge,
                      "the constraint is too ambiguous: more than %d ways to read the text so far", limits_.n_places);
  }
  return settle();
}

// The set of these callers, which are sorted.
uint32_t Automaton::intern_calls(const std::vector<Place>& callers_of_one) {
  uint64_t hash = 3;
  for (const Place caller : callers_of_one) hash = mix(hash ^ caller);
  const auto [begin, end] = calls_ids_.equal_range(hash);
  for (auto i = begin; i != end; ++i) {
    const std::span<const Place> known = callers(i->second);
    if (std::equal(known.begin(), known.end(), callers_of_one.begin(), callers_of_one.end())) return i->second;
  }
  const auto calls = static_cast<uint32_t>(call_sets_.size());
  call_sets_.push_back({callers_.size(), static_cast<uint32_t>(callers_of_one.size())});
  callers_.insert(callers_.end(), callers_of_one.begin(), callers_of_one.end());
  calls_ids_.emplace(hash, calls);
  n_bytes_ += sizeof(CallSet) + kEntryBytes + callers_of_one.size() * sizeof(Place);
  return calls;
}

// Makes the calls of a rule a set. False: `missing` are to be made first. What it was called by as the last thing of
// another rule is that rule's callers, so that right recursion goes no deeper.
bool Automaton::settle(Here& here, std::vector<uint32_t>& missing) {
  merged_.clear();
  for (const Place caller : here.callers) {
    uint32_t calls = calls_of(caller);
    if ((calls & kHere) != 0) {
      const uint32_t index = calls & ~kHere;
      calls = here_[index].calls;
      if ((calls & kHere) != 0) missing.push_back(index);
    }
    if (!missing.empty()) continue;
    if (grammar_->nodes[node_of(caller)].kind == Kind::kAccept) {
      const std::span<const Place> theirs = callers(calls);
      merged_.insert(merged_.end(), theirs.begin(), theirs.end());
    } else {
      merged_.push_back(place(node_of(caller), calls));
    }
  }
  if (!missing.empty()) return false;
  work_left_ -= std::min<uint64_t>(work_left_, merged_.size());
  std::sort(merged_.begin(), merged_.end());
  merged_.erase(std::unique(merged_.begin(), merged_.end()), merged_.end());
  here.calls = intern_calls(merged_);
  return true;
}

// The calls of the places that were found become sets. No rule begins with itself: none waits for itself.
Status Automaton::settle() {
  std::vector<uint32_t> waiting, missing;
  size_t n_callers = 0;
  for (Place& at : found_) {
    if ((calls_of(at) & kHere) == 0) continue;
    const uint32_t wanted = calls_of(at) & ~kHere;
    if ((here_[wanted].calls & kHere) != 0) waiting.push_back(wanted);
    while (!waiting.empty()) {
      if (work_left_ == 0 || n_callers > limits_.n_places) {
        return make_error(ErrorCode::kTooLarge,
                          "the constraint is too ambiguous: too many ways to read the text so far");
      }
      --work_left_;
      Here& here = here_[waiting.back()];
      missing.clear();
      if ((here.calls & kHere) == 0) {
        waiting.pop_back();
      } else if (settle(here, missing)) {
        n_callers += call_sets_[here.calls].n;
        waiting.pop_back();
      } else {
        waiting.insert(waiting.end(), missing.begin(), missing.end());
      }
    }
    at = place(node_of(at), here_[wanted].calls);
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
  // Where memory runs out there is no such state: what it has comes first.
  const auto state = static_cast<State>(states_.size());
  next_.resize((size_t{state} + 1) * kByteValues, kUnknown);
  const size_t first = places_.size();
  places_.insert(places_.end(), found_.begin(), found_.end());
  states_.push_back({first, static_cast<uint32_t>(found_.size()), can_end_, has_tokens_, nullptr});
  state_ids_.emplace(hash, state);
  n_bytes_ += sizeof(Info) + kEntryBytes + kByteValues * sizeof(uint32_t) + found_.size() * sizeof(Place);
  return state;
}

Result<Automaton::State> Automaton::start() {
  work_left_ = limits_.work;
  begin();
  open(place(grammar_->starts[grammar_->root], kNoCalls));
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
      open(place(node.next, calls_of(at)));
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
    if (terminal.matches(id) && !(terminal.any_but && bytes.empty())) open(place(node.next, calls_of(at)));
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
  result.calls.emplace_back();
  std::unordered_map<uint32_t, uint32_t> index = {{kNoCalls, 0}};
  std::vector<uint32_t> waiting;
  for (const Place at : places(state)) {
    waiting.push_back(calls_of(at));
    while (!waiting.empty()) {
      const uint32_t calls = waiting.back();
      const size_t n_waiting = waiting.size();
      if (index.count(calls) == 0) {
        for (const Place caller : callers(calls)) {
          if (caller != kEnd && index.count(calls_of(caller)) == 0) waiting.push_back(calls_of(caller));
        }
      }
      if (waiting.size() > n_waiting) continue;
      waiting.pop_back();
      if (!index.emplace(calls, static_cast<uint32_t>(result.calls.size())).second) continue;
      std::vector<Exported::Place>& members = result.calls.emplace_back();
      for (const Place caller : callers(calls)) {
        members.emplace_back(node_of(caller), caller == kEnd ? 0 : index.at(calls_of(caller)));
      }
    }
    result.places.emplace_back(node_of(at), index.at(calls_of(at)));
  }
  return result;
}

Result<Automaton::State> Automaton::import_state(const Exported& from) {
  work_left_ = limits_.work;
  begin();
  std::vector<uint32_t> sets = {kNoCalls};
  for (size_t i = 1; i < from.calls.size(); ++i) {
    merged_.clear();
    for (const auto& [node, calls] : from.calls[i]) merged_.push_back(place(node, sets[calls]));
    std::sort(merged_.begin(), merged_.end());
    sets.push_back(intern_calls(merged_));
  }
  for (const auto& [node, calls] : from.places) {
    found_.push_back(place(node, sets[calls]));
    has_tokens_ |= grammar_->nodes[node].kind == Kind::kToken;
  }
  can_end_ = from.can_end;
  return intern();
}

}  // namespace glimpse::constrain
