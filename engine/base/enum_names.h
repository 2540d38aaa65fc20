// Names of the values of an enumeration whose values count from 0.
#pragma once

#include <cstddef>

namespace glimpse {

/// names: as many as there are values, whose last is `last`, in their order; checked when it is compiled.
template <auto last, size_t n>
constexpr const char* enum_name(const char* const (&names)[n], decltype(last) value, const char* unknown = "unknown") {
  static_assert(n == static_cast<size_t>(last) + 1);
  const auto i = static_cast<size_t>(value);
  return i < n ? names[i] : unknown;
}

}  // namespace glimpse
