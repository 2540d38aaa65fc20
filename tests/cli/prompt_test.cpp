// glimpse run: questions arrive as they were typed, saved or piped, with pictures where they were put; prompts without
// a chat format.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using namespace std::string_literals;

RunResult run(std::vector<std::string> more, const std::string& input = "") {
  std::vector<std::string> arguments = {"run", "-m", golden("tied/model.gguf"), "-t", "1", "-n", "1", "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  RunSetup setup;
  setup.input = input;
  return run_glimpse(arguments, setup);
}

std::vector<std::string> with_pictures(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"--mmproj", golden("tied/mmproj.gguf"), "--image-max-tokens", "4", "--image",
                                        kPicture};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

int prompt_tokens(const RunResult& result) {
  return json_of(result).at("timings").at("prompt_tokens").get<int>();
}

void expect_refused(const RunResult& result, const std::string& word) {
  EXPECT_EQ(result.exit_code, 1) << word << result.err;
  EXPECT_EQ(result.out, "") << word;
  EXPECT_THAT(result.err, AllOf(testing::StartsWith("glimpse: "), HasSubstr(word)));
}

TEST(Prompt, FilesAreTheTextInThem) {
  const ScratchDir dir;
  const int typed = prompt_tokens(run({"-p", "What is this?\nA cat?"}));
  for (const std::string& saved :
       {"What is this?\nA cat?"s, "What is this?\nA cat?\n"s, "\xEF\xBB\xBFWhat is this?\r\nA cat?\r\n"s}) {
    EXPECT_EQ(prompt_tokens(run({"-f", dir.write("q.txt", saved)})), typed) << testing::PrintToString(saved);
    EXPECT_EQ(prompt_tokens(run({"-f", "-"}, saved)), typed) << testing::PrintToString(saved);
  }
  EXPECT_EQ(prompt_tokens(run({"-f", dir.write("q.txt", "What is this?\nA cat?\n\n")})), typed + 1);
}

TEST(Prompt, FilesThatAreNoTextAreRefused) {
  const ScratchDir dir;
  expect_refused(run({"-f", dir.write("nul.txt", "What is\0 this?"s)}), "nul.txt has a zero byte at byte 7");
  expect_refused(run({"-f", dir.write("utf16.txt", "\xFF\xFEh\0i\0"s)}), "utf16.txt is UTF-16 text");
  expect_refused(run({"-f", dir.write("latin.txt",
                                      "\xEF\xBB\xBF"
                                      "caf\xe9")}),
                 "latin.txt is not valid UTF-8 at byte 6");
  expect_refused(run({"-f", "-"}, "a\0b"s), "standard input has a zero byte at byte 1");
  expect_refused(run({"-f", "/dev/zero"}), "/dev/zero has a zero byte at byte 0");
}

TEST(Prompt, OffsetsCountWhatWasTyped) {
  expect_refused(run({"-p", "abc\xff"}), "byte 3 (0xff)");
  expect_refused(run({"-p", "abc", "--system", "b\xff"}), "the system's text is not valid UTF-8 at byte 1");
  expect_refused(run(with_pictures({"-p", "a <image> b\xff"})), "byte 11 (0xff)");
}

TEST(Prompt, ComesFromStandardInputWhenNoneIsGiven) {
  const int typed = prompt_tokens(run({"-p", "What is this?"}));
  EXPECT_EQ(prompt_tokens(run({}, "What is this?\n")), typed);
  EXPECT_EQ(prompt_tokens(run({"-p", "-"}, "What is this?\n")), typed);
  EXPECT_EQ(prompt_tokens(run({"-"}, "What is this?\n")), typed);
  expect_refused(run({}, ""), "there is no question");
  expect_refused(run({"-p", "-"}, "\n"), "there is no question");
  EXPECT_EQ(run({"-p", "one", "-f", "two"}).exit_code, 2) << "two questions";
}

TEST(Prompt, PicturesStandAtTheirMarkers) {
  const auto tokens = [](const std::vector<std::string>& more) { return json_of(run(with_pictures(more))); };
  const json first = tokens({"-p", "What is this?"}), marked = tokens({"-p", "<image>What is this?"});
  EXPECT_EQ(first["tokens"], marked["tokens"]);
  EXPECT_EQ(first["timings"]["prompt_tokens"], marked["timings"]["prompt_tokens"]);
  const json twice = tokens({"--image", kPicture, "-p", "<image><__media__>What is this?"});
  EXPECT_EQ(twice["images"].size(), 2u);
  const int one = first["images"][0]["tokens"].get<int>() + 2;
  EXPECT_EQ(twice["timings"]["prompt_tokens"].get<int>(), first["timings"]["prompt_tokens"].get<int>() + one);
  expect_refused(run(with_pictures({"-p", "<image> and <image>"})), "2 places for a picture");
  // Without pictures the same letters are text.
  EXPECT_GT(prompt_tokens(run({"-p", "<image>"})), prompt_tokens(run({"-p", "x"})));
}

// Where a picture stands changes what the model sees.
TEST(Prompt, OrderMatters) {
  const auto logprobs = [](const std::string& prompt) {
    return json_of(run(with_pictures({"-p", prompt, "--logprobs", "4"}))).at("logprobs").dump();
  };
  EXPECT_EQ(logprobs("7 <image> 8"), logprobs("7 <__media__> 8"));
  EXPECT_NE(logprobs("7 <image> 8"), logprobs("7  8<image>"));
}

TEST(Prompt, RawHasNoTemplate) {
  EXPECT_EQ(prompt_tokens(run({"--raw", "-p", "7"})), 1);
  EXPECT_EQ(prompt_tokens(run({"--raw", "-p", "<|im_start|>7"})), 2);
  const auto logprobs = [](const std::vector<std::string>& more) {
    return json_of(run(with_pictures(more))).at("logprobs").dump();
  };
  const std::string chat = logprobs({"--system", "be brief", "-p", "<image>What?", "--logprobs", "4"});
  for (const char* place : {"<image>", "<__media__>", "<|vision_start|><|image_pad|><|vision_end|>"}) {
    const std::string written = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n" + std::string(place) +
                                "What?<|im_end|>\n<|im_start|>assistant\n";
    EXPECT_EQ(logprobs({"--raw", "-p", written, "--logprobs", "4"}), chat) << place;
  }
  expect_refused(run({"--raw", "-p", "a <|image_pad|>"}), "<|image_pad|>");
  EXPECT_EQ(run({"--raw", "--system", "x", "-p", "a"}).exit_code, 2);
}

}  // namespace
}  // namespace glimpse::cli_test
