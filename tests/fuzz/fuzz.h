// What fuzzers share: a check that ends the process, and a small tokenizer.
#pragma once

#include <cstdlib>
#include <string_view>
#include <utility>

#include "tests/tokenizer/byte_vocabulary.h"

namespace glimpse::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

/// Of the 256 bytes and what `add` does to the vocabulary.
template <typename Add>
Tokenizer byte_tokenizer(Add&& add) {
  VocabularyData data;
  add_byte_tokens(data);
  data.token_types.assign(data.tokens.size(), 1);
  add(data);
  auto created = Tokenizer::create(data);
  require(created.ok());
  return std::move(created).value();
}
inline void add_token(VocabularyData& data, std::string_view token, TokenType type = TokenType::kNormal) {
  data.tokens.emplace_back(token);
  data.token_types.push_back(static_cast<int32_t>(type));
}

}  // namespace glimpse::fuzz
