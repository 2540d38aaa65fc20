// Untrusted bytes in messages: what a file calls its keys must not reach a terminal unescaped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace glimpse {

/// 'text' in single quotes, with everything that is not printable ASCII as \xNN; what exceeds `limit` bytes becomes
/// "...".
std::string quoted(std::string_view text, size_t limit = 96);

/// "17 bytes", "3.2 MB", "4.7 GB": decimal units, as download pages show them.
std::string byte_size(uint64_t n_bytes);

/// Whether the text is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool is_valid_utf8(std::string_view text);

}  // namespace glimpse
