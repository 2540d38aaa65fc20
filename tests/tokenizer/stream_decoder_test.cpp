#include <gtest/gtest.h>

#include <random>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

std::string decode_whole(std::string_view bytes) {
  StreamDecoder decoder;
  std::string text = decoder.push(bytes);
  return text + decoder.finish();
}

TEST(StreamDecoder, PassesValidTextOnAtOnce) {
  StreamDecoder decoder;
  EXPECT_EQ(decoder.push("abc \u00e9\u4e2d\U0001F600"), "abc \u00e9\u4e2d\U0001F600");
  EXPECT_EQ(decoder.push(""), "");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, HoldsAnUnfinishedCharacter) {
  StreamDecoder decoder;
  EXPECT_EQ(decoder.push("a\xF0\x9F"), "a");
  EXPECT_EQ(decoder.push("\x98"), "");
  EXPECT_EQ(decoder.push("\x80z"), "\U0001F600z");
}

TEST(StreamDecoder, ReplacesAnUnfinishedCharacterAtTheEndOnce) {
  StreamDecoder decoder;
  EXPECT_EQ(decoder.push("a\xF0\x9F\x98"), "a");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.push("b"), "b");  // ready for another stream
}

TEST(StreamDecoder, ReplacesEachMaximalSubpart) {
  // The Unicode standard 15.0, section 3.9, tables 3-8 to 3-11.
  EXPECT_EQ(decode_whole("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41");
  EXPECT_EQ(decode_whole("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41");
  EXPECT_EQ(decode_whole("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41\uFFFD\uFFFD\x42");
  EXPECT_EQ(decode_whole("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\x41");
}

TEST(StreamDecoder, CutsDoNotMatterAndNothingInvalidIsShown) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = test::random_text(random, random() % 12);
    for (size_t k = random() % 4; k > 0 && !bytes.empty(); --k) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const std::string whole = decode_whole(bytes);
    ASSERT_EQ(find_invalid_utf8(whole), std::string_view::npos);
    const bool is_valid = find_invalid_utf8(bytes) == std::string_view::npos;
    if (is_valid) {
      ASSERT_EQ(whole, bytes);
    }
    StreamDecoder bytewise, chunked;
    std::string a, b;
    for (size_t i = 0; i < bytes.size(); ++i) {
      const std::string shown = bytewise.push({&bytes[i], 1});
      ASSERT_EQ(find_invalid_utf8(shown), std::string_view::npos);
      a += shown;
      if (is_valid) {
        ASSERT_GE(a.size() + 3, i + 1);  // at most three bytes are held
      }
    }
    for (size_t i = 0; i < bytes.size();) {
      const size_t n = 1 + random() % 5;
      b += chunked.push(std::string_view(bytes).substr(i, n));
      i += n;
    }
    ASSERT_EQ(a + bytewise.finish(), whole);
    ASSERT_EQ(b + chunked.finish(), whole);
  }
}

TEST(StreamDecoder, TokensOfOneCharacterShowItWhenItIsWhole) {
  // Each byte its own token, as with characters that the vocabulary lacks.
  auto tokenizer = Tokenizer::create(test::byte_vocabulary());
  ASSERT_TRUE(tokenizer.ok());
  const std::string text = "\U0001F469\u200d\U0001F4BB\u4e2d";
  const auto ids = tokenizer->encode(text, {});
  ASSERT_TRUE(ids.ok());
  ASSERT_EQ(ids.value().size(), text.size());
  StreamDecoder decoder;
  std::string shown;
  for (const TokenId id : ids.value()) shown += decoder.push(tokenizer->token_bytes(id, false));
  EXPECT_EQ(shown, text);
}

}  // namespace
}  // namespace glimpse
