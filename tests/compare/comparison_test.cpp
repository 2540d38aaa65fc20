// Ratios, disturbed pairs, and the two reports.
#include "tools/compare/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace glimpse::compare {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PairConditions quiet(double bandwidth = 30e9) {
  PairConditions pair;
  pair.bandwidth = bandwidth;
  return pair;
}

Comparison sample() {
  Comparison c;
  c.model = "model.gguf";
  c.mmproj = "mmproj.gguf";
  c.cpu = "a CPU";
  c.pairs = {quiet(), quiet(), quiet(20e9)};
  mark_disturbed(c.pairs, 30e9);
  c.stages = {{"image encode", "ms", Better::kLess, {100, 110, 500}, {200, 231, 500}},
              {"decode", "tokens/s", Better::kMore, {20, 22, 1}, {10, 10, 1}}};
  c.waterfall = {{"load", 500, 800}, {"image encode", 105, 210}, {"answer", 1000, 1500}};
  return c;
}

TEST(Comparison, RatiosAreAboveOneWhereWeAreBetter) {
  const Comparison c = sample();
  EXPECT_DOUBLE_EQ(c.stages[0].ratio(0), 2);
  EXPECT_DOUBLE_EQ(c.stages[1].ratio(0), 2);
  EXPECT_EQ(c.stages[0].ratio(3), 0);  // no such pair
  const Stage missing{"x", "ms", Better::kLess, {0, 5}, {7, 0}};
  EXPECT_EQ(missing.ratio(0), 0);
  EXPECT_EQ(missing.ratio(1), 0);
}

TEST(Comparison, PairsOnADisturbedMachineDoNotCount) {
  const Comparison c = sample();
  EXPECT_FALSE(c.pairs[0].disturbed);
  EXPECT_TRUE(c.pairs[1].disturbed);  // the probe after it is that before the third
  EXPECT_TRUE(c.pairs[2].disturbed);
  EXPECT_THAT(c.pairs[2].reason, HasSubstr("20.0 GB/s"));
  const StageSummary s = summarize(c.stages[0], c.pairs);
  EXPECT_EQ(s.n_pairs, 1);
  EXPECT_FALSE(s.disturbed);
  EXPECT_DOUBLE_EQ(s.ratio, 2);
  EXPECT_TRUE(c.any_quiet());
}

TEST(Comparison, OtherProgramsDisturb) {
  std::vector<PairConditions> pairs = {quiet(), quiet(), quiet()};
  pairs[1].foreign_load = 0.5;
  pairs[2].foreign_load = 0.05;
  mark_disturbed(pairs, 31e9);
  EXPECT_FALSE(pairs[0].disturbed);
  EXPECT_TRUE(pairs[1].disturbed);
  EXPECT_THAT(pairs[1].reason, HasSubstr("0.50 CPUs"));
  EXPECT_FALSE(pairs[2].disturbed);
}

TEST(Comparison, WithoutAQuietPairAllCountAndItIsSaid) {
  Comparison c = sample();
  for (PairConditions& pair : c.pairs) pair.disturbed = true;
  const StageSummary s = summarize(c.stages[0], c.pairs);
  EXPECT_EQ(s.n_pairs, 3);
  EXPECT_TRUE(s.disturbed);
  EXPECT_DOUBLE_EQ(s.ours, 110);
  EXPECT_DOUBLE_EQ(s.ratio, 2);
  EXPECT_DOUBLE_EQ(s.ratio_low, 1);
  EXPECT_DOUBLE_EQ(s.ratio_high, 2.1);
  EXPECT_THAT(markdown_report(c), HasSubstr("not to be quoted"));
  EXPECT_THAT(html_report(c), HasSubstr("not to be quoted"));
  EXPECT_THAT(markdown_report(sample()), Not(HasSubstr("not to be quoted")));
}

TEST(Comparison, MedianOfEvenAndOddNumbers) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

TEST(Comparison, MarkdownHasEveryStageAndPair) {
  const std::string text = markdown_report(sample());
  EXPECT_THAT(text, HasSubstr("| image encode | 100.0 ms | 200.0 ms | 2.00x | 2.00 - 2.00 | 1 |"));
  EXPECT_THAT(text, HasSubstr("| decode | 20.0 tokens/s | 10.0 tokens/s | 2.00x |"));
  EXPECT_THAT(text, HasSubstr("| 3 | 20.0 GB/s |"));
  EXPECT_THAT(text, HasSubstr("disturbed: memory bandwidth 20.0 GB/s"));
}

TEST(Comparison, AnswersAreComparedAndShown) {
  Comparison c = sample();
  c.agreements = {{"cat.jpg: what?", "a grey cat", "a grey cat", 10, 10},
                  {"dog.jpg: what?", "a big dog", "a big cow", 10, 12}};
  EXPECT_EQ(c.agreements[1].common(), 6u);
  for (const std::string& text : {markdown_report(c), html_report(c)}) {
    EXPECT_THAT(text, HasSubstr("he same answer"));
    EXPECT_THAT(text, HasSubstr("part after 6 bytes"));
    EXPECT_THAT(text, HasSubstr("10 and 12 tokens"));
  }
}

TEST(Comparison, TextOfModelsAndUsersStaysText) {
  Comparison c = sample();
  c.model = "<script>alert(1)</script>|x.gguf";
  c.agreements = {{"say <b>\"hi\"</b> & ```", "</pre><script>x</script>\x1b[31m```", "", 1, 1}};
  c.stages[0].name = "a<b|c";
  c.notes = {"<i>note</i>"};
  const std::string page = html_report(c);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<b>\"hi")));
  EXPECT_THAT(page, Not(HasSubstr("<i>note")));
  EXPECT_EQ(page.find('\x1b'), std::string::npos);
  EXPECT_THAT(page, HasSubstr("a&lt;b|c"));
  const std::string text = markdown_report(c);
  EXPECT_THAT(text, HasSubstr("````text\n"));  // a fence longer than the one inside
  EXPECT_THAT(text, HasSubstr("a\\<b\\|c"));
}

TEST(Comparison, PageNeedsNothingElse) {
  const std::string page = html_report(sample());
  for (const char* word : {"http", "<script", "src=", "<link", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(word)));
  for (const char* word : {"<svg", "prefers-color-scheme: dark", "aria-label", "class=\"ours\"", "class=\"part1\""}) {
    EXPECT_THAT(page, HasSubstr(word));
  }
}

TEST(Comparison, EmptyOnesMakeReports) {
  Comparison c;
  EXPECT_THAT(markdown_report(c), HasSubstr("# glimpse"));
  EXPECT_THAT(html_report(c), HasSubstr("</html>"));
}

}  // namespace
}  // namespace glimpse::compare
