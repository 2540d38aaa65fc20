#include "tools/serve/base64.h"

#include <array>
#include <cstdint>

namespace glimpse::serve {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> values() {
  std::array<int8_t, 256> table{};
  for (auto& value : table) value = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i) table[static_cast<uint8_t>(kAlphabet[i])] = static_cast<int8_t>(i);
  table['-'] = 62;  // the alphabet of URLs, section 5
  table['_'] = 63;
  return table;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text, size_t* bad) {
  static constexpr std::array<int8_t, 256> kValues = values();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 3);
  uint32_t bits = 0;
  int n = 0;  // characters of the group so far
  size_t i = 0;
  for (; i < text.size() && text[i] != '='; ++i) {
    if (text[i] == '\r' || text[i] == '\n') continue;
    const int value = kValues[static_cast<uint8_t>(text[i])];
    *bad = i;
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++n < 4) continue;
    for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xff);
    bits = 0;
    n = 0;
  }
  *bad = i;
  const int n_pads = n == 0 ? 0 : 4 - n;
  if (n == 1) return std::nullopt;  // six bits are no byte
  for (int shift = 16, k = 1; k < n; ++k, shift -= 8) {
    bytes += static_cast<char>(bits << 6 * n_pads >> shift & 0xff);
  }
  int pads = 0;
  for (; i < text.size(); ++i) {
    *bad = i;
    if (text[i] == '\r' || text[i] == '\n') continue;
    if (text[i] != '=' || ++pads > n_pads) return std::nullopt;
  }
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace glimpse::serve
