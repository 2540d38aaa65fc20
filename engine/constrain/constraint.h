// What an answer may be: JSON of a schema, one of some texts, what a regular expression matches, a grammar's texts.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/constrain/automaton.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

using constrain::TokenMask;

class ConstraintState;

/// Compiled once, for one tokenizer, used by any number of answers in any threads. The states that answers reach, and
/// their masks, are kept in it (up to a limit) and found again by the next answer.
class Constraint : public std::enable_shared_from_this<Constraint> {
 public:
  using Ptr = std::shared_ptr<const Constraint>;
  static constexpr size_t kMaxSourceBytes = size_t{1} << 20;

  /// JSON of a schema (JSON Schema 2020-12, what README.md of this room lists of it), or of the ready one called
  /// "boxes". Errors: kInvalidArgument for what is no JSON (line and column) or no schema, or allows no answer;
  /// kUnsupported for a keyword that is not supported; both name the place as a JSON pointer. kTooLarge.
  static Result<Ptr> compile_json_schema(const Tokenizer& tokenizer, std::string_view schema);
  /// Any JSON object.
  static Result<Ptr> compile_json_object(const Tokenizer& tokenizer);
  /// A text that the expression matches as a whole. Errors: kInvalidArgument and kUnsupported name the character;
  /// kTooLarge.
  static Result<Ptr> compile_regex(const Tokenizer& tokenizer, std::string_view expression);
  /// One of the texts. Errors: kInvalidArgument: none, an empty one, or one that is not UTF-8.
  static Result<Ptr> compile_choice(const Tokenizer& tokenizer, std::span<const std::string> texts);
  /// A text of rule `root`, in llama.cpp's notation. Errors: as compile_regex(), with line and column.
  static Result<Ptr> compile_gbnf(const Tokenizer& tokenizer, std::string_view grammar);

  ~Constraint();
  /// Where an answer begins.
  Result<ConstraintState> start() const;
  /// Whether it was compiled for this one, or one of the same vocabulary.
  bool is_for(const Tokenizer& tokenizer) const;
  /// Of its grammar, and of the states and masks that answers have reached so far.
  size_t memory_bytes() const;

 private:
  friend class ConstraintState;
  struct Impl;
  explicit Constraint(std::unique_ptr<Impl> impl);
  static Result<Ptr> make(const Tokenizer& tokenizer, Result<constrain::Grammar> grammar);
  std::unique_ptr<Impl> impl_;
};

/// Where in its constraint an answer is. Copies are independent of one another. Errors of all calls: kTooLarge where
/// the grammar is so ambiguous that the work or memory of a step passes its limit.
class ConstraintState {
 public:
  /// Whether the token may come next: its bytes can be continued to a text that is allowed; a token that ends answers
  /// where the text may end here.
  Result<bool> allows(TokenId id);
  /// All that may. Never empty before the end.
  Result<std::shared_ptr<const TokenMask>> mask();
  /// The token is said. Errors: kInvalidArgument when it may not; nothing has changed then.
  Status accept(TokenId id);
  /// Whether the text may end here.
  bool can_end() const;
  /// Whether nothing but the end can follow.
  bool is_complete() const;
  /// What must follow, whatever is chosen: as long as there is one way only, at most max_bytes.
  Result<std::string> forced_text(size_t max_bytes);
  /// forced_text() as the tokenizer writes it: without those last tokens that might be written otherwise together with
  /// what follows; where nothing can follow, with the token that ends the answer. Empty where nothing is forced.
  Result<std::vector<TokenId>> forced_tokens(const Tokenizer& tokenizer);

 private:
  friend class Constraint;
  explicit ConstraintState(std::shared_ptr<const Constraint> constraint) : constraint_(std::move(constraint)) {}
  template <typename Work>
  auto locked(Work work) -> decltype(work());
  Result<std::string> forced_from(constrain::Automaton::State state, size_t max_bytes);
  Result<bool> may_be_longer(std::string_view text, constrain::Automaton::State behind);

  std::shared_ptr<const Constraint> constraint_;
  std::shared_ptr<constrain::Automaton> automaton_;  // under the constraint's lock
  constrain::Automaton::State state_ = 0;
  bool ended_ = false;
};

}  // namespace glimpse
