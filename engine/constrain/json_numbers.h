// Numbers between bounds as expressions over their digits: exact, whatever a double would make of them.
#pragma once

#include <optional>

#include "engine/constrain/decimal.h"
#include "engine/constrain/grammar.h"

namespace glimpse::constrain {

struct Bound {
  Decimal value;
  bool exclusive = false;
};

struct NumberRange {
  std::optional<Bound> least, most;
  /// Integers: multiples of this, at most kMaxMultiple.
  uint32_t multiple = 1;
  /// Of numbers that are no integers: digits behind the point, at least 1.
  uint32_t n_fraction_digits = 15;
};

inline constexpr uint32_t kMaxMultiple = 1000;
/// Digits before the point where no bound asks for more: every integer of so many is exact in a double.
inline constexpr size_t kUsualDigits = 15;

/// The integers of the range, without leading zeros and without -0.
GrammarBuilder::Expr integer_expression(GrammarBuilder& builder, const NumberRange& range);
/// The numbers of the range; those without bounds may have an exponent of one or two digits.
GrammarBuilder::Expr number_expression(GrammarBuilder& builder, const NumberRange& range);

}  // namespace glimpse::constrain
