#include "loaders/gguf/gguf_text.h"

#include "engine/base/result.h"

namespace glimpse {

std::string quoted(std::string_view text, size_t limit) {
  std::string out = "'";
  for (char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += format("\\x%02x", byte);
    }
  }
  if (text.size() > limit) out += "...";
  return out + "'";
}

std::string byte_size(uint64_t n_bytes) {
  const auto n = static_cast<double>(n_bytes);
  if (n_bytes < 10'000) return format("%d bytes", n_bytes);
  if (n_bytes < 1'000'000) return format("%.1f kB", n / 1e3);
  if (n_bytes < 1'000'000'000) return format("%.1f MB", n / 1e6);
  return format("%.2f GB", n / 1e9);
}

bool is_valid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - i < length) return false;
    uint32_t code = lead & (0x7fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xc0) != 0x80) return false;
      code = code << 6 | (byte & 0x3fu);
    }
    const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += length;
  }
  return true;
}

}  // namespace glimpse
