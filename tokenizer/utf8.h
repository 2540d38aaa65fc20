// UTF-8, strictly as the Unicode standard has it (version 15, section 3.9, table 3-7): no overlong forms, no
// surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace glimpse {

/// What stands at the start of some bytes.
struct Utf8Step {
  enum class Kind {
    kValid,       // a complete sequence of n_bytes
    kInvalid,     // n_bytes are a maximal subpart of an ill-formed sequence (at least 1)
    kIncomplete,  // all n_bytes are the start of a sequence that may yet be completed
  };
  Kind kind = Kind::kInvalid;
  size_t n_bytes = 0;
  char32_t code_point = 0;  // kValid only
};

/// Precondition: bytes is not empty.
Utf8Step utf8_step(std::string_view bytes);

/// Offset of the first byte that is not part of valid UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text);

/// Where a reader of a text stands: line and column, in characters, from 1.
struct TextPlace {
  size_t line = 1, column = 1;
};
TextPlace text_place(std::string_view text, size_t offset);

/// A code point and its length in bytes.
struct Utf8Char {
  char32_t code_point;
  size_t n_bytes;
};

/// The code point at `offset`. Precondition: text is valid UTF-8 and offset is a boundary below its end.
inline Utf8Char utf8_at(std::string_view text, size_t offset) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + offset;
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xE0) return {static_cast<char32_t>((p[0] & 0x1F) << 6 | (p[1] & 0x3F)), 2};
  if (p[0] < 0xF0) return {static_cast<char32_t>((p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F)), 3};
  return {static_cast<char32_t>((p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F)), 4};
}

/// Appends a code point (a scalar value) to a container of char.
template <typename String>
void append_utf8(char32_t c, String& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
  } else {
    if (c < 0x10000) {
      out.push_back(static_cast<char>(0xE0 | c >> 12));
    } else {
      out.push_back(static_cast<char>(0xF0 | c >> 18));
      out.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    }
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
  }
  out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

}  // namespace glimpse
