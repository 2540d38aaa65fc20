#include "tools/eval/prompts.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

namespace glimpse::eval {

Result<std::vector<Sequence>> chunks_of_text(const Tokenizer& tokenizer, const std::string& text, int64_t n_ctx,
                                             int64_t max_chunks) {
  if (n_ctx < 4) return make_error(ErrorCode::kInvalidArgument, "chunks of %d tokens: want at least 4", n_ctx);
  GLIMPSE_ASSIGN(const std::vector<TokenId> ids, tokenizer.encode(text, {}));
  int64_t n_chunks = static_cast<int64_t>(ids.size()) / n_ctx;
  if (n_chunks == 0) {
    return make_error(ErrorCode::kInvalidArgument, "the text has %d tokens, fewer than one chunk of %d (-c)",
                      ids.size(), n_ctx);
  }
  if (max_chunks > 0) n_chunks = std::min(n_chunks, max_chunks);
  std::vector<Sequence> chunks;
  for (int64_t i = 0; i < n_chunks; ++i) {
    chunks.push_back(chunk_of(std::span(ids).subspan(static_cast<size_t>(i * n_ctx), static_cast<size_t>(n_ctx))));
  }
  return chunks;
}

Result<std::vector<PromptLine>> parse_prompt_lines(const std::string& text, const std::string& folder) {
  std::vector<PromptLine> lines;
  std::istringstream in(text);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) return make_error(ErrorCode::kCorrupt, "line %d is no JSON object", number);
    PromptLine parsed;
    for (const auto& [key, value] : json.items()) {
      std::string* target = key == "image"    ? &parsed.image_path
                            : key == "prompt" ? &parsed.prompt
                            : key == "answer" ? &parsed.answer
                                              : nullptr;
      if (target == nullptr || !value.is_string()) {
        return make_error(ErrorCode::kCorrupt,
                          "line %d: want the texts \"image\", \"prompt\" and \"answer\", not \"%s\"", number, key);
      }
      *target = value.get<std::string>();
      if (target->find('\0') != std::string::npos) {
        return make_error(ErrorCode::kCorrupt, "line %d: \"%s\" has a zero byte (\\u0000)", number, key);
      }
    }
    if (parsed.answer.empty()) return make_error(ErrorCode::kCorrupt, "line %d has no \"answer\"", number);
    if (!parsed.image_path.empty() && parsed.image_path[0] != '/' && !folder.empty()) {
      parsed.image_path = folder + "/" + parsed.image_path;
    }
    lines.push_back(std::move(parsed));
  }
  if (lines.empty()) return make_error(ErrorCode::kCorrupt, "no prompts in it");
  return lines;
}

Result<PromptSequence> make_prompt_sequence(const Model& model, const PromptLine& line,
                                            std::shared_ptr<const ImageEmbedding> embedding,
                                            const std::string& image_digest) {
  ChatMessage user{"user", {}};
  if (embedding != nullptr) user.parts.push_back({ChatPart::Kind::kImage, "", embedding->n_tokens});
  user.parts.push_back({ChatPart::Kind::kText, line.prompt, 0});
  const ChatOptions options = chat_options(model.chat_format());
  GLIMPSE_ASSIGN(TokenizedChat chat, tokenize_chat(model.tokenizer(), {user}, options));
  GLIMPSE_ASSIGN(const std::vector<TokenId> answer, model.tokenizer().encode(line.answer, {}));
  PromptSequence out;
  if (embedding != nullptr) out.picture_position = chat.visuals[0].position;
  out.embedding = std::move(embedding);
  out.sequence.image_digest = image_digest;
  out.sequence.first = static_cast<int64_t>(chat.ids.size()) - 1;
  out.sequence.ids = std::move(chat.ids);
  out.sequence.ids.insert(out.sequence.ids.end(), answer.begin(), answer.end());
  out.sequence.ids.push_back(model.tokenizer().find("<|im_end|>"));  // there: the chat format needs it
  out.sequence.n_scored = static_cast<int64_t>(out.sequence.ids.size()) - 1 - out.sequence.first;
  return out;
}

}  // namespace glimpse::eval
