// Random vocabularies and random text. The input is lines that describe a vocabulary, then a line "=", then text:
//   T<type><token>   M<merge>   F<bit>: leave the 256 byte tokens out, or give no types   E<eos>
// Besides not crashing: decode(encode(text)) is the text, invalid UTF-8 and only that is refused, no control token
// comes from ordinary text, streams do not depend on how they are cut.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "tokenizer/stop_matcher.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace {

using glimpse::TokenId;
using glimpse::Tokenizer;
using glimpse::TokenType;

using glimpse::fuzz::require;

glimpse::VocabularyData read_vocabulary(std::string_view& input) {
  glimpse::VocabularyData data;
  bool with_bytes = true, with_types = true;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line == "=") break;
    if (line.size() < 2) continue;
    switch (line[0]) {
      case 'T':
        data.tokens.emplace_back(line.substr(2));
        data.token_types.push_back(line[1] - '0');
        break;
      case 'M':
        data.merges.emplace_back(line.substr(1));
        break;
      case 'F':
        with_bytes &= line[1] != '1';
        with_types &= line[1] != '2';
        break;
      case 'E':
        data.eos = line[1] - '0';
        break;
      default:
        break;
    }
  }
  if (with_bytes) glimpse::add_byte_tokens(data);
  data.token_types.resize(data.tokens.size(), 1);
  if (!with_types) data.token_types.clear();
  return data;
}

void check_encoding(const Tokenizer& tokenizer, std::string_view text) {
  const bool valid = glimpse::find_invalid_utf8(text) == std::string_view::npos;
  for (const bool parse_special : {false, true}) {
    for (const bool nfc : {false, true}) {
      const glimpse::TokenizeOptions options{.parse_special = parse_special, .normalize_nfc = nfc};
      const auto ids = tokenizer.encode(text, options);
      require(ids.ok() == valid);
      if (!valid) continue;
      const std::string decoded = tokenizer.decode(ids.value(), true);
      if (!nfc) require(decoded == text);
      require(glimpse::find_invalid_utf8(decoded) == std::string_view::npos);
      const auto again = tokenizer.encode(text, options);  // now from memory
      require(again.ok() && again.value() == ids.value());
      for (const TokenId id : ids.value()) {
        require(id >= 0 && id < tokenizer.size());
        const TokenType type = tokenizer.type(id);
        require(type != TokenType::kUnused);
        if (!parse_special) require(type != TokenType::kControl && type != TokenType::kUnknown);
      }
    }
  }
}

void check_streams(std::string_view text) {
  glimpse::StreamDecoder whole, bytewise;
  std::string expected = whole.push(text), got;
  expected += whole.finish();
  require(glimpse::find_invalid_utf8(expected) == std::string_view::npos);
  // The first characters of the text make the stop strings.
  std::vector<std::string> stops;
  if (expected.size() > 4) stops.push_back(expected.substr(0, glimpse::utf8_at(expected, 0).n_bytes) + "a");
  stops.push_back("ab");
  auto one = glimpse::StopMatcher::create(stops), many = glimpse::StopMatcher::create(stops);
  require(one.ok() && many.ok());
  const auto at_once = one->push(expected);
  const std::string expected_shown = at_once.text + one->finish();
  std::string shown;
  const auto show = [&](const std::string& piece) {
    require(glimpse::find_invalid_utf8(piece) == std::string_view::npos);
    got += piece;
    shown += many->push(piece).text;
    require(expected_shown.starts_with(shown));
  };
  for (const char byte : text) show(bytewise.push({&byte, 1}));
  show(bytewise.finish());
  shown += many->finish();
  require(got == expected);
  require(shown == expected_shown);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(bytes), size);
  check_streams(input);
  const glimpse::VocabularyData data = read_vocabulary(input);
  const auto tokenizer = Tokenizer::create(data);
  if (!tokenizer.ok()) {
    require(!tokenizer.error().message.empty());
    return 0;
  }
  check_encoding(tokenizer.value(), input);
  for (TokenId id = -1; id <= tokenizer->size(); ++id) {
    require(tokenizer->token_bytes(id, false).size() <= tokenizer->token_bytes(id, true).size());
  }
  return 0;
}
