// glimpse eval: shares of right answers, conversations, selection; refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

// A folder of cases on one small picture for the golden model, whose answers mean nothing but are always the same.
class Eval : public testing::Test {
 protected:
  void SetUp() override { picture_ = scratch_.write("a.png", read_all(kPicture)); }
  // Plain vectors: nested braces would become JSON objects where they look like pairs.
  using Turns = std::vector<std::vector<std::string>>;
  using Paths = std::vector<std::string>;
  void write(const std::vector<json>& cases) {
    json file;
    file["cases"] = cases;
    scratch_.write("cases.json", file.dump());
  }
  static json one(const std::string& task, const Turns& turns, const Paths& pictures = {"a.png"}) {
    return {{"task", task}, {"pictures", pictures}, {"turns", turns}, {"score", "exact"}};
  }
  RunResult run(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"eval",
                                          "-m",
                                          golden("tied/model.gguf"),
                                          "--mmproj",
                                          golden("tied/mmproj.gguf"),
                                          "--cases",
                                          scratch_.path(),
                                          "-n",
                                          "4",
                                          "-c",
                                          "512"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_glimpse(arguments);
  }
  json run_json(std::vector<std::string> more = {}) {
    more.push_back("--json");
    const RunResult result = run(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    json parsed = json::parse(result.out, nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << result.out;
    return parsed.is_object() ? parsed : json{{"cases", json::array()}};
  }
  ScratchDir scratch_;
  std::string picture_;
};

TEST_F(Eval, CountsRightAnswersPerTask) {
  const Turns first = {{"what is this picture", "?"}};
  const Turns second = {{"describe the image", "?"}};
  write({one("a", first), one("a", second), one("b", first)});
  const json asked = run_json();
  ASSERT_EQ(asked.at("cases").size(), 3u);
  const std::string said = asked["cases"][0].at("answer"), other = asked["cases"][1].at("answer");
  EXPECT_EQ(asked["cases"][2].at("answer"), said) << "the same question in a conversation of its own";
  EXPECT_EQ(asked["all"].at("right"), 0);

  write({one("a", Turns{{"what is this picture", said}}), one("a", Turns{{"describe the image", said + "?"}}),
         one("b", Turns{{"what is this picture", said}})});
  const json again = run_json();
  EXPECT_EQ(again["tasks"].at("a").at("right"), 1);
  EXPECT_EQ(again["tasks"].at("a").at("cases"), 2);
  EXPECT_EQ(again["tasks"].at("a").at("accuracy"), 0.5);
  EXPECT_EQ(again["tasks"].at("b").at("accuracy"), 1.0);
  EXPECT_EQ(again["all"].at("right"), 2);
  EXPECT_LT(again["all"].at("interval").at(0).get<double>(), 2.0 / 3);
  EXPECT_GT(again["all"].at("interval").at(1).get<double>(), 2.0 / 3);

  const RunResult text = run({"--wrong"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, HasSubstr("1 / 2"));
  EXPECT_THAT(text.out, HasSubstr("66.7%"));
  EXPECT_THAT(text.out, HasSubstr("describe the image")) << "the wrong one is shown";
  EXPECT_THAT(text.out, testing::Not(HasSubstr("what is this picture")));
}

TEST_F(Eval, AnswerIsThatOfRun) {
  write({one("a", Turns{{"what is this picture", "?"}})});
  const json asked = run_json();
  const RunResult direct =
      run_glimpse({"run", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "--image", picture_,
                   "-n", "4", "-c", "512", "--special", "what is this picture"});
  EXPECT_EQ(direct.exit_code, 0) << direct.err;
  EXPECT_EQ(asked["cases"][0].at("answer").get<std::string>() + "\n", direct.out);
}

TEST_F(Eval, LaterTurnsSeeTheEarlierOnes) {
  write({one("a", Turns{{"what is this picture", "?"}, {"describe the image", "?"}}),
         one("a", Turns{{"describe the image", "?"}}), one("a", Turns{{"describe the image", "?"}}, Paths{}),
         one("a", Turns{{"describe the image", "?"}})});
  const json asked = run_json();
  ASSERT_EQ(asked["cases"].size(), 4u);
  EXPECT_NE(asked["cases"][0].at("answer"), asked["cases"][1].at("answer"));
  EXPECT_NE(asked["cases"][2].at("answer"), asked["cases"][1].at("answer")) << "without the picture";
  EXPECT_EQ(asked["cases"][3].at("answer"), asked["cases"][1].at("answer"));
}

TEST_F(Eval, SelectsTaskAndNumber) {
  const Turns question = {{"what is this picture", "?"}};
  write({one("a", question), one("b", question), one("b", question), one("a", question), one("b", question)});
  EXPECT_EQ(run_json({"--task", "b"})["cases"].size(), 3u);
  EXPECT_EQ(run_json({"--limit", "1"})["cases"].size(), 2u);
  EXPECT_EQ(run_json({"--limit", "2", "--task", "b"})["cases"].size(), 2u);
  const RunResult none = run({"--task", "c"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr("no cases of the task 'c'"));
}

TEST_F(Eval, RefusesBadCasesAndPictures) {
  const auto expect_refused = [&](const std::string& word) {
    const RunResult result = run();
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.rfind("glimpse: ", 0), 0u) << result.err;
    EXPECT_THAT(result.err, HasSubstr(word));
  };
  expect_refused("cases.json");  // there is none yet
  scratch_.write("cases.json", "{");
  expect_refused("cases.json");
  scratch_.write("cases.json", R"({"cases": []})");
  expect_refused("no cases");
  write({one("a", Turns{{"q", "?"}}, Paths{"absent.png"})});
  expect_refused("absent.png");
  scratch_.write("b.png", "not a picture");
  write({one("a", Turns{{"q", "?"}}, Paths{"b.png"})});
  expect_refused("b.png");
}

TEST_F(Eval, WrongFlagsAreUsageErrors) {
  EXPECT_EQ(run_glimpse({"eval"}).exit_code, 2);
  EXPECT_EQ(run_glimpse({"eval", "-m", golden("tied/model.gguf")}).exit_code, 2) << "no --mmproj";
  EXPECT_EQ(run({"--vision-precision", "f17"}).exit_code, 2);
  const RunResult help = run_glimpse({"eval", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("--cases"));
}

}  // namespace
}  // namespace glimpse::cli_test
