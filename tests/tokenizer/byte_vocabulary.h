// Vocabularies for tests begin with a token for each byte.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace glimpse {

/// How a vocabulary spells these bytes.
inline std::string spell_bytes(std::string_view bytes) {
  std::string spelled;
  for (const char b : bytes) append_utf8(byte_to_character(static_cast<unsigned char>(b)), spelled);
  return spelled;
}

/// Appends the 256 tokens.
inline void add_byte_tokens(VocabularyData& data) {
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    data.tokens.push_back(spell_bytes({&byte, 1}));
  }
}

}  // namespace glimpse
