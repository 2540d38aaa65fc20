// Videos in requests: what the server says of them is what `glimpse run --video` says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "engine/base/format.h"
#include "tests/serve/server_process.h"

namespace glimpse::serve_test {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

const char* const kChat = "/v1/chat/completions";

class ServeVideo : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    media_ = std::filesystem::temp_directory_path() / format("glimpse-videos-%d", getpid());
    std::filesystem::create_directories(media_);
    std::filesystem::create_symlink("/etc/passwd", media_ / "link");
    server_ = std::make_unique<Server>(std::vector<std::string>{"--media-path", media_, "--parallel", "2"});
  }
  static void TearDownTestSuite() {
    server_.reset();
    std::filesystem::remove_all(media_);
  }
  static std::unique_ptr<Server> server_;
  static std::filesystem::path media_;
};
std::unique_ptr<Server> ServeVideo::server_;
std::filesystem::path ServeVideo::media_;

// What `glimpse run` says of the same, without its line break.
std::string run_says(const std::string& arguments) {
  const std::string models = GLIMPSE_SOURCE_DIR "/models/";
  const std::string command = format("'%s' run -m %sdemo-Q8_0.gguf --mmproj %smmproj-demo-f16.gguf -t 1 -n 16 %s 2>&1",
                                     GLIMPSE_BINARY, models, models, arguments);
  FILE* const pipe = popen(command.c_str(), "r");
  std::string said;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) said.append(buffer, n);
  pclose(pipe);
  while (said.ends_with('\n')) said.pop_back();
  return said;
}

std::string base64_of(const std::string& path) {
  const std::string url = data_url(path);
  return url.substr(url.find(',') + 1);
}

Json video_question(const std::string& url, const std::string& text) {
  const Json video = {{"type", "video_url"}, {"video_url", {{"url", url}}}};
  return {{"messages", {{{"role", "user"}, {"content", {video, {{"type", "text"}, {"text", text}}}}}}},
          {"max_tokens", 16}};
}

TEST_F(ServeVideo, SeesVideosAsRunDoes) {
  const std::string gif = GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif";
  const std::string want = run_says(format("--video %s 'What is this?'", gif));
  if (want.find("no GIF") != std::string::npos) GTEST_SKIP() << want;
  std::filesystem::copy_file(gif, media_ / "changes.gif");
  const std::string bytes = base64_of(gif), frame = base64_of(GLIMPSE_SOURCE_DIR "/models/sample.png");
  const auto said = [&](const Json& body) {
    const Reply reply = server_->post(kChat, body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.status == 200 ? reply.json()["choices"][0]["message"]["content"].get<std::string>() : "";
  };
  for (const std::string& url :
       {"data:video/mp4;base64," + bytes, "data:image/gif;base64," + bytes, "file:///changes.gif"s}) {
    EXPECT_EQ(said(video_question(url, "What is this?")), want) << url.substr(0, 40);
  }
  Json body = video_question("file:///changes.gif", "What is this?");
  Json& part = body["messages"][0]["content"][0];
  part["fps"] = 8;
  EXPECT_EQ(said(body), run_says(format("--fps 8 --video %s 'What is this?'", gif)));
  // The frames themselves, as vLLM's clients send them.
  const std::string sample = GLIMPSE_SOURCE_DIR "/models/sample.png";
  EXPECT_EQ(said(video_question(format("data:video/jpeg;base64,%s,%s", frame, frame), "Describe it.")),
            run_says(format("--frame %s --frame %s 'Describe it.'", sample, sample)));
  // A video and a picture, told apart.
  body["messages"][0]["content"].push_back({{"type", "image_url"}, {"image_url", {{"url", sample_url()}}}});
  EXPECT_EQ(server_->post(kChat, body).status, 200);
}

TEST_F(ServeVideo, FilmsComeThroughFfmpegAndListsOfFilesDoNot) {
  const std::filesystem::path film = media_ / "film.mp4";
  const std::string make =
      format("ffmpeg -v error -f lavfi -i testsrc=size=64x48:rate=4:duration=3 -y %s", film.string());
  if (system(format("%s 2>/dev/null", make).c_str()) != 0) GTEST_SKIP() << "no ffmpeg that makes films";
  const Reply reply = server_->post(kChat, video_question("file:///film.mp4", "What is this?"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.json()["choices"][0]["message"]["content"],
            run_says(format("--video %s 'What is this?'", film.string())));
  EXPECT_EQ(server_->post(kChat, video_question(data_url(film), "What is this?")).json()["choices"],
            reply.json()["choices"]);
  // Of a stranger's list nothing is opened.
  std::ofstream(media_ / "list.m3u8") << "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n"
                                      << film.string() << "\n#EXT-X-ENDLIST\n";
  const Reply refused = server_->post(kChat, video_question("file:///list.m3u8", "What is this?"));
  EXPECT_EQ(refused.status, 400) << refused.body;
  EXPECT_THAT(refused.error(), testing::AllOf(HasSubstr("messages[0].content[0].video_url.url: bad video: "),
                                              testing::Not(HasSubstr("/proc/"))));
}

TEST_F(ServeVideo, RefusesWhatIsNoVideo) {
  const std::string frame = base64_of(GLIMPSE_SOURCE_DIR "/models/sample.png");
  std::string many = "data:video/jpeg;base64,";
  for (int i = 0; i < 65; ++i) many += i == 0 ? "AAAA" : ",AAAA";
  const std::pair<std::string, const char*> urls[] = {{"https://example.org/cat.mp4", "nothing is fetched"},
                                                      {"data:video/mp4;base64,AAAA", "bad video"},
                                                      {"data:video/mp4,AAAA", "not base64"},
                                                      {"data:video/mp4;base64,A*AA", "bad base64"},
                                                      {"data:video/jpeg;base64," + frame + ",AAAA", "frame 2"},
                                                      {"data:video/jpeg;base64,", "frame 1"},
                                                      {many, "65 frames; at most 64"},
                                                      {"file:///link", "there is no such"},
                                                      {"file:///nothing.mp4", "there is no such"},
                                                      {"cat.mp4", "want a URL"}};
  for (const auto& [url, text] : urls) {
    const Reply reply = server_->post(kChat, video_question(url, "What is this?"));
    EXPECT_EQ(reply.status, 400) << url.substr(0, 60);
    EXPECT_THAT(reply.error(), testing::AllOf(HasSubstr("messages[0].content[0].video_url.url: "), HasSubstr(text)));
  }
  Json body = video_question("data:video/mp4;base64,AAAA", "What is this?");
  body["messages"][0]["content"][0]["video_url"]["fps"] = 0;
  EXPECT_THAT(server_->post(kChat, body).error(), HasSubstr("video_url.fps: want a number"));
}

}  // namespace
}  // namespace glimpse::serve_test
