#include "engine/constrain/json_numbers.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace glimpse::constrain {
namespace {

using Expr = GrammarBuilder::Expr;

// Natural numbers as their digits: "0", "17".
bool less(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}
std::string plus_one(std::string n) {
  for (size_t i = n.size(); i-- > 0; n[i] = '0') {
    if (n[i] == '9') continue;
    ++n[i];
    return n;
  }
  return "1" + n;
}
// Precondition: n is not 0.
std::string minus_one(std::string n) {
  for (size_t i = n.size(); i-- > 0; n[i] = '9') {
    if (n[i] == '0') continue;
    --n[i];
    break;
  }
  const size_t first = n.find_first_not_of('0');
  return first == std::string::npos ? "0" : n.substr(first);
}

// Digit strings between two of the same length, whose value is a multiple.
class Naturals {
 public:
  Naturals(GrammarBuilder& builder, uint32_t multiple) : builder_(builder), multiple_(multiple) {}

  Expr digits(char first, char last) const {
    if (first > last) return builder_.nothing();
    return builder_.byte_range(static_cast<uint8_t>(first), static_cast<uint8_t>(last));
  }

  // Naturals from least to most, by length: without leading zeros.
  Expr between(const std::string& least, const std::string& most) {
    std::vector<Expr> found;
    if (less(most, least)) return builder_.nothing();
    for (size_t n = least.size(); n <= most.size(); ++n) {
      std::string power(n, '0');
      power[0] = '1';
      const std::string first = n == least.size() ? least : power;
      const std::string last = n == most.size() ? most : std::string(n, '9');
      found.push_back(same_length(first, last, 0, 0));
    }
    return builder_.choice(std::move(found));
  }

 private:
  uint32_t step(uint32_t remainder, char digit) const {
    return (remainder * 10 + static_cast<uint32_t>(digit - '0')) % multiple_;
  }

  // Any k digits behind those that leave this remainder.
  Expr free(size_t k, uint32_t remainder) {
    if (k == 0) return remainder == 0 ? builder_.empty() : builder_.nothing();
    if (multiple_ == 1) return builder_.repeat(digits('0', '9'), static_cast<uint32_t>(k), static_cast<uint32_t>(k));
    const auto known = free_.find({k, remainder});
    if (known != free_.end()) return builder_.call(known->second);
    const GrammarBuilder::Rule rule = builder_.add_rule("digits");
    free_.emplace(std::pair(k, remainder), rule);
    builder_.define(rule, one_of('0', '9', k, remainder));
    return builder_.call(rule);
  }

  // A digit of the range, then any: k digits in all.
  Expr one_of(char first, char last, size_t k, uint32_t remainder) {
    if (multiple_ == 1) return builder_.sequence({digits(first, last), free(k - 1, 0)});
    std::vector<Expr> found;
    for (char d = first; d <= last; ++d) {
      found.push_back(builder_.sequence({digits(d, d), free(k - 1, step(remainder, d))}));
    }
    return builder_.choice(std::move(found));
  }

  // Behind digits that are those of a bound: what keeps to it.
  Expr at_least(const std::string& least, size_t i, uint32_t remainder) {
    if (i == least.size()) return free(0, remainder);
    const char d = least[i];
    std::vector<Expr> found = {builder_.sequence({digits(d, d), at_least(least, i + 1, step(remainder, d))})};
    if (d < '9') found.push_back(one_of(static_cast<char>(d + 1), '9', least.size() - i, remainder));
    return builder_.choice(std::move(found));
  }
  Expr at_most(const std::string& most, size_t i, uint32_t remainder) {
    if (i == most.size()) return free(0, remainder);
    const char d = most[i];
    std::vector<Expr> found = {builder_.sequence({digits(d, d), at_most(most, i + 1, step(remainder, d))})};
    if (d > '0') found.push_back(one_of('0', static_cast<char>(d - 1), most.size() - i, remainder));
    return builder_.choice(std::move(found));
  }
  Expr same_length(const std::string& least, const std::string& most, size_t i, uint32_t remainder) {
    if (i == least.size()) return free(0, remainder);
    const char a = least[i], b = most[i];
    if (a == b) return builder_.sequence({digits(a, a), same_length(least, most, i + 1, step(remainder, a))});
    std::vector<Expr> found = {builder_.sequence({digits(a, a), at_least(least, i + 1, step(remainder, a))}),
                               builder_.sequence({digits(b, b), at_most(most, i + 1, step(remainder, b))})};
    if (b - a > 1) {
      found.push_back(one_of(static_cast<char>(a + 1), static_cast<char>(b - 1), least.size() - i, remainder));
    }
    return builder_.choice(std::move(found));
  }

  GrammarBuilder& builder_;
  const uint32_t multiple_;
  std::map<std::pair<size_t, uint32_t>, GrammarBuilder::Rule> free_;
};

// Digits behind the point, between bounds that the digits before it are at; nullptr: no bound there.
class Fractions {
 public:
  Fractions(GrammarBuilder& builder, const Bound* least, const Bound* most, uint32_t n_digits)
      : builder_(builder), least_(least), most_(most), n_digits_(n_digits) {
    if (least != nullptr) least_digits_ = least->value.fraction();
    if (most != nullptr) most_digits_ = most->value.fraction();
  }

  // From the point on, which may be left out.
  Expr expression() const {
    std::vector<Expr> found = {
        builder_.sequence({builder_.literal("."), more(0, least_ != nullptr, most_ != nullptr)})};
    if (may_end(0, least_ != nullptr, most_ != nullptr)) found.push_back(builder_.empty());
    return builder_.choice(std::move(found));
  }

 private:
  static char digit(const std::string& digits, size_t i) { return i < digits.size() ? digits[i] : '0'; }

  // Behind i digits; least, most: they are those of the bound.
  bool may_end(size_t i, bool least, bool most) const {
    if (least && (i < least_digits_.size() || least_->exclusive)) return false;
    return !(most && i >= most_digits_.size() && most_->exclusive);
  }

  // At least one more digit.
  Expr more(size_t i, bool least, bool most) const {
    if (i >= n_digits_) return builder_.nothing();
    if (!least && !most) return builder_.repeat(builder_.byte_range('0', '9'), 1, n_digits_ - static_cast<uint32_t>(i));
    if (most && !least && i >= most_digits_.size()) return builder_.nothing();  // zeros alone
    const char low = least ? digit(least_digits_, i) : '0', high = most ? digit(most_digits_, i) : '9';
    std::vector<Expr> found;
    const auto add = [&](char first, char last, bool at_least, bool at_most) {
      if (first > last) return;
      std::vector<Expr> rest = {more(i + 1, at_least, at_most)};
      if (may_end(i + 1, at_least, at_most)) rest.push_back(builder_.empty());
      found.push_back(builder_.sequence({builder_.byte_range(static_cast<uint8_t>(first), static_cast<uint8_t>(last)),
                                         builder_.choice(std::move(rest))}));
    };
    if (least && most && low == high) {
      add(low, low, true, true);
    } else if (low <= high) {
      if (least) add(low, low, true, false);
      add(static_cast<char>(low + (least ? 1 : 0)), static_cast<char>(high - (most ? 1 : 0)), false, false);
      if (most) add(high, high, false, true);
    }
    return builder_.choice(std::move(found));
  }

  GrammarBuilder& builder_;
  const Bound* const least_;
  const Bound* const most_;
  const uint32_t n_digits_;
  std::string least_digits_, most_digits_;
};

Decimal negated(Decimal value) {
  if (!value.digits.empty()) value.negative = !value.negative;
  return value;
}

// Of one sign: the magnitudes; nullopt: none.
struct Magnitudes {
  Bound least;
  std::optional<Bound> most;
};
std::optional<Magnitudes> magnitudes(const std::optional<Bound>& least, const std::optional<Bound>& most) {
  Magnitudes result;
  if (most && most->value.negative) return std::nullopt;
  if (least && !least->value.negative) result.least = *least;
  result.most = most;
  return result;
}
std::optional<Bound> mirrored(const std::optional<Bound>& bound) {
  if (!bound) return std::nullopt;
  return Bound{negated(bound->value), bound->exclusive};
}

// The largest natural to say: the bound, or one of many digits.
std::string last_natural(const Magnitudes& m) {
  const std::string first = m.least.value.integer_part();
  return m.most ? m.most->value.integer_part() : std::string(std::max(kUsualDigits, first.size() + 1), '9');
}

Expr naturals(GrammarBuilder& builder, const Magnitudes& m, uint32_t multiple, bool with_zero) {
  std::string first = m.least.value.integer_part(), last = last_natural(m);
  const bool exact = m.least.value.is_integer();
  if (!exact || m.least.exclusive) first = plus_one(first);
  if (m.most && m.most->value.is_integer() && m.most->exclusive) {
    if (last == "0") return builder.nothing();
    last = minus_one(last);
  }
  if (!with_zero && first == "0") first = "1";
  return Naturals(builder, multiple).between(first, last);
}

Expr reals(GrammarBuilder& builder, const Magnitudes& m, uint32_t n_digits) {
  const std::string first = m.least.value.integer_part(), last = last_natural(m);
  if (less(last, first)) return builder.nothing();
  const Bound* const most = m.most ? &*m.most : nullptr;
  const Bound* const least = m.least.value.digits.empty() && !m.least.exclusive ? nullptr : &m.least;
  if (first == last) {
    return builder.sequence({builder.literal(first), Fractions(builder, least, most, n_digits).expression()});
  }
  std::vector<Expr> found = {
      builder.sequence({builder.literal(first), Fractions(builder, least, nullptr, n_digits).expression()})};
  found.push_back(builder.sequence({builder.literal(last), Fractions(builder, nullptr, most, n_digits).expression()}));
  const std::string low = plus_one(first), high = minus_one(last);
  if (!less(high, low)) {
    found.push_back(builder.sequence(
        {Naturals(builder, 1).between(low, high), Fractions(builder, nullptr, nullptr, n_digits).expression()}));
  }
  return builder.choice(std::move(found));
}

}  // namespace

Expr integer_expression(GrammarBuilder& builder, const NumberRange& range) {
  std::vector<Expr> found;
  if (const auto m = magnitudes(range.least, range.most)) found.push_back(naturals(builder, *m, range.multiple, true));
  if (const auto m = magnitudes(mirrored(range.most), mirrored(range.least))) {
    found.push_back(builder.sequence({builder.literal("-"), naturals(builder, *m, range.multiple, false)}));
  }
  return builder.choice(std::move(found));
}

Expr number_expression(GrammarBuilder& builder, const NumberRange& range) {
  std::vector<Expr> found;
  if (const auto m = magnitudes(range.least, range.most)) found.push_back(reals(builder, *m, range.n_fraction_digits));
  if (const auto m = magnitudes(mirrored(range.most), mirrored(range.least))) {
    found.push_back(builder.sequence({builder.literal("-"), reals(builder, *m, range.n_fraction_digits)}));
  }
  const Expr plain = builder.choice(std::move(found));
  if (range.least || range.most || range.n_fraction_digits < kUsualDigits) return plain;
  const Expr sign = builder.optional(builder.choice({builder.literal("+"), builder.literal("-")}));
  const Expr exponent = builder.sequence({builder.choice({builder.literal("e"), builder.literal("E")}), sign,
                                          builder.repeat(builder.byte_range('0', '9'), 1, 2)});
  return builder.sequence({plain, builder.optional(exponent)});
}

}  // namespace glimpse::constrain
