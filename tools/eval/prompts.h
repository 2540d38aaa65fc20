// What a model is scored on: a text cut into chunks, or prompts with pictures and their answers.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/image_embedding.h"
#include "engine/model/model.h"
#include "tokenizer/chat.h"
#include "tools/eval/kl_base.h"

namespace glimpse::eval {

/// Chunks of n_ctx tokens, as many as are whole, at most max_chunks (0: all). Errors: kInvalidArgument: fewer tokens
/// than one chunk, n_ctx below 4, text that is no UTF-8.
Result<std::vector<Sequence>> chunks_of_text(const Tokenizer& tokenizer, const std::string& text, int64_t n_ctx,
                                             int64_t max_chunks);

/// One line of a prompts file: {"image": path, "prompt": text, "answer": text}; "image" may be absent. A relative path
/// counts from the file's folder.
struct PromptLine {
  std::string image_path;  // empty: no picture
  std::string prompt;
  std::string answer;
};
/// Errors: kCorrupt names the line.
Result<std::vector<PromptLine>> parse_prompt_lines(const std::string& text, const std::string& folder);

/// A line ready to be scored: the chat with its answer and the end of the turn, whose rows count.
struct PromptSequence {
  Sequence sequence;
  int64_t picture_position = 0;
  std::shared_ptr<const ImageEmbedding> embedding;  // nullptr: no picture
};
/// embedding: nullptr when the line has no picture.
Result<PromptSequence> make_prompt_sequence(const Model& model, const PromptLine& line,
                                            std::shared_ptr<const ImageEmbedding> embedding,
                                            const std::string& image_digest);

}  // namespace glimpse::eval
