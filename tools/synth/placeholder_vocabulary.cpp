#include "tools/synth/placeholder_vocabulary.h"

#include <algorithm>
#include <vector>

#include "loaders/gguf/gguf.h"

namespace glimpse {
namespace {

constexpr size_t kFirstSpecial = 151643;  // the id of <|endoftext|> in every Qwen2 model

enum : int32_t { kNormal = 1, kControl = 3, kUnused = 5 };

const char* const kSpecialTokens[] = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",     "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>", "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",  "<|video_pad|>"};

const char* const kChatTemplate =
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a "
    "helpful "
    "assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor "
    "%}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

std::string utf8(uint32_t code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3f))};
}

// The byte-level alphabet: printable bytes stand for themselves, the others for U+0100 and up.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    tokens.push_back(utf8(printable ? byte : next++));
  }
  return tokens;
}

Status add_placeholder(GgufWriter& writer, int64_t vocab_size) {
  std::vector<std::string> tokens = byte_tokens();
  std::vector<std::string> merges;
  const std::string letters = "etaoinshrdlu";
  for (const char a : letters) {
    for (const char b : letters) {
      merges.push_back(std::string(1, a) + " " + b);
      tokens.push_back(std::string(1, a) + b);
    }
  }
  std::vector<int32_t> types(tokens.size(), kNormal);
  const auto n_special = static_cast<int64_t>(std::size(kSpecialTokens));
  if (vocab_size < static_cast<int64_t>(tokens.size()) + n_special) {
    return make_error(ErrorCode::kInvalidArgument, "vocab_size %d: the placeholder vocabulary needs %d tokens",
                      vocab_size, static_cast<int64_t>(tokens.size()) + n_special);
  }
  // Special tokens lie where Qwen2's are when there is room, else at the end.
  const int64_t first_special = std::min<int64_t>(kFirstSpecial, vocab_size - n_special);
  while (static_cast<int64_t>(tokens.size()) < first_special) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(kUnused);
  }
  for (const char* special : kSpecialTokens) {
    tokens.push_back(special);
    types.push_back(kControl);
  }
  while (static_cast<int64_t>(tokens.size()) < vocab_size) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(kUnused);
  }
  const auto id = [&](int64_t index) { return static_cast<uint32_t>(first_special + index); };
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", "qwen2");
  writer.add_string_array("tokenizer.ggml.tokens", tokens);
  writer.add_int32_array("tokenizer.ggml.token_type", types);
  writer.add_string_array("tokenizer.ggml.merges", merges);
  writer.add_uint32("tokenizer.ggml.eos_token_id", id(2));
  writer.add_uint32("tokenizer.ggml.padding_token_id", id(0));
  writer.add_uint32("tokenizer.ggml.bos_token_id", id(0));
  writer.add_bool("tokenizer.ggml.add_bos_token", false);
  writer.add_string("tokenizer.chat_template", kChatTemplate);
  return {};
}

struct CopiedTokens {
  std::vector<std::string> tokens;
  std::vector<size_t> named;  // ids that became special tokens
};

// The tokens with those special ones that they lack: a text-only Qwen2 vocabulary keeps "[PAD151652]" where Qwen2-VL
// has
// <|vision_start|>, which gets its name; others are appended while there is room for vocab_size.
CopiedTokens complete_tokens(const std::vector<std::string>& source, size_t vocab_size) {
  CopiedTokens copy{source, {}};
  for (size_t i = 0; i < std::size(kSpecialTokens); ++i) {
    if (std::find(source.begin(), source.end(), kSpecialTokens[i]) != source.end()) continue;
    size_t id = kFirstSpecial + i;
    const bool placeholder = id < source.size() && source[id].starts_with("[PAD");
    if (!placeholder) {
      if (copy.tokens.size() >= vocab_size) continue;
      id = copy.tokens.size();
      copy.tokens.emplace_back();
    }
    copy.tokens[id] = kSpecialTokens[i];
    copy.named.push_back(id);
  }
  return copy;
}

Result<const std::vector<std::string>*> tokens_of(const GgufFile& source) {
  if (const auto* tokens = source.string_array("tokenizer.ggml.tokens")) return tokens;
  return make_error(ErrorCode::kInvalidArgument, "%s has no tokenizer.ggml.tokens", source.path().c_str());
}

Status copy_vocabulary(GgufWriter& writer, int64_t vocab_size, const GgufFile& source) {
  GLIMPSE_ASSIGN(const auto* const tokens, tokens_of(source));
  if (static_cast<int64_t>(tokens->size()) > vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "%s has %d tokens, the model has room for %d", source.path(),
                      tokens->size(), vocab_size);
  }
  const auto n = static_cast<size_t>(vocab_size);
  CopiedTokens copy = complete_tokens(*tokens, n);
  while (copy.tokens.size() < n) copy.tokens.push_back("[PAD" + std::to_string(copy.tokens.size()) + "]");
  bool has_template = false;
  for (const std::string& key : source.keys()) {
    if (!key.starts_with("tokenizer.")) continue;
    has_template = has_template || key == "tokenizer.chat_template";
    if (key == "tokenizer.ggml.tokens") {
      writer.add_string_array(key, copy.tokens);
    } else if (key == "tokenizer.ggml.token_type") {
      GLIMPSE_ASSIGN(const std::vector<int64_t> types, source.int_array(key));
      std::vector<int32_t> padded(types.begin(), types.end());
      padded.resize(n, kUnused);
      for (const size_t id : copy.named) padded[id] = kControl;
      writer.add_int32_array(key, padded);
    } else if (key == "tokenizer.ggml.scores") {
      GLIMPSE_ASSIGN(const std::vector<double> scores, source.float_array(key));
      std::vector<float> padded(scores.begin(), scores.end());
      padded.resize(n);
      writer.add_float32_array(key, padded);
    } else {
      writer.add_value(key, *source.find(key));
    }
  }
  if (!has_template) writer.add_string("tokenizer.chat_template", kChatTemplate);
  return {};
}

}  // namespace

Result<int64_t> vocabulary_size(const std::string& source_path) {
  GLIMPSE_ASSIGN(const GgufFile source, GgufFile::open(source_path));
  GLIMPSE_ASSIGN(const auto* const tokens, tokens_of(source));
  return static_cast<int64_t>(complete_tokens(*tokens, SIZE_MAX).tokens.size());
}

Status add_vocabulary(GgufWriter& writer, int64_t vocab_size, const std::string& source_path) {
  if (source_path.empty()) return add_placeholder(writer, vocab_size);
  GLIMPSE_ASSIGN(const GgufFile source, GgufFile::open(source_path));
  return copy_vocabulary(writer, vocab_size, source);
}

}  // namespace glimpse
