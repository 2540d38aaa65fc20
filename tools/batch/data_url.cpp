#include "tools/batch/data_url.h"

#include <cstdint>

namespace glimpse::batch {
namespace {

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;  // of the alphabet for URLs, too
  if (c == '/' || c == '_') return 63;
  return -1;
}

}  // namespace

bool is_data_url(std::string_view text) {
  return text.starts_with("data:");
}

Result<std::string> base64_bytes(std::string_view text) {
  size_t n = text.size();
  while (n > 0 && text.size() - n < 2 && text[n - 1] == '=') --n;
  if ((text.size() != n && text.size() % 4 != 0) || n % 4 == 1) {
    return make_error(ErrorCode::kInvalidArgument, "base64 text of %d characters is cut short", text.size());
  }
  std::string bytes;
  bytes.reserve(n * 3 / 4);
  uint32_t bits = 0;
  int n_bits = 0;
  for (size_t i = 0; i < n; ++i) {
    const int value = base64_value(text[i]);
    if (value < 0) return make_error(ErrorCode::kInvalidArgument, "no base64 at character %d", i);
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xFFFFFF;
    n_bits += 6;
    if (n_bits >= 8) bytes += static_cast<char>(bits >> (n_bits -= 8) & 0xFF);
  }
  return bytes;
}

Result<std::string> data_url_bytes(std::string_view url) {
  const size_t comma = url.find(',');
  if (!is_data_url(url) || comma == std::string_view::npos || !url.substr(0, comma).ends_with(";base64")) {
    return make_error(ErrorCode::kInvalidArgument, "a data: URL of a picture is data:image/...;base64,...");
  }
  return base64_bytes(url.substr(comma + 1));
}

}  // namespace glimpse::batch
