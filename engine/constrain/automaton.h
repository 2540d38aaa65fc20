// Runs a grammar over bytes and tokens: states are sets of places in it, made when they are first reached and kept.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/base/result.h"
#include "engine/constrain/grammar.h"
#include "tokenizer/token_trie.h"

namespace glimpse::constrain {

/// One bit per token, id of words[id / 64].
struct TokenMask {
  std::vector<uint64_t> words;
  bool allows(TokenId id) const {
    const auto i = static_cast<size_t>(id);
    return i / 64 < words.size() && (words[i / 64] >> (i % 64) & 1) != 0;
  }
};

/// What an automaton may take for grammars from anywhere.
struct AutomatonLimits {
  size_t n_places = size_t{1} << 14;  // of one state, and callers that it adds: ambiguous grammars have many
  size_t n_bytes = size_t{96} << 20;  // of all states together, masks included
  uint64_t work = uint64_t{1} << 26;  // places looked at by one call
};

/// A pushdown automaton, made deterministic state by state: a place is a node of the grammar with the calls it is in,
/// a state the set of places where the text may be. With no recursion the states are those of a finite automaton.
/// A rule that is called in several ways at one point of the text is read once: its calls are a set, whose members are
/// where it may go on and the calls of that (a graph-structured stack: Tomita, Efficient Parsing for Natural Language,
/// 1985). So the ways to read a text may be as many as they like where what they have read is the same.
/// Used by one thread at a time.
class Automaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // nothing fits

  Automaton(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
            const AutomatonLimits& limits);

  /// Errors of all that follow: kTooLarge: the grammar is too ambiguous (work, places), or the states are too many
  /// (is_full()): another automaton may go on from export_state().
  Result<State> start();
  /// After one byte.
  Result<State> next(State state, uint8_t byte);
  /// After a token; bytes: its text, empty where it is none.
  Result<State> next_token(State state, TokenId id, std::string_view bytes);
  /// Whether the text may end here.
  bool can_end(State state) const { return states_[state].can_end; }
  /// The one byte that may follow, where the text may not end and no token as such may come.
  std::optional<uint8_t> forced_byte(State state) const;
  /// No byte and no token fits.
  bool is_complete(State state) const { return states_[state].n_places == 0; }
  /// The tokens that may come next; those that end an answer where it can. A token fits when all its bytes do.
  Result<std::shared_ptr<const TokenMask>> mask(State state);

  /// Memory is used up: states stay valid, new ones are refused.
  bool is_full() const { return n_bytes_ > limits_.n_bytes; }
  /// A state as another automaton of the same grammar takes it.
  struct Exported {
    using Place = std::pair<uint32_t, uint32_t>;  // node, index of its calls
    std::vector<std::vector<Place>> calls;        // each set behind those that it speaks of; the first: none
    std::vector<Place> places;
    bool can_end = false;
  };
  Exported export_state(State state) const;
  Result<State> import_state(const Exported& from);
  size_t n_bytes() const { return n_bytes_; }  // of all states, masks included

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;
  static constexpr uint32_t kNoCalls = 0;
  static constexpr uint32_t kHere = uint32_t{1} << 31;  // with an index in here_: calls of a rule that begins here
  // A place: node in the low half, its calls in the high one: a set of places to go on with.
  using Place = uint64_t;
  static constexpr Place kEnd = UINT32_MAX;  // the only member of kNoCalls: the text may end
  struct Info {
    size_t first = 0;
    uint32_t n_places = 0;
    bool can_end = false;
    bool has_tokens = false;  // places that wait for a token as such
    std::shared_ptr<const TokenMask> mask;
  };
  struct CallSet {
    size_t first = 0;  // of callers_
    uint32_t n = 0;
  };
  /// A rule that is called at the point of the text that is being looked at.
  struct Here {
    uint32_t rule = 0;
    bool is_through = false;     // without a byte
    std::vector<Place> callers;  // places to go on with
    uint32_t calls = kHere;      // the set, when it is made
  };

  static uint32_t node_of(Place place) { return static_cast<uint32_t>(place); }
  static uint32_t calls_of(Place place) { return static_cast<uint32_t>(place >> 32); }
  static Place place(uint32_t node, uint32_t calls) { return static_cast<Place>(calls) << 32 | node; }

  void begin();
  void open(Place place);
  void call(uint32_t rule, Place caller);
  void leave(uint32_t calls);
  Status close();
  Status settle();
  bool settle(Here& here, std::vector<uint32_t>& missing);
  uint32_t intern_calls(const std::vector<Place>& callers_of_one);
  Result<State> intern();
  Result<State> step(State state, uint8_t byte);
  Status walk(State state, TokenMask& mask);
  std::span<const Place> places(State state) const {
    return std::span(places_).subspan(states_[state].first, states_[state].n_places);
  }
  std::span<const Place> callers(uint32_t calls) const {
    return std::span(callers_).subspan(call_sets_[calls].first, call_sets_[calls].n);
  }

  const std::shared_ptr<const Grammar> grammar_;
  const std::shared_ptr<const TokenTrie> trie_;
  const AutomatonLimits limits_;
  std::vector<Info> states_;
  std::vector<Place> places_;   // of all states
  std::vector<uint32_t> next_;  // (states, 256)
  std::vector<CallSet> call_sets_;
  std::vector<Place> callers_;                             // of all sets
  std::unordered_multimap<uint64_t, uint32_t> calls_ids_;  // by the hash of their callers
  std::unordered_multimap<uint64_t, State> state_ids_;     // by the hash of their places
  size_t n_bytes_ = 0;
  uint64_t work_left_ = 0;
  // Scratch of a step.
  std::vector<Place> open_, found_;
  std::vector<uint32_t> seen_;  // open addressing: index in visited_ plus 1
  std::vector<Place> visited_;
  std::vector<Here> here_;
  std::vector<uint32_t> here_of_;  // of each rule, index in here_ plus 1
  std::vector<Place> merged_;
  bool can_end_ = false, has_tokens_ = false;
};

}  // namespace glimpse::constrain
