// glimpse run --boxes: what is written, and when nothing is. The golden model's answers hold no boxes; what drawing
// does with boxes is in tests/cases, and the demo model's own are in demo_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loaders/image/image.h"
#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

RunResult run(std::vector<std::string> more, const RunSetup& setup = {}) {
  std::vector<std::string> arguments = {
      "run", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "-c", "512", "-n",
      "3",   "-p", "what is this picture"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments, setup);
}

TEST(Boxes, PictureWithoutBoxesIsWrittenUnchanged) {
  ScratchDir scratch;
  const RunResult result = run({"--image", kPicture, "--boxes", scratch.file("out.png")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("0 boxes"));
  const auto before = load_image(kPicture, {}), after = load_image(scratch.file("out.png"), {});
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(after.value().width, before.value().width);
  EXPECT_EQ(after.value().pixels, before.value().pixels);
  EXPECT_EQ(scratch.list(), std::vector<std::string>{"out.png"});
}

TEST(Boxes, JsonListsThem) {
  const RunResult result = run({"--image", kPicture, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("boxes"), nlohmann::json::array());
}

TEST(Boxes, ExistingFileIsRefusedBeforeTheModelIsAsked) {
  ScratchDir scratch;
  scratch.write("out.png", "mine");
  const RunResult result = run({"--image", kPicture, "--boxes", scratch.file("out.png")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("--force"));
  EXPECT_EQ(read_all(scratch.file("out.png")), "mine");
  EXPECT_EQ(run({"--image", kPicture, "--boxes", scratch.file("out.png"), "--force"}).exit_code, 0);
  EXPECT_NE(read_all(scratch.file("out.png")), "mine");
}

TEST(Boxes, NeedsAPicture) {
  ScratchDir scratch;
  const RunResult result = run({"--boxes", scratch.file("out.png")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("needs an --image"));
  EXPECT_TRUE(scratch.list().empty());
}

TEST(Boxes, SeveralPicturesGetAFileEach) {
  ScratchDir scratch;
  const std::vector<std::string> arguments = {"--image", kPicture,  "--image",
                                              kPicture,  "--boxes", scratch.file("out.png")};
  const RunResult result = run(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(scratch.list(), (std::vector<std::string>{"out-1.png", "out-2.png"}));
  EXPECT_THAT(result.err, testing::AllOf(HasSubstr("out-1.png"), HasSubstr("out-2.png")));
  const RunResult again = run(arguments);
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("out-1.png exists already"));
}

TEST(Masks, DirectoryIsMadeAndOldOnesAreKept) {
  ScratchDir scratch;
  const std::vector<std::string> arguments = {"--image", kPicture, "--masks", scratch.file("masks")};
  const RunResult result = run(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("0 masks"));
  EXPECT_EQ(scratch.list(), std::vector<std::string>{"masks"});
  scratch.write("masks/mask-1-1.png", "mine");
  const RunResult again = run(arguments);
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_EQ(again.out, "");
  EXPECT_THAT(again.err, testing::AllOf(HasSubstr("mask-1-1.png"), HasSubstr("--force")));
  EXPECT_EQ(run({"--image", kPicture, "--masks", scratch.file("masks"), "--force"}).exit_code, 0);
  EXPECT_THAT(run({"--image", kPicture, "--masks", scratch.file("masks/mask-1-1.png")}).err, HasSubstr("no directory"));
  EXPECT_THAT(run({"--masks", scratch.file("other")}).err, HasSubstr("needs an --image"));
}

TEST(Boxes, FailedWriteLeavesNothingBehind) {
  ScratchDir scratch;
  RunSetup full;
  full.file_size_limit = 16;  // as a full disk would
  const RunResult result = run({"--image", kPicture, "--boxes", scratch.file("out.png")}, full);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("out.png: "));  // by the name that was given
  EXPECT_TRUE(scratch.list().empty());
  for (const char* const option : {"--boxes", "--masks"}) {
    const RunResult nowhere = run({"--image", kPicture, option, scratch.file("no/such/out.png")});
    EXPECT_EQ(nowhere.exit_code, 1);
    EXPECT_EQ(nowhere.out, "");  // before the model is asked
    EXPECT_THAT(nowhere.err, HasSubstr("there is no folder " + scratch.file("no/such")));
  }
}

}  // namespace
}  // namespace glimpse::cli_test
