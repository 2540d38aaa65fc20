// A vocabulary checked and indexed: what Tokenizer is made of.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/bpe.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

struct Vocabulary {
  TokenTable tokens;
  std::vector<TokenType> types;  // after the corrections that Tokenizer::create describes
  MergeTable merges;
  SpecialTokens specials;
  std::array<TokenId, 256> byte_tokens{};  // the token that stands for one byte
  std::vector<TokenId> ends;               // end of generation, without repeats
  TokenId eos = -1, padding = -1;

  /// By text as the file has it.
  TokenId find(std::string_view text) const;
};

/// Errors: those of Tokenizer::create.
Result<Vocabulary> build_vocabulary(const VocabularyData& data);

}  // namespace glimpse
