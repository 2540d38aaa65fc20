// Schemas, regular expressions and grammars from anywhere. The first line says which ("schema", "regex", "gbnf"), the
// rest is the text. What compiles is walked: masks say what allows() says, there is always a way on, and JSON is JSON.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constrain/constraint.h"
#include "tests/fuzz/fuzz.h"
#include "tokenizer/json.h"
#include "tokenizer/utf8.h"

namespace {

using glimpse::Constraint;
using glimpse::ConstraintState;
using glimpse::TokenId;

using glimpse::fuzz::require;

const glimpse::Tokenizer& tokenizer() {
  static const glimpse::Tokenizer instance = glimpse::fuzz::byte_tokenizer([](glimpse::VocabularyData& data) {
    for (const char* token : {"\": ", ", \"", "{\"", "\"}", "ab", "12", "caf\xC3\xA9", "\xA9\"", "[[", "]]", "true"}) {
      glimpse::fuzz::add_token(data, glimpse::spell_bytes(token));
    }
    data.eos = static_cast<TokenId>(data.tokens.size());
    for (const char* token : {"<|im_end|>", "<|endoftext|>", "<|box_start|>"}) {
      glimpse::fuzz::add_token(data, token, glimpse::TokenType::kControl);
    }
  });
  return instance;
}

// A few dozen tokens, chosen by the text's own bytes.
void walk(const Constraint& constraint, std::string_view choices, bool is_json) {
  auto start = constraint.start();
  require(start.ok());
  ConstraintState state = std::move(start).value();
  std::string said;
  for (size_t step = 0; step < 24; ++step) {
    const auto mask = state.mask();
    if (!mask.ok()) return;  // too ambiguous
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < tokenizer().size(); ++id) {
      if (mask.value()->allows(id)) allowed.push_back(id);
      if (step % 8 != 0) continue;
      const auto one = state.allows(id);
      require(one.ok() && one.value() == mask.value()->allows(id));
    }
    require(!allowed.empty());
    require(mask.value()->allows(tokenizer().eos()) == state.can_end());
    if (is_json && state.can_end()) require(glimpse::parse_json(said, {.any_number = true}).ok());
    const auto forced = state.forced_tokens(tokenizer());
    if (!forced.ok()) return;
    const auto choice = static_cast<unsigned char>(choices.empty() ? step : choices[step * 7 % choices.size()]);
    const TokenId id = forced.value().empty() ? allowed[choice % allowed.size()] : forced.value()[0];
    require(state.accept(id).ok());
    if (tokenizer().is_end_of_generation(id)) break;
    said += tokenizer().token_bytes(id, false);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(bytes), size);
  const size_t line = std::min(all.find('\n'), all.size());
  const std::string_view kind = all.substr(0, line), text = all.substr(std::min(line + 1, all.size()));
  const bool is_json = kind == "schema";
  const auto constraint = is_json           ? Constraint::compile_json_schema(tokenizer(), text)
                          : kind == "regex" ? Constraint::compile_regex(tokenizer(), text)
                                            : Constraint::compile_gbnf(tokenizer(), text);
  if (constraint.ok()) {
    walk(*constraint.value(), text, is_json);
  } else {
    require(!constraint.error().message.empty());
  }
  return 0;
}
