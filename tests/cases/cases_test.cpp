// Cases with known answers: what counts as right, intervals, the file.
#include "tools/cases/cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/base/scratch_dir.h"

namespace glimpse::cases {
namespace {

using testing::HasSubstr;

TEST(Scoring, ExactForgivesWhiteSpaceAroundAlone) {
  EXPECT_TRUE(is_right(Score::kExact, " Red\n", "Red"));
  EXPECT_FALSE(is_right(Score::kExact, "red", "Red"));
  EXPECT_FALSE(is_right(Score::kExact, "Red.", "Red"));
  EXPECT_FALSE(is_right(Score::kExact, "", "Red"));
}

TEST(Scoring, ListTakesThingsInAnyOrder) {
  const std::string want = "A red star, an orange ring and a blue heart on a white background.";
  EXPECT_TRUE(is_right(Score::kList, want, want));
  EXPECT_TRUE(is_right(Score::kList, "An orange ring, a blue heart and a red star on a white background.", want));
  EXPECT_FALSE(is_right(Score::kList, "A red star and an orange ring on a white background.", want)) << "one missing";
  EXPECT_FALSE(
      is_right(Score::kList, "A red star, an orange ring, a blue heart and a blue heart on a white background.", want))
      << "one too many";
  EXPECT_FALSE(is_right(Score::kList, "A red star, an orange ring and a blue heart on a black background.", want));
  EXPECT_FALSE(is_right(Score::kList, "A blue star, an orange ring and a red heart on a white background.", want));
}

TEST(Scoring, BoxNeedsSevenTenthsOfOverlap) {
  const std::string want = "<|object_ref_start|>star<|object_ref_end|><|box_start|>(0,0),(100,100)<|box_end|>";
  EXPECT_TRUE(is_right(Score::kBox, "<|box_start|>(0,0),(100,100)<|box_end|>", want));
  EXPECT_TRUE(is_right(Score::kBox, "<|box_start|>(0,0),(100,70)<|box_end|>", want));
  EXPECT_FALSE(is_right(Score::kBox, "<|box_start|>(0,0),(100,69)<|box_end|>", want));
  EXPECT_FALSE(is_right(Score::kBox, "There is no star.", want));
}

TEST(Wilson, KnownIntervals) {
  // Values of the formula at z = 1.959964, computed in Python.
  auto [low, high] = wilson_interval(0, 10);
  EXPECT_EQ(low, 0) << "exactly: a share of 0 lies within";
  EXPECT_NEAR(high, 0.2775328, 1e-6);
  std::tie(low, high) = wilson_interval(95, 100);
  EXPECT_NEAR(low, 0.8882495, 1e-6);
  EXPECT_NEAR(high, 0.9784563, 1e-6);
  std::tie(low, high) = wilson_interval(10, 10);
  EXPECT_NEAR(low, 0.7224672, 1e-6);
  for (size_t n = 1; n < 100; ++n) EXPECT_EQ(wilson_interval(n, n).second, 1) << n;
  EXPECT_EQ(wilson_interval(0, 0), std::pair(0.0, 1.0));
}

class CasesFile : public FolderTest {
 protected:
  std::vector<Case> load(const std::string& text) {
    scratch_.write("cases.json", text);
    return load_cases(scratch_.path());
  }
  void expect_refused(const std::string& text, const std::string& word) {
    try {
      load(text);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("cases.json"), HasSubstr(word)));
    }
  }
};

TEST_F(CasesFile, GivesTasksPicturesTurnsAndScores) {
  const auto cases = load(R"({"cases": [
    {"task": "colour", "pictures": ["a.png"], "turns": [["What color?", "Red"]], "score": "exact"},
    {"task": "box", "pictures": ["a.png", "b.png"], "turns": [["One?", "x"], ["Two?", "y"]], "score": "box"}]})");
  ASSERT_EQ(cases.size(), 2u);
  EXPECT_EQ(cases[0].task, "colour");
  EXPECT_EQ(cases[0].pictures, std::vector{(folder_ / "a.png").string()});
  EXPECT_EQ(cases[0].turns[0].answer, "Red");
  EXPECT_EQ(cases[0].score, Score::kExact);
  EXPECT_EQ(cases[1].pictures.size(), 2u);
  EXPECT_EQ(cases[1].turns[1].question, "Two?");
  EXPECT_EQ(cases[1].score, Score::kBox);
}

TEST_F(CasesFile, SaysWhatIsWrong) {
  expect_refused("", "parse");
  expect_refused("[]", "");
  expect_refused(R"({"cases": [{"task": "x"}]})", "score");
  expect_refused(R"({"cases": [{"task": "x", "pictures": [], "turns": [], "score": "exact"}]})", "without a question");
  expect_refused(R"({"cases": [{"task": "x", "pictures": [], "turns": [["q", "a"]], "score": "fair"}]})", "fair");
  expect_refused(R"({"cases": [{"task": "x", "pictures": [], "turns": [["q"]], "score": "exact"}]})", "");
  const std::string good = R"({"task": "x", "pictures": [], "turns": [["q", "a"]], "score": "exact"}, )";
  for (const char* zero : {R"({"task": "x", "pictures": [], "turns": [["a\u0000b", "a"]], "score": "exact"}]})",
                           R"({"task": "x", "pictures": [], "turns": [["q", "\u0000"]], "score": "exact"}]})",
                           R"({"task": "x", "pictures": ["\u0000"], "turns": [["q", "a"]], "score": "exact"}]})",
                           R"({"task": "\u0000", "pictures": [], "turns": [["q", "a"]], "score": "exact"}]})"}) {
    expect_refused(R"({"cases": [)" + good + zero, "case 2: a text with a zero byte");
  }
  EXPECT_THROW(load_cases((folder_ / "absent").string()), std::runtime_error);
}

}  // namespace
}  // namespace glimpse::cases
