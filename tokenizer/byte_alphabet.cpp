#include "tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr int kAlphabetEnd = 0x144;

struct Tables {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kAlphabetEnd> byte{};
};

constexpr Tables make_tables() {
  Tables t;
  for (auto& b : t.byte) b = -1;
  uint16_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    t.character[b] = itself ? static_cast<uint16_t>(b) : next++;
    t.byte[t.character[b]] = static_cast<int16_t>(b);
  }
  return t;
}

constexpr Tables kTables = make_tables();

}  // namespace

char32_t byte_to_character(unsigned char byte) {
  return kTables.character[byte];
}

int character_to_byte(char32_t character) {
  return character < kAlphabetEnd ? kTables.byte[character] : -1;
}

bool append_spelled_bytes(std::string_view spelled, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t i = 0; i < spelled.size();) {
    const Utf8Step step = utf8_step(spelled.substr(i));
    const int byte = step.kind == Utf8Step::Kind::kValid ? character_to_byte(step.code_point) : -1;
    if (byte < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(byte));
    i += step.n_bytes;
  }
  return true;
}

}  // namespace glimpse
