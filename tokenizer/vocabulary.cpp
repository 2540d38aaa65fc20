#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr size_t kMax31 = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxSpecialBytes = 512;  // matching costs at most this per byte of text; real ones have some 20

// As much of a token or merge as a message shows.
std::string_view shown(std::string_view text) {
  return text.substr(0, 40);
}

// Aliases name the same splitter (llama.cpp, src/llama-vocab.cpp); old files have nothing or "default" here.
constexpr std::string_view kPreTokenizers[] = {"qwen2", "", "default", "deepseek-r1-qwen", "kormo", "f2llmv2"};

// The tokens that carry the structure of a conversation (added_tokens of Qwen2-VL's tokenizer_config.json).
constexpr std::string_view kChatTokens[] = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",     "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>", "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",  "<|video_pad|>"};

// What parts an answer (added_tokens of Qwen3's tokenizer_config.json, none of them "special").
constexpr std::string_view kMarkupTokens[] = {"<tool_call>",      "</tool_call>", "<tool_response>",
                                              "</tool_response>", "<think>",      "</think>"};

bool is_markup(std::string_view text) {
  return std::find(std::begin(kMarkupTokens), std::end(kMarkupTokens), text) != std::end(kMarkupTokens);
}

constexpr std::string_view kEndTokens[] = {"<|im_end|>", "<|endoftext|>"};

bool looks_like_control(std::string_view text) {
  return text.size() > 4 && text.starts_with("<|") && text.ends_with("|>");
}

Result<TokenType> corrected_type(const VocabularyData& data, size_t id) {
  const std::string_view text = data.tokens[id];
  if (std::find(std::begin(kChatTokens), std::end(kChatTokens), text) != std::end(kChatTokens)) {
    return TokenType::kControl;
  }
  if (is_markup(text)) return TokenType::kUserDefined;
  const int32_t type = data.token_types.empty() ? 1 : data.token_types[id];
  if (type < 1 || type > 6) return make_error(ErrorCode::kCorrupt, "token %d: type %d, known are 1 to 6", id, type);
  const auto known = static_cast<TokenType>(type);
  if (known == TokenType::kUserDefined) {
    // Older converters declare the fillers of unused rows as user-defined; matched as such, text would reach ids that
    // the model was never trained on.
    if (text == "[PAD" + std::to_string(id) + "]") return TokenType::kUnused;
    if (looks_like_control(text)) return TokenType::kControl;
  }
  return known;
}

Status add_token(const VocabularyData& data, size_t i, Vocabulary& vocabulary) {
  // llama.cpp gives empty tokens this name (src/llama-vocab.cpp).
  const std::string text = data.tokens[i].empty() ? "[EMPTY_" + std::to_string(i) + "]" : data.tokens[i];
  GLIMPSE_ASSIGN(const TokenType type, corrected_type(data, i));
  vocabulary.types.push_back(type);
  if (type == TokenType::kUnused) {
    vocabulary.tokens.append(data.tokens[i], TokenTable::Space::kNameless);
    return {};
  }
  if (const TokenId other = vocabulary.find(text); other >= 0) {
    return make_error(ErrorCode::kCorrupt, "token %d: same text as token %d ('%s')", i, other, shown(text));
  }
  std::string bytes;
  const bool is_word = type == TokenType::kNormal || type == TokenType::kByte;
  if (is_word && append_spelled_bytes(text, bytes)) {
    vocabulary.tokens.append(bytes, TokenTable::Space::kWord);
    return {};
  }
  if (!is_word && text.size() > kMaxSpecialBytes) {
    return make_error(ErrorCode::kTooLarge, "special token %d has %d bytes, at most %d are supported", i, text.size(),
                      kMaxSpecialBytes);
  }
  if (!is_word && find_invalid_utf8(text) != std::string_view::npos) {
    // It could match inside a character and leave halves of it to the pre-tokenizer.
    return make_error(ErrorCode::kCorrupt, "special token %d is not valid UTF-8", i);
  }
  // A normal token outside the byte alphabet ends up here too; no text can reach it.
  const TokenId id = vocabulary.tokens.append(text, TokenTable::Space::kLiteral);
  using Kind = SpecialTokens::Kind;
  const Kind kind = is_markup(text) ? Kind::kMarkup : type == TokenType::kUserDefined ? Kind::kPlain : Kind::kControl;
  if (!is_word) vocabulary.specials.add(text, id, kind);
  return {};
}

Error not_a_merge(const std::string& line, size_t rank) {
  return make_error(ErrorCode::kCorrupt, "merge %d has no two parts: '%s'", rank, shown(line));
}

// Of a merge whose parts or result are no words. When one is a special token, the merge could only spell that out of
// ordinary text: it is left out.
Status check_special_merge(const std::string& line, size_t rank, const Vocabulary& vocabulary) {
  const size_t space = line.find(' ', 1);
  const std::string left = line.substr(0, space), right = line.substr(space + 1);
  for (const std::string& piece : {left, right, left + right}) {
    if (vocabulary.find(piece) < 0) {
      return make_error(ErrorCode::kCorrupt, "merge %d ('%s'): '%s' is not in the vocabulary", rank, shown(line),
                        shown(piece));
    }
  }
  return {};
}

// Merges [first, first + lines.size()): a batch, whose words are looked up together.
Status add_merges(std::span<const std::string> lines, size_t first, Vocabulary& vocabulary) {
  struct Spelled {
    size_t begin = 0, middle = 0, end = 0;  // of both parts in `bytes`; nothing where they are no words
  };
  std::string bytes;
  std::vector<Spelled> spelled(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    const size_t space = line.find(' ', 1), begin = bytes.size();
    if (space == std::string_view::npos) continue;  // an error, when its turn comes
    if (!append_spelled_bytes(line.substr(0, space), bytes)) continue;
    const size_t middle = bytes.size();
    if (append_spelled_bytes(line.substr(space + 1), bytes)) {
      spelled[i] = {begin, middle, bytes.size()};
    } else {
      bytes.resize(begin);
    }
  }
  std::vector<std::string_view> texts;  // left, right and both, of each
  texts.reserve(3 * lines.size());
  for (const Spelled& s : spelled) {
    const std::string_view both = std::string_view(bytes).substr(s.begin, s.end - s.begin);
    texts.insert(texts.end(), {both.substr(0, s.middle - s.begin), both.substr(s.middle - s.begin), both});
  }
  std::vector<TokenId> ids(texts.size());
  vocabulary.tokens.find_words(texts, ids);
  const auto is_complete = [&](size_t i) {
    return spelled[i].end > 0 && ids[3 * i] >= 0 && ids[3 * i + 1] >= 0 && ids[3 * i + 2] >= 0;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_complete(i)) vocabulary.merges.prefetch(ids[3 * i], ids[3 * i + 1]);
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t rank = first + i;
    if (is_complete(i)) {
      vocabulary.merges.insert(ids[3 * i], ids[3 * i + 1], {static_cast<uint32_t>(rank), ids[3 * i + 2]});
      continue;
    }
    if (lines[i].find(' ', 1) == std::string::npos) return not_a_merge(lines[i], rank);
    GLIMPSE_TRY(check_special_merge(lines[i], rank, vocabulary));
  }
  return {};
}

Status check_sizes(const VocabularyData& data) {
  if (data.model != "gpt2") {
    return make_error(ErrorCode::kUnsupported, "tokenizer model '%s': only 'gpt2' (byte-level BPE) is supported",
                      shown(data.model));
  }
  if (std::find(std::begin(kPreTokenizers), std::end(kPreTokenizers), data.pre) == std::end(kPreTokenizers)) {
    return make_error(ErrorCode::kUnsupported, "pre-tokenizer '%s': only 'qwen2' is supported", shown(data.pre));
  }
  if (data.tokens.empty()) return make_error(ErrorCode::kCorrupt, "the vocabulary is empty");
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size()) {
    return make_error(ErrorCode::kCorrupt, "%d token types for %d tokens", data.token_types.size(), data.tokens.size());
  }
  size_t n_bytes = 0;
  for (const std::string& token : data.tokens) n_bytes += token.size();
  if (data.tokens.size() > kMax31 || data.merges.size() > kMax31 || n_bytes > kMax31) {
    return make_error(ErrorCode::kTooLarge, "the vocabulary is too large: %d tokens of %d bytes, %d merges",
                      data.tokens.size(), n_bytes, data.merges.size());
  }
  for (const auto& [name, id] : {std::pair{"eos", data.eos}, {"eot", data.eot}, {"padding", data.padding}}) {
    if (id >= 0 && static_cast<size_t>(id) >= data.tokens.size()) {
      return make_error(ErrorCode::kCorrupt, "%s token %d, but the vocabulary has %d tokens", name, id,
                        data.tokens.size());
    }
  }
  return {};
}

void collect_ends(const VocabularyData& data, Vocabulary& vocabulary) {
  std::vector<TokenId> ends = {data.eos, data.eot};
  for (const std::string_view text : kEndTokens) ends.push_back(vocabulary.find(text));
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  ends.erase(ends.begin(), std::lower_bound(ends.begin(), ends.end(), 0));
  vocabulary.ends = std::move(ends);
  vocabulary.eos = std::max(data.eos, -1);
  vocabulary.padding = std::max(data.padding, -1);
}

}  // namespace

TokenId Vocabulary::find(std::string_view text) const {
  if (const TokenId id = tokens.find_literal(text); id >= 0) return id;
  std::string bytes;
  return append_spelled_bytes(text, bytes) ? tokens.find_word(bytes) : -1;
}

Result<Vocabulary> build_vocabulary(const VocabularyData& data) {
  GLIMPSE_TRY(check_sizes(data));
  size_t n_bytes = 0;
  for (const std::string& token : data.tokens) n_bytes += token.size();
  Vocabulary vocabulary{TokenTable(data.tokens.size(), n_bytes), {}, MergeTable(data.merges.size()), {}, {}, {}};
  vocabulary.types.reserve(data.tokens.size());
  for (size_t i = 0; i < data.tokens.size(); ++i) GLIMPSE_TRY(add_token(data, i, vocabulary));
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const TokenId id = vocabulary.tokens.find_word({&byte, 1});
    if (id < 0) return make_error(ErrorCode::kCorrupt, "the vocabulary has no token for byte %d", b);
    vocabulary.byte_tokens[static_cast<size_t>(b)] = id;
  }
  constexpr size_t kBatch = 64;
  const std::span<const std::string> merges(data.merges);
  for (size_t i = 0; i < merges.size(); i += kBatch) {
    GLIMPSE_TRY(add_merges(merges.subspan(i, std::min(kBatch, merges.size() - i)), i, vocabulary));
  }
  collect_ends(data, vocabulary);
  return vocabulary;
}

}  // namespace glimpse
