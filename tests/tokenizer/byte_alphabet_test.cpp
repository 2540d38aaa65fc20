#include "tokenizer/byte_alphabet.h"

#include <gtest/gtest.h>

#include "tests/tokenizer/byte_vocabulary.h"

namespace glimpse {
namespace {

TEST(ByteAlphabet, SpellsTheBytesThatEverybodyKnows) {
  EXPECT_EQ(spell_bytes(" a\n\t"), "\u0120a\u010A\u0109");
  EXPECT_EQ(byte_to_character(0), 0x100u);
  EXPECT_EQ(byte_to_character(33), 33u);
  EXPECT_EQ(byte_to_character(127), 0x121u);
  EXPECT_EQ(byte_to_character(160), 0x142u);
  EXPECT_EQ(byte_to_character(172), 172u);
  EXPECT_EQ(byte_to_character(173), 0x143u);
  EXPECT_EQ(byte_to_character(255), 255u);
}

TEST(ByteAlphabet, IsOneToOne) {
  std::string all;
  for (int b = 0; b < 256; ++b) {
    all.push_back(static_cast<char>(b));
    EXPECT_EQ(character_to_byte(byte_to_character(static_cast<unsigned char>(b))), b);
  }
  std::string back;
  ASSERT_TRUE(append_spelled_bytes(spell_bytes(all), back));
  EXPECT_EQ(back, all);
}

TEST(ByteAlphabet, HasNoOtherCharacters) {
  int n = 0;
  for (char32_t c = 0; c < 0x1000; ++c) n += character_to_byte(c) >= 0;
  EXPECT_EQ(n, 256);
  for (const char* text : {" ", "a b", "\u0144", "\u4e2d", "\xFF", "a\xC4"}) {
    std::string bytes = "kept";
    EXPECT_FALSE(append_spelled_bytes(text, bytes)) << text;
    EXPECT_EQ(bytes, "kept");
  }
}

}  // namespace
}  // namespace glimpse
