#include "tokenizer/earlier_thinking.h"

#include <algorithm>
#include <string>

namespace glimpse {
namespace {

// The text of an answer behind its thinking, ids[begin, end), as it stands behind "assistant\n".
Result<std::vector<TokenId>> rest_of_answer(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  size_t n_text = 0;  // up to the first token that stands for itself
  std::string text;
  for (; n_text < ids.size(); ++n_text) {
    const TokenType type = tokenizer.type(ids[n_text]);
    if (type != TokenType::kNormal && type != TokenType::kByte) break;
    text += tokenizer.token_bytes(ids[n_text], false);
  }
  text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
  const TokenizeOptions as_it_is{.parse_markup = false, .normalize_nfc = false};
  Result<std::vector<TokenId>> out = tokenizer.encode("assistant\n" + text, as_it_is);
  if (!out.ok()) return out;  // an answer that was cut inside of a character
  out.value().insert(out.value().end(), ids.begin() + static_cast<ptrdiff_t>(n_text), ids.end());
  return out;
}

}  // namespace

Result<WithoutThinking> without_thinking(const Tokenizer& tokenizer, std::span<const TokenId> ids,
                                         const ChatStyle& style) {
  const WithoutThinking unchanged{ids.size(), {}};
  const TokenId start = tokenizer.find("<|im_start|>"), end = tokenizer.find("<|im_end|>");
  const TokenId close = tokenizer.find("</think>");
  if (style.thinking == ChatStyle::Thinking::kNone || start < 0 || close < 0) return unchanged;
  GLIMPSE_ASSIGN(const std::vector<TokenId> header, tokenizer.encode("assistant\n", {}));
  const TokenId image = tokenizer.find("<|image_pad|>"), video = tokenizer.find("<|video_pad|>");
  const auto last_pad =
      std::find_if(ids.rbegin(), ids.rend(), [&](TokenId id) { return id >= 0 && (id == image || id == video); });

  WithoutThinking out = unchanged;
  bool changed = false;
  size_t copied = 0;  // ids up to here are in out
  for (auto at = static_cast<size_t>(ids.rend() - last_pad); at < ids.size(); ++at) {
    const std::span<const TokenId> behind = ids.subspan(at + 1);
    if (ids[at] != start || behind.size() < header.size() ||
        !std::equal(header.begin(), header.end(), behind.begin())) {
      continue;
    }
    const auto stop = std::find_if(behind.begin(), behind.end(), [&](TokenId id) { return id == start || id == end; });
    const std::span<const TokenId> answer(behind.begin(), stop);
    const auto closing = std::find(answer.rbegin(), answer.rend(), close);
    if (closing == answer.rend()) continue;
    const auto n_thinking = static_cast<size_t>(answer.rend() - closing);
    Result<std::vector<TokenId>> rest = rest_of_answer(tokenizer, answer.subspan(n_thinking));
    if (!rest.ok()) continue;
    if (!changed) out.n_kept = copied = at + 1;
    changed = true;
    out.tail.insert(out.tail.end(), ids.begin() + static_cast<ptrdiff_t>(copied),
                    ids.begin() + static_cast<ptrdiff_t>(at) + 1);
    out.tail.insert(out.tail.end(), rest.value().begin(), rest.value().end());
    copied = at + 1 + answer.size();
    at = copied - 1;
  }
  if (changed) out.tail.insert(out.tail.end(), ids.begin() + static_cast<ptrdiff_t>(copied), ids.end());
  return out;
}

}  // namespace glimpse
