// One server process with the demo model, for the tests of the protocol.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/format.h"
#include "tests/serve/server_process.h"

namespace glimpse::serve_test {

inline const char* const kChat = "/v1/chat/completions";
inline const char* const kSampleAnswer =
    "An orange ring, a green square, a blue heart and a green circle on a yellow background.";

class ServeProtocol : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    media_ = std::filesystem::temp_directory_path() / format("glimpse-media-%d", getpid());
    std::filesystem::create_directories(media_ / "below");
    std::filesystem::copy_file(GLIMPSE_SOURCE_DIR "/models/sample.png", media_ / "below" / "a sample.png");
    std::filesystem::create_symlink("/etc/passwd", media_ / "link");
    std::filesystem::create_symlink("/etc", media_ / "linked");
    std::filesystem::create_symlink("below", media_ / "inside");
    mkfifo((media_ / "pipe").c_str(), 0600);
    server_ = std::make_unique<Server>(std::vector<std::string>{
        "--media-path", media_, "--max-body", "8", "--max-images", "4", "--timeout", "2", "--parallel", "4"});
  }
  static void TearDownTestSuite() {
    server_.reset();
    std::filesystem::remove_all(media_);
  }
  static Json question(const std::string& text) { return {{"messages", {{{"role", "user"}, {"content", text}}}}}; }
  static Json picture(const std::string& url) {
    return {{"messages", {picture_question(url, "Describe this picture.")}}};
  }
  static void expect_ok() {
    const Reply reply = server_->post(kChat, picture(sample_url()));
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["choices"][0]["message"]["content"], kSampleAnswer);
  }

  inline static std::unique_ptr<Server> server_;
  inline static std::filesystem::path media_;
};

}  // namespace glimpse::serve_test
