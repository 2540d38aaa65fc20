// Numbers of a schema, exactly: their decimal digits.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace glimpse::constrain {

/// (-1)^negative * 0.d1d2d3... * 10^point, without zeros at either end; zero has no digits, point 0 and no sign.
struct Decimal {
  bool negative = false;
  std::string digits;
  int point = 0;

  /// nullopt: its exponent is beyond what a schema may ask for, 400 places either way.
  static std::optional<Decimal> parse(std::string_view json_number);
  bool is_integer() const { return static_cast<int>(digits.size()) <= point || digits.empty(); }
  bool operator==(const Decimal&) const = default;
  /// "0" to "999": the part before the point, without sign.
  std::string integer_part() const;
  /// The digits behind the point.
  std::string fraction() const;
};

/// Less than 0, 0, more than 0.
int compare(const Decimal& a, const Decimal& b);

}  // namespace glimpse::constrain
