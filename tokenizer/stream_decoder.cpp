#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

}  // namespace

std::string StreamDecoder::push(std::string_view bytes) {
  pending_.append(bytes);
  const std::string_view all = pending_;
  std::string text;
  text.reserve(all.size());
  size_t i = 0;
  while (i < all.size()) {
    const Utf8Step step = utf8_step(all.substr(i));
    if (step.kind == Utf8Step::Kind::kIncomplete) break;  // 1 to 3 bytes, up to the end
    text.append(step.kind == Utf8Step::Kind::kValid ? all.substr(i, step.n_bytes) : kReplacement);
    i += step.n_bytes;
  }
  pending_.erase(0, i);
  return text;
}

std::string StreamDecoder::finish() {
  // What is held is the start of one sequence, hence one maximal subpart.
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return text;
}

}  // namespace glimpse
