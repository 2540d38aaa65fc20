#include "engine/constrain/decimal.h"

#include <algorithm>

namespace glimpse::constrain {
namespace {

constexpr int kMostPlaces = 400;

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.digits.empty() || b.digits.empty())
    return static_cast<int>(!a.digits.empty()) - static_cast<int>(!b.digits.empty());
  if (a.point != b.point) return a.point < b.point ? -1 : 1;
  const int order = a.digits.compare(b.digits);  // a prefix is less, as it is among fractions
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

}  // namespace

std::optional<Decimal> Decimal::parse(std::string_view number) {
  Decimal result;
  result.negative = number.substr(0, 1) == "-";
  if (result.negative) number.remove_prefix(1);
  const size_t e = std::min(number.find_first_of("eE"), number.size());
  int exponent = 0;
  if (e < number.size()) {
    bool negative = false;
    for (const char c : number.substr(e + 1)) {
      if (c == '-') negative = true;
      if (c >= '0' && c <= '9') exponent = std::min(exponent * 10 + (c - '0'), 1000000);
    }
    if (negative) exponent = -exponent;
  }
  const std::string_view mantissa = number.substr(0, e);
  const size_t dot = std::min(mantissa.find('.'), mantissa.size());
  result.digits = mantissa.substr(0, dot);
  if (dot < mantissa.size()) result.digits += mantissa.substr(dot + 1);
  const size_t first = result.digits.find_first_not_of('0');
  if (first == std::string::npos) return Decimal();
  if (dot > 1000000) return std::nullopt;
  result.point = static_cast<int>(dot) + exponent - static_cast<int>(std::min<size_t>(first, 1000000));
  result.digits = result.digits.substr(first, result.digits.find_last_not_of('0') + 1 - first);
  if (result.point > kMostPlaces || result.point < -kMostPlaces || result.digits.size() > kMostPlaces)
    return std::nullopt;
  return result;
}

std::string Decimal::integer_part() const {
  if (point <= 0 || digits.empty()) return "0";
  std::string text = digits.substr(0, static_cast<size_t>(point));
  text.resize(static_cast<size_t>(point), '0');
  return text;
}

std::string Decimal::fraction() const {
  if (is_integer()) return "";
  if (point <= 0) return std::string(static_cast<size_t>(-point), '0') + digits;
  return digits.substr(static_cast<size_t>(point));
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  const int order = compare_magnitudes(a, b);
  return a.negative ? -order : order;
}

}  // namespace glimpse::constrain
