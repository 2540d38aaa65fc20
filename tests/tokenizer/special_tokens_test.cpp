#include "tokenizer/special_tokens.h"

#include <gtest/gtest.h>

namespace glimpse {
namespace {

using Kind = SpecialTokens::Kind;

std::vector<TokenId> all(const SpecialTokens& specials, std::string_view text, bool with_control) {
  std::vector<TokenId> ids;
  for (size_t begin = 0; begin < text.size();) {
    const auto match = specials.find(text, begin, true, with_control);
    if (match.id >= 0) ids.push_back(match.id);
    begin = match.end;
  }
  return ids;
}

TEST(SpecialTokens, LeftmostThenLongestWins) {
  SpecialTokens specials;
  specials.add("<a>", 1, Kind::kControl);
  specials.add("<a><b>", 2, Kind::kControl);
  specials.add("<b>", 3, Kind::kPlain);
  EXPECT_EQ(all(specials, "x<a><a><b><b>", true), (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(all(specials, "<a<b>>", true), std::vector<TokenId>{3});
  const auto match = specials.find("xy<a>z", 0, true, true);
  EXPECT_EQ(match.begin, 2u);
  EXPECT_EQ(match.end, 5u);
}

TEST(SpecialTokens, ControlOnesAreFoundOnlyWhenAskedFor) {
  SpecialTokens specials;
  specials.add("<a>", 1, Kind::kControl);
  specials.add("<a><b>", 2, Kind::kControl);
  specials.add("<b>", 3, Kind::kPlain);
  EXPECT_EQ(all(specials, "<a><b>", false), std::vector<TokenId>{3});
  EXPECT_EQ(specials.find("<a>", 0, true, false).begin, 3u);
}

TEST(SpecialTokens, MarkupIsFoundOnlyWhenAskedFor) {
  SpecialTokens specials;
  specials.add("<t>", 1, Kind::kMarkup);
  specials.add("<u>", 2, Kind::kPlain);
  EXPECT_EQ(specials.find("<t><u>", 0, true, false).id, 1);
  EXPECT_EQ(specials.find("<t><u>", 0, false, true).id, 2);
}

TEST(SpecialTokens, FindsNothingInNothing) {
  const SpecialTokens none;
  EXPECT_EQ(none.find("abc", 0, true, true).begin, 3u);
  EXPECT_EQ(none.find("", 0, true, true).id, -1);
}

}  // namespace
}  // namespace glimpse
