// bench/gpu_check.sh on a machine without a GPU: its parts run, fail and are told apart as on one that has it. The
// programs are stand-ins: glimpse itself on the CPU, and scripts for those that do nothing without a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

class GpuCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"bin", "bin/tests", "bin/bench", "out"}) {
      std::filesystem::create_directory(dir_.file(folder));
    }
    program("bin/glimpse",
            "n=$#; while [ $n -gt 0 ]; do a=$1; shift; [ \"$a\" = cuda ] && a=cpu; set -- \"$@\" \"$a\"; n=$((n - 1)); "
            "done\nexec " GLIMPSE_BINARY " \"$@\"");
    program("bin/tests/test_cuda", "echo tests");
    program("bin/bench/gpu_bench", "echo rates");
    program("sanitizer", "echo \"$@\"");
    std::filesystem::copy(golden("tied/model.gguf"), dir_.file("out/model.gguf"));
    std::filesystem::copy(golden("tied/mmproj.gguf"), dir_.file("out/mmproj.gguf"));
  }
  void program(const std::string& name, const std::string& body) const {
    chmod(dir_.write(name, "#!/bin/sh\n" + body + "\n").c_str(), 0755);
  }
  // Exit status; what it prints is in text_.
  int check(const std::string& options) {
    const std::string command = "bash " GLIMPSE_SOURCE_DIR "/bench/gpu_check.sh --bin " + dir_.file("bin") + " --out " +
                                dir_.file("out") + " --sanitizer " + dir_.file("sanitizer") + " " + options + " > " +
                                dir_.file("text") + " 2>&1";
    const int status = std::system(command.c_str());
    text_ = read_all(dir_.file("text"));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  ScratchDir dir_;
  std::string text_;
};

TEST_F(GpuCheck, PartsThatWereChosenRunAndAreCompared) {
  ASSERT_EQ(check("--only 'decode_(graph|launches)|answer_.*|image_448_gpu|bench|sanitizer_memcheck'"), 0) << text_;
  for (const char* part : {"bench ", "decode_graph ", "decode_launches ", "image_448_gpu ", "sanitizer_memcheck "}) {
    EXPECT_THAT(text_, testing::ContainsRegex(std::string(part) + " *ok ")) << part;
  }
  EXPECT_THAT(text_, testing::ContainsRegex("\ndecode_graph +[0-9.]+ tokens/s\n"));
  EXPECT_THAT(text_, testing::ContainsRegex("\nimage, about 448 x 448 +[0-9.]+ ms, 2[0-9]+ tokens\n"));
  EXPECT_THAT(text_, HasSubstr("graph and launches, 256 tokens: the same tokens"));
  EXPECT_THAT(text_, HasSubstr("CPU and GPU answer alike"));
  EXPECT_THAT(text_, HasSubstr("--tool memcheck"));
  for (const char* other : {"differ", "racecheck", "correctness", "long context", "\nsynth"}) {
    EXPECT_THAT(text_, Not(HasSubstr(other)));
  }
  EXPECT_TRUE(std::filesystem::exists(dir_.file("out/model.gguf"))) << "for the next visit";
}

TEST_F(GpuCheck, PartsThatFailAreCountedAndTheOthersRun) {
  program("bin/bench/gpu_bench", "exit 3");
  EXPECT_EQ(check("--only 'bench|correctness'"), 1);
  EXPECT_THAT(text_, HasSubstr("failed (3)"));
  EXPECT_THAT(text_, testing::ContainsRegex("\ncorrectness +ok "));
}

TEST_F(GpuCheck, MissingProgramsAreNamed) {
  std::filesystem::remove(dir_.file("bin/bench/gpu_bench"));
  EXPECT_EQ(check(""), 2);
  EXPECT_THAT(text_, HasSubstr("gpu_bench is missing: cmake --preset gpu"));
}

}  // namespace
}  // namespace glimpse::cli_test
