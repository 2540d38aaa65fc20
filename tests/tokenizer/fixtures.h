// What the tokenizer tests share: the small vocabulary, naive references to compare with, seeded random text.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace glimpse::test {

/// tests/tokenizer/data/<name> as bytes; fails the running test when it cannot be read.
std::string read_data(const std::string& name);
std::vector<std::string> split_lines(const std::string& text);

/// tests/tokenizer/data/small.vocab.
const VocabularyData& small_vocabulary();
const Tokenizer& small_tokenizer();
/// The 256 byte tokens (id = byte), then `extra`, all of type normal.
VocabularyData byte_vocabulary(const std::vector<std::string>& extra = {}, const std::vector<std::string>& merges = {});

/// Undoes \xHH.
std::string unescape(std::string_view text);
std::vector<TokenId> parse_ids(const std::string& text);

/// The textbook: repeat over all pairs, lowest rank first, leftmost first; by strings, quadratic.
std::vector<TokenId> naive_bpe(const VocabularyData& data, std::string_view piece);

/// Valid UTF-8: letters, digits, blanks, marks, apostrophes, emoji, random scalar values.
std::string random_text(std::mt19937& random, size_t n_characters);

}  // namespace glimpse::test
