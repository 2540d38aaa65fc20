#include "engine/constrain/constraint.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "engine/constrain/frontends.h"
#include "tokenizer/utf8.h"

namespace glimpse {

using constrain::Automaton;
using constrain::Grammar;

namespace {

constexpr size_t kStateBytes = size_t{48} << 20;  // of a constraint's states: 2000 masks of 151936 tokens
constexpr uint64_t kWork = uint64_t{1} << 24;     // places looked at for a token, a fifth of a second

}  // namespace

struct Constraint::Impl {
  std::shared_ptr<const Grammar> grammar;
  std::shared_ptr<const TokenTrie> trie;
  std::mutex mutex;  // of the automata
  std::shared_ptr<Automaton> automaton;

  // The one before is full: it lives as long as an answer is in it.
  void renew() {
    constrain::AutomatonLimits limits;
    limits.n_bytes = kStateBytes;
    limits.work = kWork;
    automaton = std::make_shared<Automaton>(grammar, trie, limits);
  }
};

namespace {

Status check_size(std::string_view source, const char* what) {
  if (source.size() <= Constraint::kMaxSourceBytes) return {};
  return make_error(ErrorCode::kTooLarge, "%s has %d bytes; at most %d are taken", what, source.size(),
                    Constraint::kMaxSourceBytes);
}

}  // namespace

Constraint::Constraint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Constraint::~Constraint() = default;

Result<Constraint::Ptr> Constraint::make(const Tokenizer& tokenizer, Result<Grammar> grammar) {
  if (!grammar.ok()) return std::move(grammar).error();
  auto impl = std::make_unique<Impl>();
  impl->grammar = std::make_shared<const Grammar>(std::move(grammar).value());
  for (const constrain::TokenTerminal& terminal : impl->grammar->terminals) {
    for (const TokenId id : terminal.ids) {
      if (id < 0 || id >= tokenizer.size() || tokenizer.is_end_of_generation(id)) {
        return make_error(ErrorCode::kInvalidArgument,
                          "token %d: the vocabulary has ids 0 to %d, and those that end an answer cannot be in it", id,
                          tokenizer.size() - 1);
      }
    }
  }
  impl->trie = tokenizer.trie();
  impl->renew();
  GLIMPSE_TRY(impl->automaton->start());
  return Ptr(new Constraint(std::move(impl)));
}

Result<Constraint::Ptr> Constraint::compile_regex(const Tokenizer& tokenizer, std::string_view expression) {
  GLIMPSE_TRY(check_size(expression, "the regular expression"));
  return make(tokenizer, constrain::regex_grammar(expression));
}

Result<Constraint::Ptr> Constraint::compile_choice(const Tokenizer& tokenizer, std::span<const std::string> texts) {
  for (const std::string& text : texts) GLIMPSE_TRY(check_size(text, "a choice"));
  return make(tokenizer, constrain::choice_grammar(texts));
}

Result<Constraint::Ptr> Constraint::compile_json_schema(const Tokenizer& tokenizer, std::string_view schema) {
  GLIMPSE_TRY(check_size(schema, "the JSON schema"));
  return make(tokenizer, constrain::json_schema_grammar(schema));
}

Result<Constraint::Ptr> Constraint::compile_json_object(const Tokenizer& tokenizer) {
  return make(tokenizer, constrain::json_object_grammar());
}

Result<Constraint::Ptr> Constraint::compile_gbnf(const Tokenizer& tokenizer, std::string_view grammar) {
  GLIMPSE_TRY(check_size(grammar, "the grammar"));
  return make(tokenizer, constrain::gbnf_grammar(grammar, tokenizer));
}

Result<ConstraintState> Constraint::start() const {
  const std::lock_guard lock(impl_->mutex);
  ConstraintState state(shared_from_this());
  if (impl_->automaton->is_full()) impl_->renew();
  state.automaton_ = impl_->automaton;
  GLIMPSE_ASSIGN(state.state_, state.automaton_->start());
  return state;
}

bool Constraint::is_for(const Tokenizer& tokenizer) const {
  return impl_->trie->fingerprint() == tokenizer.trie()->fingerprint();
}

size_t Constraint::memory_bytes() const {
  const Grammar& g = *impl_->grammar;
  size_t n = g.nodes.size() * sizeof(Grammar::Node) + (g.targets.size() + g.starts.size()) * sizeof(uint32_t) +
             g.sets.size() * sizeof(constrain::ByteSet) + g.terminals.size() * sizeof(constrain::TokenTerminal);
  const std::lock_guard lock(impl_->mutex);
  return n + impl_->automaton->n_bytes();
}

// Runs `work` on the automaton. Where that is full the answer goes on in an empty one.
template <typename Work>
auto ConstraintState::locked(Work work) -> decltype(work()) {
  Constraint::Impl& shared = *constraint_->impl_;
  const std::lock_guard lock(shared.mutex);
  auto result = work();
  if (result.ok() || !automaton_->is_full()) return result;
  const Automaton::Exported here = automaton_->export_state(state_);
  if (shared.automaton->is_full()) shared.renew();
  auto moved = shared.automaton->import_state(here);
  if (!moved.ok()) return std::move(moved).error();
  automaton_ = shared.automaton;
  state_ = moved.value();
  return work();
}

Result<bool> ConstraintState::allows(TokenId id) {
  const TokenTrie& trie = *constraint_->impl_->trie;
  if (ended_ || id < 0 || id >= trie.n_tokens()) return false;
  if (std::binary_search(trie.ends().begin(), trie.ends().end(), id)) return can_end();
  return locked([&]() -> Result<bool> {
    GLIMPSE_ASSIGN(const Automaton::State next, automaton_->next_token(state_, id, trie.bytes(id)));
    return next != Automaton::kDead;
  });
}

Result<std::shared_ptr<const TokenMask>> ConstraintState::mask() {
  return locked([&] { return automaton_->mask(state_); });
}

Status ConstraintState::accept(TokenId id) {
  const TokenTrie& trie = *constraint_->impl_->trie;
  const auto refused = [id] {
    return make_error(ErrorCode::kInvalidArgument, "token %d does not fit what the answer is constrained to", id);
  };
  if (ended_ || id < 0 || id >= trie.n_tokens()) return refused();
  if (std::binary_search(trie.ends().begin(), trie.ends().end(), id)) {
    if (!can_end()) return refused();
    ended_ = true;
    return {};
  }
  GLIMPSE_ASSIGN(const Automaton::State next,
                 locked([&] { return automaton_->next_token(state_, id, trie.bytes(id)); }));
  if (next == Automaton::kDead) return refused();
  state_ = next;
  return {};
}

bool ConstraintState::can_end() const {
  const std::lock_guard lock(constraint_->impl_->mutex);
  return automaton_->can_end(state_);
}

bool ConstraintState::is_complete() const {
  const std::lock_guard lock(constraint_->impl_->mutex);
  return automaton_->is_complete(state_);
}

// Under the lock.
Result<std::string> ConstraintState::forced_from(Automaton::State state, size_t max_bytes) {
  std::string text;
  while (text.size() < max_bytes) {
    const std::optional<uint8_t> byte = automaton_->forced_byte(state);
    if (!byte) break;
    text.push_back(static_cast<char>(*byte));
    GLIMPSE_ASSIGN(state, automaton_->next(state, *byte));
  }
  return text;
}

Result<std::string> ConstraintState::forced_text(size_t max_bytes) {
  return locked([&] { return forced_from(state_, max_bytes); });
}

// Whether some token begins with `text`, which leads to state `behind`, and goes on in a way that fits. Under the lock.
Result<bool> ConstraintState::may_be_longer(std::string_view text, Automaton::State behind) {
  const std::span<const TokenTrie::Node> nodes = constraint_->impl_->trie->nodes();
  size_t begin = 0, end = nodes.size();  // the nodes below what was found so far
  for (const char c : text) {
    while (begin < end && nodes[begin].byte != static_cast<uint8_t>(c)) begin = nodes[begin].end;
    if (begin == end) return false;
    end = nodes[begin].end;
    ++begin;
  }
  for (; begin < end; begin = nodes[begin].end) {
    GLIMPSE_ASSIGN(const Automaton::State next, automaton_->next(behind, nodes[begin].byte));
    if (next != Automaton::kDead) return true;
  }
  return false;
}

Result<std::vector<TokenId>> ConstraintState::forced_tokens(const Tokenizer& tokenizer) {
  constexpr size_t kMostBytes = 1024;  // at once; the rest follows
  const TokenTrie& trie = *constraint_->impl_->trie;
  return locked([&]() -> Result<std::vector<TokenId>> {
    if (ended_) return std::vector<TokenId>();
    GLIMPSE_ASSIGN(std::string text, forced_from(state_, kMostBytes));
    text.resize(std::min(text.size(), find_invalid_utf8(text)));  // it may end, or begin, inside a character
    GLIMPSE_ASSIGN(std::vector<TokenId> ids, tokenizer.encode(text, {.parse_special = false, .normalize_nfc = false}));
    std::string encoded;
    Automaton::State behind = state_;
    for (const TokenId id : ids) {
      const std::string_view bytes = trie.bytes(id);
      if (bytes.empty()) return std::vector<TokenId>();
      encoded += bytes;
      GLIMPSE_ASSIGN(behind, automaton_->next_token(behind, id, bytes));
    }
    if (encoded != text) return std::vector<TokenId>();
    if (automaton_->is_complete(behind)) {
      const bool usual = tokenizer.is_end_of_generation(tokenizer.eos());
      if (!trie.ends().empty()) ids.push_back(usual ? tokenizer.eos() : trie.ends()[0]);
      return ids;
    }
    size_t begin = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      GLIMPSE_ASSIGN(const bool open, may_be_longer(std::string_view(text).substr(begin), behind));
      if (open) {
        ids.resize(i);
        break;
      }
      begin += trie.bytes(ids[i]).size();
    }
    return ids;
  });
}

}  // namespace glimpse
