// A small vocabulary whose tokens cross every border that constraints care about, and answers drawn from it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/constrain/constraint.h"
#include "tests/tokenizer/byte_vocabulary.h"
#include "tokenizer/token_trie.h"
#include "tokenizer/tokenizer.h"

namespace glimpse::testing {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

/// Bytes, and the merges of byte pair encoding trained on a line that is repeated pairs of everything: quotes with
/// commas, brackets, letters, halves of characters of two to four bytes.
inline const Tokenizer& small_tokenizer() {
  static const Tokenizer instance = [] {
    const std::string corpus =
        "{\"name\": \"value\", \"list\": [1, 2.5, -30, true, false, null], \"x\": {\"y\": [[]], \"z\": {}}} "
        "\"}, {\"bbox_2d\": [10, 20, 300, 999], \"label\": \"caf\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x98\x80\"}] "
        "2024-02-29T12:34:56Z abc abab aab bba cab yes no maybe not \\n \\u00e9 \"\": \"\", 00 11 1e5 0.0";
    VocabularyData data;
    add_byte_tokens(data);
    std::vector<std::string> symbols;
    for (const char c : corpus) symbols.push_back(spell_bytes({&c, 1}));
    std::map<std::string, int> known;
    for (int round = 0; round < 3; ++round) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const std::string both = symbols[i] + symbols[i + 1];
        if (!known.emplace(both, 1).second ||
            std::find(data.tokens.begin(), data.tokens.end(), both) != data.tokens.end())
          continue;
        data.tokens.push_back(both);
        data.merges.push_back(symbols[i] + " " + symbols[i + 1]);
      }
      std::vector<std::string> longer;
      for (size_t i = 0; i < symbols.size(); i += 2) {
        longer.push_back(i + 1 < symbols.size() ? symbols[i] + symbols[i + 1] : symbols[i]);
      }
      symbols = longer;
    }
    data.token_types.assign(data.tokens.size(), 1);
    const auto add = [&](const char* token, int type) {
      data.tokens.emplace_back(token);
      data.token_types.push_back(type);
    };
    add("<|im_start|>", 3);
    add("<|im_end|>", 3);
    add("<|endoftext|>", 3);
    add("<tool_call>", 4);
    add("<|box_start|>", 3);
    add(spell_bytes("\n\n").c_str(), 1);
    add("\n\n", 4);  // the bytes of another token
    data.eos =
        static_cast<TokenId>(std::find(data.tokens.begin(), data.tokens.end(), "<|im_end|>") - data.tokens.begin());
    return must(Tokenizer::create(data));
  }();
  return instance;
}

/// A grammar that has more ways to read a text than are followed.
struct TooAmbiguous : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Whether the whole text is allowed, byte by byte.
inline bool accepts(const Constraint& constraint, std::string_view text) {
  ConstraintState state = must(constraint.start());
  for (const char c : text) {
    const TokenId id = small_tokenizer().find(spell_bytes({&c, 1}));
    const Status status = state.accept(id);
    if (status.ok()) continue;
    if (status.error().code == ErrorCode::kTooLarge) throw TooAmbiguous(status.error().message);
    return false;
  }
  return state.can_end();
}

/// A text of tokens drawn evenly from those allowed; the end is taken as soon as it may be, where `hurry` says so.
/// nullopt: it did not end within max_tokens.
inline std::optional<std::string> draw_text(const Constraint& constraint, uint64_t seed, size_t max_tokens,
                                            double hurry = 0.2) {
  const Tokenizer& tokenizer = small_tokenizer();
  std::mt19937_64 random(seed);
  ConstraintState state = must(constraint.start());
  std::string text;
  for (size_t i = 0; i < max_tokens; ++i) {
    const auto mask = must(state.mask());
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < tokenizer.size(); ++id) {
      if (mask->allows(id)) allowed.push_back(id);
    }
    if (allowed.empty()) throw std::runtime_error("nothing is allowed after '" + text + "'");
    if (state.can_end() && (std::generate_canonical<double, 20>(random) < hurry || state.is_complete())) {
      if (!state.accept(tokenizer.eos()).ok()) throw std::runtime_error("the end is refused");
      return text;
    }
    const TokenId id = allowed[random() % allowed.size()];
    if (!state.accept(id).ok()) throw std::runtime_error("a token of the mask is refused");
    if (tokenizer.is_end_of_generation(id)) return text;
    text += tokenizer.token_bytes(id, false);
  }
  return std::nullopt;
}

/// compile(text) fails with this code; its message begins with `begins` and has the words beside the text.
template <typename Compile>
void expect_errors(Compile compile, const char* begins, ErrorCode code,
                   std::initializer_list<std::pair<std::string, const char*>> cases) {
  for (const auto& [text, words] : cases) {
    const auto result = compile(text);
    ASSERT_FALSE(result.ok()) << text;
    const std::string& message = result.error().message;
    EXPECT_EQ(result.error().code, code) << text << ": " << message;
    EXPECT_NE(message.find(begins), std::string::npos) << text << ": " << message;
    EXPECT_NE(message.find(words), std::string::npos) << "want '" << words << "' for " << text << ": " << message;
  }
}

}  // namespace glimpse::testing
