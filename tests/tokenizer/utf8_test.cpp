#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace glimpse {
namespace {

TEST(Utf8, ReadsEveryScalarValueThatItWrites) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const Utf8Step step = utf8_step(text);
    ASSERT_EQ(step.kind, Utf8Step::Kind::kValid) << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(step.n_bytes, text.size());
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(utf8_at(text, 0).code_point, c);
    ASSERT_EQ(utf8_at(text, 0).n_bytes, text.size());
  }
}

TEST(Utf8, RefusesWhatNoScalarValueHas) {
  const std::pair<std::string, size_t> cases[] = {
      {"\x80", 1},         {"\xBF", 1},         {"\xC0\x80", 1},     {"\xC1\xBF", 1},         {"\xE0\x80\x80", 1},
      {"\xE0\x9F\xBF", 1}, {"\xED\xA0\x80", 1}, {"\xED\xBF\xBF", 1}, {"\xF0\x8F\xBF\xBF", 1}, {"\xF4\x90\x80\x80", 1},
      {"\xF5", 1},         {"\xFF", 1},         {"\xC3(", 1},        {"\xE2\x82(", 2},        {"\xF0\x9F\x98(", 3},
      {"\xF0\x9F(", 2}};
  for (const auto& [bytes, n] : cases) {
    const Utf8Step step = utf8_step(bytes);
    EXPECT_EQ(step.kind, Utf8Step::Kind::kInvalid) << testing::PrintToString(bytes);
    EXPECT_EQ(step.n_bytes, n) << testing::PrintToString(bytes);
  }
}

TEST(Utf8, TellsUnfinishedFromInvalid) {
  const std::string grin = "\U0001F600";
  for (size_t n = 1; n < grin.size(); ++n) {
    const Utf8Step step = utf8_step(std::string_view(grin).substr(0, n));
    EXPECT_EQ(step.kind, Utf8Step::Kind::kIncomplete);
    EXPECT_EQ(step.n_bytes, n);
  }
}

TEST(Utf8, NamesTheFirstBadByteWhereverItStands) {
  EXPECT_EQ(find_invalid_utf8(""), std::string_view::npos);
  for (size_t n = 0; n < 40; ++n) {
    EXPECT_EQ(find_invalid_utf8(std::string(n, 'a') + "\u00e9"), std::string_view::npos);
    EXPECT_EQ(find_invalid_utf8(std::string(n, 'a') + "\xFF" + std::string(9, 'b')), n);
    EXPECT_EQ(find_invalid_utf8(std::string(n, 'a') + "\u00e9\xC3"), n + 2);
  }
}

}  // namespace
}  // namespace glimpse
