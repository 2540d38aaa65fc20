#include "engine/generate/answer_writer.h"

#include <string_view>
#include <utility>

namespace glimpse {

Result<AnswerWriter> AnswerWriter::create(const Tokenizer& tokenizer, std::vector<std::string> stops,
                                          bool render_special) {
  GLIMPSE_ASSIGN(StopMatcher matcher, StopMatcher::create(std::move(stops)));
  return AnswerWriter(tokenizer, std::move(matcher), render_special);
}

std::string AnswerWriter::show(const std::string& text) {
  StopMatcher::Output output = matcher_.push(text);
  stopped_ = output.stopped();
  text_ += output.text;
  return std::move(output.text);
}

std::string AnswerWriter::push(TokenId id) {
  tokens_.push_back(id);
  return show(decoder_.push(tokenizer_->token_bytes(id, render_special_)));
}

std::string AnswerWriter::finish() {
  std::string shown = show(decoder_.finish());
  const std::string held = matcher_.finish();
  text_ += held;
  return shown + held;
}

void AnswerWriter::back_to(Mark mark) {
  decoder_ = std::move(mark.decoder);
  matcher_ = std::move(mark.matcher);
  text_.resize(mark.n_text);
  tokens_.resize(mark.n_tokens);
  stopped_ = mark.stopped;
}

AnswerWriter::Prefix AnswerWriter::tokens_of_text() const {
  const std::string_view text = text_;
  size_t n_bytes = 0;  // of the tokens looked at
  Prefix prefix;
  size_t prefix_bytes = 0;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = tokenizer_->token_bytes(tokens_[i], render_special_);
    // Past the text, or into bytes that were replaced because they are not UTF-8.
    if (text.substr(n_bytes, bytes.size()) != bytes) break;
    n_bytes += bytes.size();
    const bool inside_character = n_bytes < text.size() && (static_cast<unsigned char>(text[n_bytes]) & 0xC0) == 0x80;
    if (inside_character) continue;
    prefix.n_tokens = i + 1;
    prefix_bytes = n_bytes;
  }
  prefix.rest = text.substr(prefix_bytes);
  return prefix;
}

}  // namespace glimpse
