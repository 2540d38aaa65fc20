// Stop strings: text that ends an answer, found across the borders of tokens.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// Watches a stream of text for stop strings and holds back what may turn out to be the start of one. The match that
/// ends first wins, of several that end together the longest; so the result does not depend on how the text is cut.
class StopMatcher {
 public:
  struct Output {
    std::string text;     // may be shown; ends before the stop string
    int stop_index = -1;  // the stop string that was found, or -1
    bool stopped() const { return stop_index >= 0; }
  };

  static constexpr size_t kMaxBytes = size_t{1} << 20;  // of all of them; each costs nine
  /// stops: none is fine. Errors: kInvalidArgument for an empty stop string and for one that is not valid UTF-8 (so
  /// that text is only ever cut between characters); kTooLarge above kMaxBytes. Copies share what it makes of them.
  static Result<StopMatcher> create(std::vector<std::string> stops);

  /// Takes the next text, as a StreamDecoder gives it. After a stop everything is swallowed.
  Output push(std::string_view text);
  /// At the end of the stream: what was held back. Empty after a stop.
  std::string finish();

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> failure;  // failure[i]: longest proper prefix that is also a suffix of text[0, i]
  };

  std::shared_ptr<const std::vector<Pattern>> patterns_;
  std::vector<size_t> matched_;  // per pattern: the stream so far ends with this many bytes of its text
  std::string held_;             // exactly as long as the longest of matched_
  int stop_index_ = -1;
};

}  // namespace glimpse
