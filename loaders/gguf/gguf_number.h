// What the numbers of each GGUF type are in C++. Private to loaders/gguf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Calls visit with a zero of the type that these numbers are stored as. False for strings and arrays.
template <typename Visit>
bool visit_number_type(GgufType type, Visit&& visit) {
  switch (type) {
#define GLIMPSE_NUMBER(type, Stored) \
  case GgufType::type:               \
    return visit(Stored{}), true;
    GLIMPSE_NUMBER(kUint8, uint8_t)
    GLIMPSE_NUMBER(kBool, uint8_t)
    GLIMPSE_NUMBER(kInt8, int8_t)
    GLIMPSE_NUMBER(kUint16, uint16_t)
    GLIMPSE_NUMBER(kInt16, int16_t)
    GLIMPSE_NUMBER(kUint32, uint32_t)
    GLIMPSE_NUMBER(kInt32, int32_t)
    GLIMPSE_NUMBER(kUint64, uint64_t)
    GLIMPSE_NUMBER(kInt64, int64_t)
    GLIMPSE_NUMBER(kFloat32, float)
    GLIMPSE_NUMBER(kFloat64, double)
#undef GLIMPSE_NUMBER
    case GgufType::kString:
    case GgufType::kArray:
      return false;
  }
  return false;
}

/// The member of GgufNumber that holds any of them.
template <typename Stored>
using GgufWide = std::conditional_t<std::is_floating_point_v<Stored>, double,
                                    std::conditional_t<std::is_signed_v<Stored>, int64_t, uint64_t>>;

/// Appends a number as this type stores it. False, and nothing appended, where it does not fit, or is a float and the
/// type an integer's, or the other way round.
template <typename Wide>
bool put_number(std::vector<std::byte>& out, GgufType type, Wide value) {
  if (type == GgufType::kBool && !(value <= 1)) return false;
  bool fits = false;
  visit_number_type(type, [&](auto stored) {
    using Stored = decltype(stored);
    if constexpr (std::is_integral_v<Stored> && std::is_integral_v<Wide>) {
      fits = std::in_range<Stored>(value);
    } else {
      fits = std::is_integral_v<Stored> == std::is_integral_v<Wide>;
    }
    if (!fits) return;
    stored = static_cast<Stored>(value);
    const auto bytes = std::as_bytes(std::span(&stored, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  });
  return fits;
}

}  // namespace glimpse
