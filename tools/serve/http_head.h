// The first lines of an HTTP/1.1 request, read strictly: what two programs could understand in two ways is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace glimpse::serve {

struct HttpHead {
  std::string method;  // letters A to Z
  std::string path;    // without query and host; percent signs as they came; of "OPTIONS *": "/"
  std::string query;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case, in order
  uint64_t content_length = 0;
  bool is_chunked = false;  // the length of the body is not told
  bool expects_continue = false;
  bool knows_chunks = true;  // HTTP/1.1

  /// The value, or "".
  std::string_view find(std::string_view name) const;
};

constexpr size_t kMostHeadBytes = 16 << 10;
constexpr size_t kMostPathBytes = 2 << 10;

/// head: up to and with the empty line. Throws ApiError: 400 for bare line feeds, folded lines, spaces before a colon,
/// bytes that may not be there, a Host that is missing (HTTP/1.1), given twice or not that of the URL, two lengths, a
/// length beside Transfer-Encoding; 411 for a Transfer-Encoding but chunked, 414, 431, 505.
HttpHead parse_head(std::string_view head);

/// Of a path or a URL; nothing when a percent sign stands for no byte, or for a zero.
std::optional<std::string> percent_decoded(std::string_view text);

/// The same request as cpp-httplib gets it: only what it needs to know, in one spelling.
std::string plain_head(const HttpHead& head);

}  // namespace glimpse::serve
