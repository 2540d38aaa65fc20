// Qwen2 byte-level BPE. Knows no engine and no GGUF: it is built from plain vocabulary data.
// Source of the rules: Qwen2 tokenizer.json and llama.cpp src/llama-vocab.cpp, as collected in the tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

using TokenId = int32_t;

enum class TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

/// What a model file says about its vocabulary.
struct VocabularyData {
  std::vector<std::string> tokens;   // byte-encoded strings; special tokens literal
  std::vector<int32_t> token_types;  // empty: all normal
  std::vector<std::string> merges;   // "left right", earlier = higher priority
  std::string model = "gpt2";        // tokenizer.ggml.model
  std::string pre = "qwen2";         // tokenizer.ggml.pre; empty and "default" mean qwen2 here
  TokenId eos = -1;                  // tokenizer.ggml.eos_token_id; negative: not given
  TokenId eot = -1;                  // tokenizer.ggml.eot_token_id; negative: not given
  TokenId padding = -1;              // tokenizer.ggml.padding_token_id; negative: not given
};

struct TokenizeOptions {
  bool parse_special = false;  // recognise control tokens in the text; only for template parts, never for user text
  /// Recognise what parts an answer, <think>, <tool_call>, <tool_response> and their ends: as the file has them they
  /// are no control tokens. Not for text of users and tools in a chat.
  bool parse_markup = true;
  bool normalize_nfc = true;  // what Hugging Face does; llama.cpp does not
};

class TokenTrie;  // tokenizer/token_trie.h

/// Immutable and thread-safe.
class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{1} << 28;

  /// Tokens with a role in the chat format ("<|im_end|>" ...) become control tokens whatever their type says, so that a
  /// careless file cannot make user text speak for the template, and those that part an answer ("<think>" ...) become
  /// user-defined ones, which are shown; "[PAD151646]" fillers of older files become unused.
  /// Merges that involve a special token are skipped. An empty token i is called "[EMPTY_i]", as llama.cpp does it.
  /// Errors: kUnsupported (another model or pre-tokenizer), kTooLarge (ids or bytes beyond 31 bits, a special token of
  /// more than 512 bytes), kCorrupt (empty vocabulary, a special token that is not UTF-8, the same
  /// token twice, an unknown type, a types array of another length, a missing byte token, a merge without a space or of
  /// pieces that are no tokens, an eos, eot or padding id outside the vocabulary). Unused tokens may be empty or equal.
  static Result<Tokenizer> create(const VocabularyData& data);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Time O(n log n) and memory O(n) for any text.
  /// Errors: kInvalidArgument for text that is not valid UTF-8 (names the byte offset), kTooLarge above kMaxTextBytes.
  Result<std::vector<TokenId>> encode(std::string_view text, const TokenizeOptions& options) const;

  /// The bytes of one token: normal tokens mapped back to bytes, user-defined literal, control tokens literal when
  /// render_special, else empty. Unused tokens and ids outside the vocabulary give nothing.
  std::string_view token_bytes(TokenId id, bool render_special) const;
  /// Whole sequence at once; may end inside a UTF-8 sequence (see StreamDecoder for text to show).
  std::string decode(const std::vector<TokenId>& ids, bool render_special) const;

  /// The id of a token by its text as the file has it ("<|im_end|>", "\u0120the"), or -1. Unused tokens have no name.
  TokenId find(std::string_view text) const;
  TokenType type(TokenId id) const;
  int64_t size() const;
  TokenId eos() const;      // -1: the file gives none
  TokenId padding() const;  // -1: the file gives none
  /// True for ids that end an answer: <|im_end|>, <|endoftext|> (by their text), the file's eos and eot.
  bool is_end_of_generation(TokenId id) const;
  /// The texts of the tokens as a tree; made when it is first asked for.
  std::shared_ptr<const TokenTrie> trie() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Turns a stream of token bytes into text that is always complete, valid UTF-8: holds back at most 3 bytes, and
/// replaces each maximal invalid subpart by U+FFFD.
class StreamDecoder {
 public:
  /// Adds bytes, returns what may be shown now.
  std::string push(std::string_view bytes);
  /// The rest, at the end of the stream.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace glimpse
