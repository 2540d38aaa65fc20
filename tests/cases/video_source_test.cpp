// Where frames come from: folders, animations, and films through programs that may be missing, silent or lying.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/base/scratch_dir.h"
#include "tools/video/request_video.h"
#include "tools/video/source.h"

namespace glimpse::video {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class VideoSource : public FolderTest {
 protected:
  std::string write(const std::string& name, const std::string& bytes) const { return scratch_.write(name, bytes); }
  // A program: what it does, for sh.
  std::string program(const std::string& name, const std::string& does) const {
    const std::string path = write(name, "#!/bin/sh\n" + does + "\n");
    ::chmod(path.c_str(), 0755);
    return path;
  }
  // 2 x 1 pixels, all of this value.
  static std::string ppm(char value) { return "P6\n2 1\n255\n" + std::string(6, value); }
  Options with(const std::string& probe, const std::string& film) const {
    Options options;
    options.ffprobe = program("ffprobe", probe);
    options.ffmpeg = program("ffmpeg", film);
    options.patience.idle_seconds = 20;
    return options;
  }
  static std::string error_of(const Status& status) { return status.ok() ? "" : status.error().message; }
  template <typename T>
  static std::string error_of(const Result<T>& result) {
    return result.ok() ? "" : result.error().message;
  }
};

constexpr const char* kProbe = "printf 'avg_frame_rate=30000/1001\nnb_read_packets=5\n'";

TEST_F(VideoSource, FolderGivesItsPicturesInTheOrderOfTheirNumbers) {
  for (const char* name : {"frame 10.png", "frame 9.PNG", "frame 011.jpg", "notes.txt", ".hidden.png", "a.webp"})
    write(name, "");
  const auto names = pictures_in(folder_.string());
  ASSERT_TRUE(names.ok());
  std::vector<std::string> found;
  for (const std::string& name : names.value()) found.push_back(std::filesystem::path(name).filename().string());
  EXPECT_THAT(found, ElementsAre("a.webp", "frame 9.PNG", "frame 10.png", "frame 011.jpg"));
  const auto source = open_source(folder_.string(), {});
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source.value()->n_frames(), 4);
  EXPECT_EQ(source.value()->fps(), 0);
  EXPECT_TRUE(source.value()->select({1, 3}).ok());
  EXPECT_THAT(source.value()->next().value().path, HasSubstr("frame 9.PNG"));
  EXPECT_THAT(source.value()->next().value().path, HasSubstr("frame 011.jpg"));
}

TEST_F(VideoSource, SaysWhatIsNoVideo) {
  EXPECT_THAT(error_of(open_source((folder_ / "absent.mp4").string(), {})), HasSubstr("no file or folder"));
  EXPECT_THAT(error_of(open_source(folder_.string(), {})), HasSubstr("no picture in the folder"));
  EXPECT_THAT(error_of(open_source("/dev/null", {})), HasSubstr("neither"));
}

TEST_F(VideoSource, AnimationsAreReadHere) {
  const auto source = open_source(GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif", {});
  if (!source.ok() && source.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << source.error().message;
  ASSERT_TRUE(source.ok()) << source.error().message;
  EXPECT_EQ(source.value()->n_frames(), 4);
  EXPECT_NEAR(source.value()->fps(), 4 / 0.45, 1e-9);
  const auto all = load_image(GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif.png", {});
  EXPECT_TRUE(source.value()->select({2}).ok());
  const auto frame = source.value()->next();
  ASSERT_TRUE(frame.ok() && all.ok());
  const size_t n = frame.value().image.pixels.size();
  EXPECT_TRUE(std::equal(frame.value().image.pixels.begin(), frame.value().image.pixels.end(),
                         all.value().pixels.begin() + static_cast<ptrdiff_t>(2 * n)));
}

TEST_F(VideoSource, FilmsComeThroughFfmpeg) {
  const std::string frames = write("frames", ppm('a') + ppm('b'));
  const Options options = with(std::string("echo \"$@\" > '") + (folder_ / "probe-arguments").string() + "'; " + kProbe,
                               "echo \"$@\" > '" + (folder_ / "arguments").string() + "'; cat '" + frames + "'");
  const std::string film = write("-y; touch x; .mp4", "not looked at");
  const auto source = open_source(film, options);
  ASSERT_TRUE(source.ok()) << source.error().message;
  EXPECT_EQ(source.value()->n_frames(), 5);
  EXPECT_NEAR(source.value()->fps(), 29.97, 0.001);
  EXPECT_EQ(error_of(source.value()->select({0, 4})), "");
  const auto a = source.value()->next(), b = source.value()->next();
  ASSERT_TRUE(a.ok() && b.ok()) << error_of(a) << error_of(b);
  EXPECT_EQ(a.value().image.width, 2);
  EXPECT_EQ(a.value().image.pixels, std::vector<uint8_t>(6, 'a'));
  EXPECT_EQ(b.value().image.pixels, std::vector<uint8_t>(6, 'b'));
  std::ifstream in(folder_ / "arguments");
  const std::string arguments((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(arguments, HasSubstr("-i file:" + film));
  EXPECT_THAT(arguments, HasSubstr("select=eq(n\\,0)+eq(n\\,4)"));
  EXPECT_THAT(arguments, HasSubstr("-protocol_whitelist file,pipe"));
}

TEST_F(VideoSource, MissingProgramsAreNamed) {
  Options options = with(kProbe, "true");
  const std::string film = write("film.mp4", "x");
  options.ffprobe = (folder_ / "no-ffprobe").string();
  const auto source = open_source(film, options);
  EXPECT_EQ(source.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(error_of(source), testing::AllOf(HasSubstr("no-ffprobe"), HasSubstr("apt install ffmpeg"),
                                               HasSubstr("a folder of frames")));
}

TEST_F(VideoSource, WhatProgramsSayIsNotTakenOnTrust) {
  const std::string film = write("film.mp4", "x");
  EXPECT_THAT(error_of(open_source(film, with("echo 'moov atom not found' >&2; exit 1", "true"))),
              testing::AllOf(HasSubstr("film.mp4"), HasSubstr("moov atom not found")));
  for (const char* probe :
       {"true", "echo avg_frame_rate=0/0; echo nb_read_packets=5", "echo nb_read_packets=-3; echo avg_frame_rate=25",
        "echo avg_frame_rate=1e9; echo nb_read_packets=5", "yes | head -c 1000000; exit 0"}) {
    EXPECT_NE(error_of(open_source(film, with(probe, "true"))), "") << probe;
  }
  const auto first = [&](const std::string& does) {
    const auto source = open_source(film, with(kProbe, does));
    EXPECT_TRUE(source.ok()) << error_of(source);
    if (!source.ok()) return std::string("not opened");
    EXPECT_EQ(error_of(source.value()->select({0, 1, 2, 3})), "");
    return error_of(source.value()->next());
  };
  const std::pair<const char*, const char*> cases[] = {
      {"true", "0 frames came of 4"},
      {"echo 'no decoder' >&2; exit 3", "no decoder"},
      {"echo hello there", "something else than frames"},
      {"printf 'P6\n99999999 1\n255\n'", "something else"},
      {"printf 'P6\n60000 60000\n255\n'; cat /dev/zero", "outside the limits"},
      {"printf 'P6\n0 4\n255\n'", "outside the limits"},
      {"printf 'P6\n20 20\n255\nabc'", "within a frame"},
  };
  for (const auto& [does, words] : cases) EXPECT_THAT(first(does), HasSubstr(words)) << does;
}

TEST_F(VideoSource, FramesThatWereCountedButDoNotComeAreTheLastOnes) {
  const std::string film = write("film.mp4", "x");
  const std::string frames = write("frames", ppm('a') + ppm('b'));
  const auto source = open_source(film, with(kProbe, "cat '" + frames + "'"));
  ASSERT_TRUE(source.ok());
  EXPECT_TRUE(source.value()->select({0, 1, 2, 3}).ok());
  for (const char want : {'a', 'b', 'b', 'b'}) {
    const auto frame = source.value()->next();
    ASSERT_TRUE(frame.ok()) << error_of(frame);
    EXPECT_EQ(frame.value().image.pixels[0], want);
  }
}

TEST_F(VideoSource, SilentProgramsAreEndedAndSoAreThoseThatAreCancelled) {
  const std::string film = write("film.mp4", "x");
  Options options = with(kProbe, "sleep 100");
  const auto begin = std::chrono::steady_clock::now();
  auto source = open_source(film, options);
  ASSERT_TRUE(source.ok());
  options.patience.idle_seconds = 0.2;
  source = open_source(film, options);
  ASSERT_TRUE(source.ok()) << error_of(source);
  EXPECT_TRUE(source.value()->select({0}).ok());
  EXPECT_THAT(error_of(source.value()->next()), HasSubstr("gave nothing for"));
  volatile int cancel = 1;
  options.patience.cancel = &cancel;
  const auto cancelled = open_source(film, options);
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  source.value().reset();
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 30);
}

// The real programs, where they are installed: what ffmpeg wrote without loss it reads without loss.
TEST_F(VideoSource, RealFfmpegGivesTheFramesThatItWasGiven) {
  const auto none = Program::start("ffmpeg", {"-version"}, {});
  if (!none.ok()) GTEST_SKIP() << none.error().message;
  for (int i = 0; i < 6; ++i) {
    std::string pixels;
    for (int k = 0; k < 16 * 8 * 3; ++k) pixels += static_cast<char>(k * (i + 1));
    write(format("in%d.ppm", i), "P6\n16 8\n255\n" + pixels);
  }
  const std::string film = (folder_ / "film.mkv").string();
  auto made = Program::start("ffmpeg",
                             {"-nostdin", "-v", "error", "-framerate", "5", "-i", (folder_ / "in%d.ppm").string(),
                              "-c:v", "ffv1", "-pix_fmt", "bgr0", film},
                             {});
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(error_of(made.value()->finish()), "");
  const auto source = open_source(film, {});
  ASSERT_TRUE(source.ok()) << error_of(source);
  EXPECT_EQ(source.value()->n_frames(), 6);
  EXPECT_NEAR(source.value()->fps(), 5, 1e-6);
  EXPECT_TRUE(source.value()->select({0, 2, 5}).ok());
  for (const int i : {0, 2, 5}) {
    const auto frame = source.value()->next();
    ASSERT_TRUE(frame.ok()) << error_of(frame);
    const auto want = load_image((folder_ / (format("in%d.ppm", i))).string(), {});
    EXPECT_EQ(frame.value().image.pixels, want.value().pixels) << i;
  }
  EXPECT_NE(error_of(open_source(write("broken.mp4", "no film"), {})), "");
}

TEST(MemoryFile, SaysWhyThereIsNone) {
  const auto file = MemoryFile::of("film");
  ASSERT_TRUE(file.ok());
  std::ifstream in(file.value().path());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "film");
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit none = {0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto refused = MemoryFile::of("film"), refused_empty = MemoryFile::of("");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("Too many open files"));
  EXPECT_FALSE(refused_empty.ok());
}

}  // namespace
}  // namespace glimpse::video
