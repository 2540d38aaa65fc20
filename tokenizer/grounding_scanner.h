// Reads what is expected from the front of a text. Private to tokenizer/grounding*.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

namespace glimpse {

class ShapeScanner {
 public:
  explicit ShapeScanner(std::string_view text) : text_(text) {}
  bool take(char c) {
    skip_space();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  /// A decimal number, as JSON has them; what is beyond a double is none.
  std::optional<double> number() {
    skip_space();
    const bool negative = !text_.empty() && text_.front() == '-';
    const std::string_view digits = text_.substr(negative ? 1 : 0);
    if (digits.empty() || digits.front() < '0' || digits.front() > '9') return std::nullopt;  // no "inf" or "nan"
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
    text_.remove_prefix(static_cast<size_t>(end - text_.data()));
    return negative ? -value : value;
  }
  bool done() {
    skip_space();
    return text_.empty();
  }
  std::string_view rest() const { return text_; }

 private:
  void skip_space() {
    while (!text_.empty() &&
           (text_.front() == ' ' || text_.front() == '\n' || text_.front() == '\r' || text_.front() == '\t')) {
      text_.remove_prefix(1);
    }
  }
  std::string_view text_;
};

}  // namespace glimpse
