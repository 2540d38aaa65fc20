// glimpse run --video and --frame: what is asked about, and what is said when it cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "loaders/image/encode.h"
#include "loaders/image/image.h"
#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

RunResult run(std::vector<std::string> more, const RunSetup& setup = {}) {
  std::vector<std::string> arguments = {
      "run", "-m", golden("qwen3vl/model.gguf"), "--mmproj", golden("qwen3vl/mmproj.gguf"), "-c", "512", "-n", "4",
      "-t",  "1",  "--video-min-pixels",         "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments, setup);
}

class Video : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 5; ++i) {
      Image image{48, 32, std::vector<uint8_t>(48 * 32 * 3)};
      for (size_t k = 0; k < image.pixels.size(); ++k)
        image.pixels[k] = static_cast<uint8_t>(k * static_cast<size_t>(i + 3));
      const auto png = encode_png(image);
      ASSERT_TRUE(png.ok());
      paths_.push_back(scratch_.write("frame" + std::to_string(i + 8) + ".png",
                                      {reinterpret_cast<const char*>(png.value().data()), png.value().size()}));
    }
  }
  ScratchDir scratch_;
  std::vector<std::string> paths_;
};

TEST_F(Video, FolderAndFramesByNameAreTheSame) {
  const RunResult folder = run({"--video", scratch_.path(), "--json", "what is this"});
  ASSERT_EQ(folder.exit_code, 0) << folder.err;
  std::vector<std::string> in_order;
  for (const std::string& path : paths_) in_order.insert(in_order.end(), {"--frame", path});
  in_order.insert(in_order.end(), {"--json", "what is this"});
  const RunResult frames = run(in_order);
  ASSERT_EQ(frames.exit_code, 0) << frames.err;
  const json a = json::parse(folder.out), b = json::parse(frames.out);
  EXPECT_EQ(a.at("tokens"), b.at("tokens"));
  const json& video = a.at("videos").at(0);
  EXPECT_EQ(video.at("path"), scratch_.path());
  EXPECT_EQ(video.at("frames"), 5);
  EXPECT_EQ(video.at("frames_seen"), 5);
  EXPECT_EQ(video.at("width"), 48);
  EXPECT_EQ(video.at("resized_height"), 32);
  EXPECT_EQ(video.at("tokens"), 3 * 6);
}

TEST_F(Video, RateAndLimitsDecideWhatIsSeen) {
  const auto seen = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--video", scratch_.path(), "--json", "<video>?"});
    const RunResult result = run(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out).at("videos").at(0);
  };
  EXPECT_EQ(seen({"--frame-rate", "5"}).at("frames_seen"), 4) << "at least";
  EXPECT_EQ(seen({"--frame-rate", "5", "--min-frames", "2"}).at("frames_seen"), 2);
  EXPECT_EQ(seen({"--frame-rate", "2", "--max-frames", "4"}).at("frames_seen"), 4);
  EXPECT_EQ(seen({"--frame-rate", "2"}).at("frames_seen"), 5);
  EXPECT_LE(seen({"--video-max-tokens", "6"}).at("tokens"), 6);
}

TEST_F(Video, AnimationIsAVideo) {
  const RunResult result = run({"--video", GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif", "--json", "what"});
  if (result.exit_code != 0 && result.err.find("no GIF") != std::string::npos) GTEST_SKIP() << result.err;
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json video = json::parse(result.out).at("videos").at(0);
  EXPECT_EQ(video.at("frames"), 4);
  EXPECT_NEAR(video.at("fps").get<double>(), 4 / 0.45, 1e-9);
}

// A playlist is no film, whatever its name: it would be a way to the other files of a machine that is sent it.
TEST_F(Video, AFilmNamesNoOtherFiles) {
  const std::string film = scratch_.file("film.ts");
  const std::string make =
      "ffmpeg -v error -nostdin -f lavfi -i testsrc=size=48x32:rate=4:duration=1 -y '" + film + "'";
  if (std::system(make.c_str()) != 0) GTEST_SKIP() << "there is no ffmpeg here";
  const RunResult seen = run({"--video", film, "--json", "what"});
  ASSERT_EQ(seen.exit_code, 0) << seen.err;
  EXPECT_EQ(json::parse(seen.out).at("videos").at(0).at("frames"), 4);
  const std::string lists[] = {
      "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nfile://" + film + "\n#EXT-X-ENDLIST\n",
      "ffconcat version 1.0\nfile film.ts\n",
      R"(<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
      profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation
      id="1" bandwidth="1" width="48" height="32"><BaseURL>file://)" +
          film + R"(</BaseURL><SegmentList><SegmentURL media="file://)" + film +
          R"("/></SegmentList></Representation></AdaptationSet></Period></MPD>)"};
  for (const std::string& list : lists) {
    const RunResult refused = run({"--video", scratch_.write("list.mp4", list), "what"});
    EXPECT_EQ(refused.exit_code, 1) << list;
    EXPECT_EQ(refused.out, "");
  }
}

TEST_F(Video, WhatIsWrongIsSaid) {
  const auto fails = [](const RunResult& result, const std::string& text) {
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(text));
  };
  fails(run({"--video", scratch_.file("none.mp4"), "what"}), "no file or folder");
  fails(run({"--video", scratch_.path(), "<video><video>"}), "2 places for a video");
  fails(run({"--video", scratch_.path(), "--fps", "0", "--frame-rate", "1", "what"}), "frames per second");
  scratch_.write("frame99.png", "no picture");
  fails(run({"--video", scratch_.path(), "what"}), "frame 6 of 6");
  fails(run_glimpse({"run", "-m", golden("qwen3vl/model.gguf"), "--video", scratch_.path(), "what"}), "--mmproj");
  std::vector<std::string> small = {"run",
                                    "-m",
                                    golden("qwen3vl/model.gguf"),
                                    "--mmproj",
                                    golden("qwen3vl/mmproj.gguf"),
                                    "-c",
                                    "16",
                                    "-t",
                                    "1",
                                    "--video-min-pixels",
                                    "1",
                                    "what"};
  for (const std::string& path : paths_) small.insert(small.end(), {"--frame", path});
  fails(run_glimpse(small), "the context holds 16");
  fails(run({"--video", paths_[0], "what"}), "is a picture, not a video");
  RunSetup nowhere;
  nowhere.environment = {"PATH=" + scratch_.path()};
  fails(run({"--video", scratch_.write("film.mp4", "x"), "what"}, nowhere), "films are read through ffmpeg");
}

}  // namespace
}  // namespace glimpse::cli_test
