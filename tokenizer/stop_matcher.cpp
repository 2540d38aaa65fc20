#include "tokenizer/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "tokenizer/utf8.h"

namespace glimpse {

Result<StopMatcher> StopMatcher::create(std::vector<std::string> stops) {
  StopMatcher matcher;
  for (std::string& stop : stops) {
    if (stop.empty()) return make_error(ErrorCode::kInvalidArgument, "an empty stop string");
    if (const size_t bad = find_invalid_utf8(stop); bad != std::string_view::npos) {
      return make_error(ErrorCode::kInvalidArgument, "a stop string is not valid UTF-8 at byte %d", bad);
    }
    Pattern pattern;
    pattern.failure.resize(stop.size());
    for (size_t i = 1, k = 0; i < stop.size(); ++i) {  // Knuth, Morris and Pratt's table
      while (k > 0 && stop[i] != stop[k]) k = pattern.failure[k - 1];
      if (stop[i] == stop[k]) ++k;
      pattern.failure[i] = k;
    }
    pattern.text = std::move(stop);
    matcher.patterns_.push_back(std::move(pattern));
  }
  return matcher;
}

StopMatcher::Output StopMatcher::push(std::string_view text) {
  if (stop_index_ >= 0) return {"", stop_index_};
  for (const char byte : text) {
    held_.push_back(byte);
    size_t longest_stop = 0;
    for (size_t p = 0; p < patterns_.size(); ++p) {
      Pattern& pattern = patterns_[p];
      while (pattern.matched > 0 && pattern.text[pattern.matched] != byte) {
        pattern.matched = pattern.failure[pattern.matched - 1];
      }
      if (pattern.text[pattern.matched] == byte) ++pattern.matched;
      if (pattern.matched == pattern.text.size() && pattern.matched > longest_stop) {
        longest_stop = pattern.matched;
        stop_index_ = static_cast<int>(p);
      }
    }
    if (stop_index_ >= 0) {
      held_.resize(held_.size() - longest_stop);
      return {std::exchange(held_, {}), stop_index_};
    }
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.matched);
  Output output{held_.substr(0, held_.size() - keep), -1};
  held_.erase(0, held_.size() - keep);
  return output;
}

std::string StopMatcher::finish() {
  std::string rest;
  if (stop_index_ < 0) rest.swap(held_);
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return rest;
}

}  // namespace glimpse
