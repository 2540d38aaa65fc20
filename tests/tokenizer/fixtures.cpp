#include "tests/tokenizer/fixtures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/tokenizer/byte_vocabulary.h"
#include "tokenizer/utf8.h"

namespace glimpse::test {

std::string read_data(const std::string& name) {
  const std::string path = std::string(GLIMPSE_TEST_DIR) + "/tokenizer/data/" + name;
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

const VocabularyData& small_vocabulary() {
  static const VocabularyData vocabulary = [] {
    VocabularyData data;
    for (const std::string& line : split_lines(read_data("small.vocab"))) {
      if (line[0] == 'T') {
        data.token_types.push_back(line[2] - '0');
        data.tokens.push_back(line.substr(4));
      } else {
        data.merges.push_back(line.substr(2));
      }
    }
    return data;
  }();
  return vocabulary;
}

const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = [] {
    auto created = Tokenizer::create(small_vocabulary());
    EXPECT_TRUE(created.ok()) << created.error().message;
    return std::move(created).value();
  }();
  return tokenizer;
}

VocabularyData byte_vocabulary(const std::vector<std::string>& extra, const std::vector<std::string>& merges) {
  VocabularyData data;
  add_byte_tokens(data);
  data.tokens.insert(data.tokens.end(), extra.begin(), extra.end());
  data.token_types.assign(data.tokens.size(), 1);
  data.merges = merges;
  return data;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "\\x") {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i + 2, 2)), nullptr, 16)));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<TokenId> parse_ids(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<TokenId>(in), std::istream_iterator<TokenId>()};
}

std::vector<TokenId> naive_bpe(const VocabularyData& data, std::string_view piece) {
  std::vector<std::string> symbols;
  for (const char byte : piece) symbols.push_back(spell_bytes({&byte, 1}));
  for (const std::string& merge : data.merges) {
    // A merge of higher rank never makes a pair of lower rank here: every token is made after its parts.
    const size_t space = merge.find(' ', 1);
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i] == left && symbols[i + 1] == right) {
        symbols[i] += right;
        symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
  }
  std::vector<TokenId> ids;
  for (const std::string& symbol : symbols) {
    ids.push_back(
        static_cast<TokenId>(std::find(data.tokens.begin(), data.tokens.end(), symbol) - data.tokens.begin()));
  }
  return ids;
}

std::string random_text(std::mt19937& random, size_t n_characters) {
  static const std::u32string kCommon =
      U"  \n\r\tabcdestmlvrABC019'.,-_()\u00e9\u0301\u0327\u017f\u4e2d\uac00\u1100\u1161"
      U"\u00a0\u3000\u200d\U0001F469\U0001F3FD\u0663\u05d0";
  std::string text;
  for (size_t i = 0; i < n_characters; ++i) {
    char32_t c = kCommon[random() % kCommon.size()];
    if (random() % 8 == 0) c = static_cast<char32_t>(random() % 0x110000);
    if (random() % 8 == 0) c = static_cast<char32_t>(random() % 0x3100);
    if (c >= 0xD800 && c < 0xE000) c = 'x';
    append_utf8(c, text);
  }
  return text;
}

}  // namespace glimpse::test
