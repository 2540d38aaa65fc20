// Tokens of an answer to text that may be shown: decodes, holds back what may become a stop string, remembers both.
#pragma once

#include <string>
#include <vector>

#include "engine/base/result.h"
#include "tokenizer/stop_matcher.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// The text is the concatenation of what push() and finish() return: complete, valid UTF-8, no part of a stop string.
class AnswerWriter {
 public:
  /// tokenizer outlives the writer. Errors: kInvalidArgument for a stop string that is empty or not valid UTF-8.
  static Result<AnswerWriter> create(const Tokenizer& tokenizer, std::vector<std::string> stops, bool render_special);

  /// Takes the next token, returns the text that may be shown now. Ids without text give nothing.
  std::string push(TokenId id);
  /// The rest, at the end of the answer. May still complete a stop string.
  std::string finish();
  /// A stop string was found: text() ends before it.
  bool stopped() const { return stopped_; }

  /// Where the answer stands, to come back to when a step fails half way.
  struct Mark {
    StreamDecoder decoder;
    StopMatcher matcher;
    size_t n_text, n_tokens;
    bool stopped;
  };
  Mark mark() const { return {decoder_, matcher_, text_.size(), tokens_.size(), stopped_}; }
  /// Allocates nothing.
  void back_to(Mark mark);

  const std::string& text() const { return text_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }

  /// text() as tokens: the first n_tokens of tokens() and then the text of `rest`, which is what a stop string left of
  /// the token that it began in.
  struct Prefix {
    size_t n_tokens = 0;
    std::string rest;
  };
  Prefix tokens_of_text() const;

 private:
  AnswerWriter(const Tokenizer& tokenizer, StopMatcher matcher, bool render_special)
      : tokenizer_(&tokenizer), matcher_(std::move(matcher)), render_special_(render_special) {}
  std::string show(const std::string& text);

  const Tokenizer* tokenizer_;
  StreamDecoder decoder_;
  StopMatcher matcher_;
  bool render_special_;
  bool stopped_ = false;
  std::string text_;
  std::vector<TokenId> tokens_;
};

}  // namespace glimpse
