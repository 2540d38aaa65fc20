// The demo model of models/ against what transformers said with it on the held-out cases (models/measured.json, written
// by tools/demo_model/measure.py): every way of running it must give as many of the very same answers as were counted
// when this was written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "loaders/image/image.h"
#include "tests/cli/process.h"
#include "tokenizer/grounding.h"
#include "tools/cases/cases.h"

namespace glimpse::cli_test {
namespace {

std::string demo(const std::string& name) {
  return GLIMPSE_SOURCE_DIR "/models/" + name;
}

struct Way {
  std::string text, vision, kv;
  /// Answers of the 854 that are transformers', letter for letter: the least of the instruction sets avx512bf16,
  /// avx512vnni, avxvnni and avx2, which differ by up to four. Arithmetic is exact to the bit within one, so a lower
  /// count is a change of results.
  size_t n_same;
};
void PrintTo(const Way& way, std::ostream* out) {
  *out << way.text << ' ' << way.vision;
}

class Demo : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(demo("demo-Q8_0.gguf"))) GTEST_SKIP() << "this tree has no models/demo-Q8_0.gguf";
    measured_ = json::parse(read_all(demo("measured.json")));
    cases_ = cases::load_cases(demo("heldout"));
    ASSERT_EQ(measured_.at("right").size(), cases_.size());
  }
  static std::vector<std::string> pair(const std::string& text) {
    return {"-m", demo("demo-" + text + ".gguf"), "--mmproj", demo("mmproj-demo-f16.gguf")};
  }
  json measured_;
  std::vector<cases::Case> cases_;
};

class DemoEval : public Demo, public testing::WithParamInterface<Way> {};

TEST_P(DemoEval, AnswersAsTransformers) {
  const Way& way = GetParam();
  const size_t limit = GLIMPSE_SANITIZED ? 1 : 0;  // cases of each task; 0: all
  std::vector<std::string> arguments = {"eval",     "--cases",   demo("heldout"), "--json",  "--vision-precision",
                                        way.vision, "--kv-type", way.kv,          "--limit", std::to_string(limit)};
  for (const std::string& argument : pair(way.text)) arguments.push_back(argument);
  RunSetup setup;
  setup.timeout_seconds = 600;
  const RunResult result = run_glimpse(arguments, setup);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json said = json::parse(result.out).at("cases");

  // The same cases as transformers answered them: those of each task that the limit kept.
  std::map<std::string, size_t> n_of_task;
  size_t n_cases = 0, n_same = 0;
  for (size_t i = 0; i < cases_.size(); ++i) {
    if (limit > 0 && n_of_task[cases_[i].task]++ >= limit) continue;
    ASSERT_LT(n_cases, said.size());
    ASSERT_EQ(said[n_cases].at("question"), cases_[i].turns.back().question);
    n_same += said[n_cases].at("answer") == measured_.at("answers")[i] ? 1 : 0;
    ++n_cases;
  }
  EXPECT_EQ(said.size(), n_cases);
  EXPECT_GE(n_same + (cases_.size() - way.n_same), n_cases) << n_same << " of " << n_cases << " answers are the same";
  RecordProperty("same", static_cast<int>(n_same));
}

INSTANTIATE_TEST_SUITE_P(Ways, DemoEval,
                         testing::Values(Way{"Q8_0", "auto", "f16", 845}, Way{"Q8_0", "f32", "f32", 847},
                                         Way{"Q8_0", "bf16", "bf16", 841}, Way{"Q8_0", "int8", "f16", 837},
                                         Way{"Q4_K_M", "f32", "f32", 821}, Way{"Q4_K_M", "bf16", "f16", 818},
                                         Way{"Q4_K_M", "int8", "q8_0", 817}),
                         [](const auto& one) { return one.param.text + "_" + one.param.vision; });

// What README shows.
TEST_F(Demo, DescribesTheSamplePicture) {
  const std::string readme = read_all(GLIMPSE_SOURCE_DIR "/README.md");
  const std::string prompt = "$ tools/run.sh\n";
  const size_t begin = readme.find(prompt);
  ASSERT_NE(begin, std::string::npos);
  const size_t answer = begin + prompt.size();
  std::vector<std::string> arguments = {"run", "--image", demo("sample.png"), "Describe this picture."};
  for (const std::string& argument : pair("Q8_0")) arguments.push_back(argument);
  const RunResult result = run_glimpse(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, readme.substr(answer, readme.find('\n', answer) + 1 - answer));
}

TEST_F(Demo, BoxesAreInPixelsOfThePicture) {
  // The first box that transformers found with these weights.
  size_t i = 0;
  while (i < cases_.size() && !(cases_[i].score == cases::Score::kBox && measured_["right"][i].get<bool>())) ++i;
  ASSERT_LT(i, cases_.size());
  const cases::Case& c = cases_[i];
  ScratchDir scratch;
  std::vector<std::string> arguments = {"run",
                                        "--image",
                                        c.pictures[0],
                                        "--json",
                                        "--boxes",
                                        scratch.file("boxes.png"),
                                        "--masks",
                                        scratch.file("masks"),
                                        "--vision-precision",
                                        "f32",
                                        "--kv-type",
                                        "f32",
                                        c.turns[0].question};
  for (const std::string& argument : pair("Q8_0")) arguments.push_back(argument);
  const RunResult result = run_glimpse(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json answer = json::parse(result.out);
  ASSERT_EQ(answer.at("boxes").size(), 1u) << result.out;
  const json& pixels = answer["boxes"][0].at("pixels");
  const auto expected = read_shapes(c.turns[0].answer, ShapeUnit::kThousandths).shapes;
  ASSERT_EQ(expected.size(), 1u);
  const auto before = load_image(c.pictures[0], {}), after = load_image(scratch.file("boxes.png"), {});
  ASSERT_TRUE(before.ok() && after.ok());
  Shape want = expected[0], got;
  want.points = pixels_of(expected[0], {before.value().width, before.value().height, 0, 0});
  got.points = {{pixels.at(0), pixels.at(1)}, {pixels.at(2), pixels.at(3)}};
  EXPECT_GE(overlap(got, want), 0.7);
  // The mask is the box, to the pixel.
  const json& masks = answer["boxes"][0].at("masks");
  ASSERT_EQ(masks, json::array({scratch.file("masks/mask-1-1.png")}));
  const auto mask = load_image(masks[0], {});
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask.value().width, before.value().width);
  const int middle_x = static_cast<int>((got.points[0].x + got.points[1].x) / 2);
  const int middle_y = static_cast<int>((got.points[0].y + got.points[1].y) / 2);
  EXPECT_EQ(mask.value().pixels[static_cast<size_t>((middle_y * mask.value().width + middle_x) * 3)], 255);
  EXPECT_EQ(answer.at("boxes_problem"), "");
  EXPECT_NE(after.value().pixels, before.value().pixels) << "a frame was drawn";
}

}  // namespace
}  // namespace glimpse::cli_test
