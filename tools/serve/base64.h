// Base64, as data: URLs carry pictures (RFC 4648, section 4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace glimpse::serve {

/// Padding may be missing; line ends between groups are skipped, anything else is nothing (and *bad its offset).
std::optional<std::string> decode_base64(std::string_view text, size_t* bad);
std::string encode_base64(std::string_view bytes);

}  // namespace glimpse::serve
