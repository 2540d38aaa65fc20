#include "tokenizer/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "tokenizer/utf8.h"

namespace glimpse {

Result<StopMatcher> StopMatcher::create(std::vector<std::string> stops) {
  std::vector<Pattern> patterns;
  size_t n_bytes = 0;
  for (std::string& stop : stops) {
    n_bytes += stop.size();
    if (n_bytes > kMaxBytes) {
      return make_error(ErrorCode::kTooLarge, "stop strings of more than %d bytes together", kMaxBytes);
    }
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
    patterns.push_back(std::move(pattern));
  }
  StopMatcher matcher;
  matcher.matched_.resize(patterns.size());
  matcher.patterns_ = std::make_shared<const std::vector<Pattern>>(std::move(patterns));
  return matcher;
}

StopMatcher::Output StopMatcher::push(std::string_view text) {
  if (stop_index_ >= 0) return {"", stop_index_};
  for (const char byte : text) {
    held_.push_back(byte);
    size_t longest_stop = 0;
    for (size_t p = 0; p < matched_.size(); ++p) {
      const Pattern& pattern = (*patterns_)[p];
      size_t& matched = matched_[p];
      while (matched > 0 && pattern.text[matched] != byte) matched = pattern.failure[matched - 1];
      if (pattern.text[matched] == byte) ++matched;
      if (matched == pattern.text.size() && matched > longest_stop) {
        longest_stop = matched;
        stop_index_ = static_cast<int>(p);
      }
    }
    if (stop_index_ >= 0) {
      held_.resize(held_.size() - longest_stop);
      return {std::exchange(held_, {}), stop_index_};
    }
  }
  size_t keep = 0;
  for (const size_t matched : matched_) keep = std::max(keep, matched);
  Output output{held_.substr(0, held_.size() - keep), -1};
  held_.erase(0, held_.size() - keep);
  return output;
}

std::string StopMatcher::finish() {
  std::string rest;
  if (stop_index_ < 0) rest.swap(held_);
  std::fill(matched_.begin(), matched_.end(), 0);
  return rest;
}

}  // namespace glimpse
