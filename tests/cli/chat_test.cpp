// glimpse chat with the demo model: scripts, a terminal, and what happens to each command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "tests/cli/dialogue.h"
#include "tests/cli/process.h"
#include "tools/chat/dropped_paths.h"

namespace glimpse::cli_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kModels = GLIMPSE_SOURCE_DIR "/models/";
const std::string kPicture = kModels + "sample.png";

std::vector<std::string> chat(std::vector<std::string> more = {}) {
  std::vector<std::string> all = {
      "chat", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "-t", "1"};
  if (std::find(more.begin(), more.end(), "-n") == more.end()) more.insert(more.begin(), {"-n", "32"});
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
RunResult script(const std::string& lines, std::vector<std::string> more = {}) {
  RunSetup setup;
  setup.input = lines;
  return run_glimpse(chat(std::move(more)), setup);
}

TEST(ChatPaths, AreReadAsAShellWould) {
  const auto known = [](const std::string& path) { return path == "/a b.png" || path == "c.png"; };
  const auto take = [&](const char* line) { return chat::take_dropped_paths(line, known); };
  for (const char* line :
       {"'/a b.png' what?", "\"/a b.png\" what?", "/a\\ b.png what?", "what? '/a b.png' ", "file:///a%20b.png what?"}) {
    const chat::Dropped dropped = take(line);
    EXPECT_THAT(dropped.paths, ElementsAre("/a b.png")) << line;
    EXPECT_EQ(dropped.text, "what?") << line;
  }
  EXPECT_THAT(take("c.png '/a b.png'").paths, ElementsAre("c.png", "/a b.png"));
  EXPECT_EQ(take("c.png '/a b.png'").text, "");
  EXPECT_EQ(take("from c.png to here").text, "from to here");
  for (const char* line : {"what's in it?", "  two  blanks ", "d.png", "'c.png", "a\\", "c.png?", "\"", "\\"}) {
    EXPECT_THAT(take(line).paths, ElementsAre()) << line;
    EXPECT_EQ(take(line).text, line);
  }
  EXPECT_THAT(chat::shell_words("a 'b c' d\\ e \"f\\\"g\""), ElementsAre("a", "b c", "d e", "f\"g"));
}

// A turn says what the whole conversation in one go says: as the example program does it.
TEST(Chat, AScriptIsAnsweredLineByLine) {
  const RunResult first =
      run_glimpse({"run", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "--image",
                   kPicture, "-n", "32", "Describe this image."});
  for (const std::string& lines : std::vector<std::string>{
           "/image " + kPicture + "\nDescribe this image.\n", "Describe this image. '" + kPicture + "'\n",
           kPicture + "\n\nDescribe this image.", "Describe \\\nthis image.\n"}) {
    const bool two_lines = lines.find('\\') != std::string::npos;
    const RunResult result =
        script(lines, two_lines ? std::vector<std::string>{"--image", kPicture} : std::vector<std::string>{});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("picture 1: " + kPicture + ", 224x168"));
    if (two_lines) continue;
    EXPECT_EQ(result.out, first.out) << lines;
  }
}

TEST(Chat, UndoRegenClearSaveAndLoadComeToTheSameAnswers) {
  const ScratchDir dir;
  const std::string shown = "/image " + kPicture + "\nDescribe this image.\n";
  const std::string second = "What colour is the heart?\n", third = "How many squares are there?\n";
  const std::string one = script(shown).out, two = script(shown + second).out, three = script(shown + third).out;
  ASSERT_GT(two.size(), one.size());
  const std::string second_said = two.substr(one.size()), third_said = three.substr(one.size());
  EXPECT_EQ(script(shown + second + "/undo\n" + third).out, two + third_said);
  EXPECT_EQ(script(shown + second + "/regen\n/regen\n").out, two + second_said + second_said);
  EXPECT_EQ(script(shown + "/undo\n" + shown + second).out, one + two);
  EXPECT_EQ(script(shown + second + "/clear\n" + shown + third).out, two + three);
  const std::string file = dir.file("kept");
  EXPECT_EQ(script(shown + "/save " + file + "\n" + second).out, two);
  EXPECT_EQ(script("Hello\n/load " + file + "\n" + third).out, script("Hello\n").out + third_said);
  const RunResult again = script(shown + "/save " + file + "\n");
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("exists already"));
  // With a temperature another seed, another answer: of ten some differ.
  std::string many = shown;
  for (int i = 0; i < 10; ++i) many += "/regen\n";
  const RunResult drawn = script(many, {"--temp", "2"});
  EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
  EXPECT_EQ(drawn.out, script(many, {"--temp", "2"}).out);
  EXPECT_NE(drawn.out.substr(0, drawn.out.find('\n')),
            drawn.out.substr(drawn.out.rfind('\n', drawn.out.size() - 2) + 1));
}

TEST(Chat, ManyTurnsAreTakenBackAsFarAsTheyAreKept) {
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += "Say " + std::to_string(i) + "\n";
  const std::string all = script(lines).out;
  std::string undo = lines;
  for (int i = 0; i < 8; ++i) undo += "/undo\n";
  const RunResult result = script(undo + lines.substr(lines.find("Say 4\n")));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::string from_4 = all.substr(script(lines.substr(0, lines.find("Say 4\n"))).out.size());
  EXPECT_EQ(result.out, all + from_4);
  const RunResult more = script(undo + "/undo\n");
  EXPECT_EQ(more.exit_code, 1);
  EXPECT_THAT(more.err, HasSubstr("no turn to take back"));
}

TEST(Chat, WhatIsWrongIsSaidAndTheScriptGoesOn) {
  const std::pair<const char*, const char*> lines[] = {{"/imgae x.png", "did you mean /image?"},
                                                       {"/image /nowhere/x.png", "/nowhere/x.png"},
                                                       {"/image", "/image PATH"},
                                                       {"/undo", "no turn to take back"},
                                                       {"/undo 2", "takes nothing behind it"},
                                                       {"/regen", "no question"},
                                                       {"/save x", "nothing to save"},
                                                       {"/load /nowhere/x", "/nowhere/x"},
                                                       {"/boxes x.png", "no picture"},
                                                       {"/frobnicate", "/help lists them"}};
  const std::string hello = script("Hello\n").out;
  for (const auto& [line, text] : lines) {
    const RunResult result = script(std::string(line) + "\nHello\n");
    EXPECT_EQ(result.exit_code, 1) << line;
    EXPECT_THAT(result.err, HasSubstr(text)) << line;
    EXPECT_EQ(result.out, hello) << line;
  }
  EXPECT_EQ(script("/image " + kPicture + "\n<image> and <image>\n").exit_code, 1);
  EXPECT_EQ(script(" /undo is a command\n").exit_code, 0);
  EXPECT_EQ(script("Hello\n/quit\nHello\n").out, hello);
  // Too long for the context: as before, and the next question is answered.
  const RunResult full = script("Hello\n" + std::string(6000, 'x') + "\n/undo\nHello\n", {"-c", "256"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_EQ(full.out, hello + hello);
}

TEST(Chat, EveryAnswerIsAsItWasConstrained) {
  const RunResult result = script("Hello\nWhat?\n", {"--choice", "yes", "--choice", "no"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, testing::MatchesRegex("(yes|no)\n(yes|no)\n"));
}

TEST(Chat, SystemPromptsStatsAndBoxes) {
  const ScratchDir dir;
  const std::string plain = script("Hello\n").out, brief = script("Hello\n", {"--system", "Be brief."}).out;
  EXPECT_EQ(script("Hello\n/system Be brief.\nHello\n").out, plain + brief);
  EXPECT_THAT(script("/system\n", {"--system", "Be brief."}).err, HasSubstr("system prompt: Be brief."));
  const std::string png = dir.file("out.png");
  const RunResult result = script("/image " + kPicture + "\nDetect the heart.\n/boxes " + png + "\n/stats\n");
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  EXPECT_THAT(result.err, HasSubstr("1 box drawn: " + png));
  EXPECT_THAT(read_all(png), testing::StartsWith("\x89PNG"));
  EXPECT_THAT(result.err, testing::ContainsRegex("context +[0-9]+ of [0-9]+ tokens"));
  EXPECT_THAT(result.err, testing::ContainsRegex("prompt +[0-9]+ tokens"));
}

TEST(Chat, AVideoIsSeenAsRunSeesIt) {
  const std::string gif = GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif";
  const RunResult one =
      run_glimpse({"run", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "--video",
                   gif, "--image", kPicture, "-n", "32", "Compare <image> and <video>."});
  if (one.err.find("no GIF") != std::string::npos) GTEST_SKIP() << one.err;
  const std::string question = "Compare <image> and <video>.\n";
  const RunResult result = script("/video " + gif + "\n/image " + kPicture + "\n" + question);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("4 of 4 frames"));
  EXPECT_EQ(result.out, one.out);
  EXPECT_EQ(script(question, {"--video", gif, "--image", kPicture}).out, one.out);
  const RunResult wrong = script("/video\n/video /nowhere/film.mp4\n/video " + gif + "\nWhat?\n/boxes x.png\n");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("/video PATH"));
  EXPECT_THAT(wrong.err, HasSubstr("no file or folder /nowhere/film.mp4"));
  EXPECT_THAT(wrong.err, HasSubstr("this conversation has a video"));
}

TEST(Chat, ATerminalHasAPromptAndHistory) {
  if (!GLIMPSE_HAS_LIBEDIT) GTEST_SKIP() << "built without libedit";
  const ScratchDir dir;
  const std::string history = dir.file("history");
  {
    Dialogue talk(chat({"--history", history}), Dialogue::Over::kTerminal, {"TERM=xterm"});
    EXPECT_TRUE(talk.hears("> ")) << talk.said();
    talk.send("/image " + kPicture + "\r");
    EXPECT_TRUE(talk.hears("picture 1: ")) << talk.said();
    talk.send("Describe this image.\r");
    EXPECT_TRUE(talk.hears("An orange ring")) << talk.said();
    talk.send("/quit\r");
    EXPECT_EQ(talk.finish(), 0) << talk.said();
  }
  EXPECT_EQ(std::filesystem::status(history).permissions(), std::filesystem::perms(0600));
  Dialogue talk(chat({"--history", history}), Dialogue::Over::kTerminal, {"TERM=xterm"});
  EXPECT_TRUE(talk.hears("> "));
  talk.send("\x1b[A\x1b[A");  // up, up: the line before /quit
  EXPECT_TRUE(talk.hears("Describe this")) << talk.said();
  talk.send("\x03");  // it is dropped
  EXPECT_TRUE(talk.hears("\n> ")) << talk.said();
  talk.send("\x04");
  EXPECT_EQ(talk.finish(), 0) << talk.said();
}

// The terminal itself takes it then, and hands it on as a zero.
TEST(Chat, CtrlDAlsoCountsWhileAnAnswerIsMade) {
  if (!GLIMPSE_HAS_LIBEDIT) GTEST_SKIP() << "built without libedit";
  Dialogue talk(chat({"--logit-bias", "1+100", "-n", "200"}), Dialogue::Over::kTerminal, {"TERM=xterm"});
  EXPECT_TRUE(talk.hears("> "));
  talk.send("Go on\r");
  EXPECT_TRUE(talk.hears("\"\"\"\"")) << talk.said();
  talk.send("\x04");
  EXPECT_EQ(talk.finish(), 0) << talk.said();
}

// On the oracle, whose answer takes long enough to be stopped.
TEST(Chat, CtrlCStopsTheAnswerAndNotTheProgram) {
  Dialogue talk(chat({"--logit-bias", "1+100", "-n", "-1", "--reference"}), Dialogue::Over::kTerminal, {"TERM=xterm"});
  EXPECT_TRUE(talk.hears("> "));
  talk.send("Go on for ever\r");
  EXPECT_TRUE(talk.hears("\"\"\"\"")) << talk.said();
  talk.send("\x03");
  EXPECT_TRUE(talk.hears("stopped")) << talk.said();
  EXPECT_TRUE(talk.hears("> ")) << talk.said();
  talk.send("/stats\r");
  EXPECT_TRUE(talk.hears("context")) << talk.said();
  kill(talk.pid(), SIGTERM);
  EXPECT_EQ(talk.finish(), 128 + SIGTERM) << talk.said();
  // From a pipe nobody could say how to go on: it ends.
  Dialogue pipe(chat({"--logit-bias", "1+100", "-n", "-1", "--reference"}), Dialogue::Over::kPipes);
  pipe.send("Go on for ever\nHello\n");
  EXPECT_TRUE(pipe.hears("\"\"\"\"")) << pipe.said();
  kill(pipe.pid(), SIGINT);
  EXPECT_EQ(pipe.finish(), 130) << pipe.said();
}

}  // namespace
}  // namespace glimpse::cli_test
