// What is in a session's cache and what comes next: ids by slot, positions, where in the chat format we stand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/generate/session.h"
#include "engine/model/pass_input.h"
#include "engine/model/positions.h"
#include "tokenizer/chat.h"

namespace glimpse {

/// The rows that new messages add to the cache.
struct PromptInput {
  std::vector<TokenId> history_ids;  // pad tokens where rows of pictures stand in
  PassInput pass;                    // the rows
  std::vector<const ImageEmbedding*> pictures;
  int64_t n_image_tokens = 0;
  int64_t n_before = 0;  // cache slots in use when these rows go in
  bool is_raw = false;   // ends without a generation prompt
};

/// Messages as the chat format takes them; pictures are checked and appended to `pictures` in their order. Errors:
/// kMismatch, kInvalidArgument: of an embedding.
Result<std::vector<ChatMessage>> chat_messages(const std::vector<Message>& messages, int64_t embedding_width,
                                               uint64_t vision_fingerprint,
                                               std::vector<const ImageEmbedding*>& pictures);

/// The text of the chat format for messages at the start of a conversation, with the generation prompt, control tokens
/// spelled out and one pad token for each picture. Errors: those of tokenize_chat().
Result<std::string> render_chat(const Model& model, const std::vector<Message>& messages,
                                const PromptOptions& options = {});

/// Bookkeeping only: the owner runs the decoder and says what entered the cache. Pending tokens, all text, belong to
/// the conversation but are not in the cache yet; they go in with the next pass.
class Conversation {
 public:
  enum class Turn {
    kStart,     // empty
    kPrompted,  // ends with a generation prompt, no answer yet
    kOpen,      // inside an answer, after one that was cut off, or after a raw message
    kEnded,     // the model ended its answer; its <|im_end|> is not kept, what comes next brings one
  };
  /// An answer begins behind the greatest position of its prompt (rope_delta in transformers), which the time of a
  /// video may have put beyond what follows it: from `slot` on, positions are `by` further than they would be.
  struct Jump {
    int64_t slot = -1;  // -1: none
    int32_t by = 0;
    bool operator==(const Jump&) const = default;
  };
  struct Checkpoint {
    int64_t n_cached = 0;
    int32_t next_position = 0;
    Turn turn = Turn::kStart;
    std::vector<TokenId> pending;
    int32_t greatest = -1;
    Jump jump;
  };

  /// All of it, as it can be kept elsewhere.
  struct State {
    std::vector<TokenId> cached;
    std::vector<TokenId> pending;
    int32_t next_position = 0;  // after the cached tokens, without a jump there
    Turn turn = Turn::kStart;
    int32_t greatest = -1;  // time of any cached picture or video
    Jump jump;
  };

  Conversation(const Tokenizer& tokenizer, const ChatFormat& format) : tokenizer_(tokenizer), format_(format) {}

  /// Of the prompts from now on.
  void set_options(PromptOptions options) { options_ = std::move(options); }
  const PromptOptions& options() const { return options_; }
  /// What comes next, if it is an answer, begins inside of <think>.
  bool inside_thinking() const;

  /// From now on a conversation of n tokens, cached and pending, grows without an allocation: only prompt(),
  /// pending_positions() and checkpoint() can run out of memory.
  void reserve(int64_t n);

  Turn turn() const { return turn_; }
  int64_t n_cached() const { return static_cast<int64_t>(cached_.size()); }
  int64_t n_cached_as_prompt() const { return jump_.by > 0 ? std::min(jump_.slot, n_cached()) : n_cached(); }
  std::span<const TokenId> cached() const { return cached_; }
  std::span<const TokenId> pending() const { return pending_; }
  /// Of the pending tokens and of n_more text tokens after them.
  std::vector<MropePosition> pending_positions(int64_t n_more) const;

  /// The rows that new messages and the generation prompt add, pending tokens first. A generation prompt that nobody
  /// answered is taken back, and so is what earlier answers thought where the template has it so: n_before is then less
  /// than n_cached(). Changes nothing.
  /// embedding_width: of the decoder; vision_fingerprint: of the model, 0 when it has none. The result points into the
  /// messages' embeddings. Errors: kMismatch (an embedding of another width or encoder), those of tokenize_chat().
  Result<PromptInput> prompt(const std::vector<Message>& messages, int64_t embedding_width,
                             uint64_t vision_fingerprint) const;
  /// The prompt's rows are in the cache.
  void commit(const PromptInput& input);
  /// The pending tokens are in the cache.
  void commit_pending();
  /// A token of the answer: it is pending.
  void append(TokenId id);
  /// The model ended its answer.
  void end_answer() { turn_ = Turn::kEnded; }
  /// Moves the cached tokens from slot n on, which must be text, to the front of the pending ones.
  void uncache_from(int64_t n);
  /// Keeps the first n tokens, cached and pending together (the others must be text), and appends `rest` as pending;
  /// reserve() must have counted it.
  void cut(int64_t n, std::span<const TokenId> rest);

  Checkpoint checkpoint() const { return {n_cached(), positions_.next(), turn_, pending_, greatest_, jump_}; }
  /// Precondition: no slot below the checkpoint's n_cached was given up since.
  void restore(const Checkpoint& checkpoint);
  State state() const { return {cached_, pending_, positions_.next(), turn_, greatest_, jump_}; }
  /// That a state which came from elsewhere is one that a conversation can be in. Errors: kCorrupt.
  Status check(const State& state) const;
  /// Allocates nothing for a conversation that reserve() has counted.
  void set_state(const State& state);

 private:
  std::vector<TokenId> tokens() const;
  Status take_back(const std::vector<ChatMessage>& next, PromptInput& input) const;
  Status assemble(PromptInput& input, const TokenizedChat& chat) const;
  // What the jump adds on the way from one slot to a later one.
  int32_t jump_between(int64_t from, int64_t to) const { return from <= jump_.slot && jump_.slot < to ? jump_.by : 0; }
  // Without a jump there; n <= n_cached(), and what lies between is text.
  int32_t position_at(int64_t n) const {
    return positions_.next() - static_cast<int32_t>(n_cached() - n) - jump_between(n, n_cached());
  }

  const Tokenizer& tokenizer_;
  const ChatFormat format_;
  PromptOptions options_;
  std::vector<TokenId> cached_;  // one per cache slot; pad tokens where pictures are
  std::vector<TokenId> pending_;
  PositionCounter positions_;  // after the cached tokens, without a jump there
  int32_t greatest_ = -1;      // time of any cached picture or video, which stay when text is taken back
  Jump jump_;
  Turn turn_ = Turn::kStart;
};

}  // namespace glimpse
