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

class GpuCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"bin", "bin/tests", "bin/bench", "out"}) {
      std::filesystem::create_directory(dir_.file(folder));
    }
    program("bin/glimpse",
            "n=$#; while [ $n -gt 0 ]; do a=$1; shift; [ \"$a\" = cuda ] && a=cpu; set -- \"$@\" \"$a\"; n=$((n - 1)); "
            "done\nexec " GLIMPSE_BINARY " \"$@\"");
    program("bin/tests/test_cuda", R"(echo "[ RUN      ] A.B
[       OK ] A.B (3 ms)
$1")");
    program("bin/bench/gpu_bench", R"(echo '{"kind": "device"}'
echo 'linear 3 us 4% of roofline' >&2
echo 'attend_wg  as other kernels' >&2)");
    program("ncu", "echo \"  gemv Context 1\n  Duration us 4 $*\"");
    program("compute-sanitizer", "echo \"ERROR SUMMARY: 0 errors $2\"");
  }
  void program(const std::string& name, const std::string& body) const {
    chmod(dir_.write(name, "#!/bin/sh\n" + body + "\n").c_str(), 0755);
  }
  // Exit status; what it prints is in text_. The stand-ins for tools come first in PATH, and there is no PyTorch.
  int check(const std::string& options) {
    program("python3", "exit 1");
    const std::string command = "PATH=" + dir_.file("") +
                                ":$PATH bash " GLIMPSE_SOURCE_DIR "/bench/gpu_check.sh --bin " + dir_.file(bin_) +
                                " --out " + dir_.file("out") + " --model " + golden("tied/model.gguf") + " --mmproj " +
                                golden("tied/mmproj.gguf") + " " + options + " > " + dir_.file("text") + " 2>&1";
    const int status = std::system(command.c_str());
    text_ = read_all(dir_.file("text"));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string log(const std::string& name) const { return read_all(dir_.file("out/" + name)); }
  ScratchDir dir_;
  std::string bin_ = "bin", text_;
};

TEST_F(GpuCheck, PartsRunAndAreSummedUp) {
  ASSERT_EQ(check("--quick"), 0) << text_;
  for (const char* step :
       {"device", "golden", "pages", "demo_cpu", "demo_launches", "demo_graph", "run_graph", "run_launches",
        "run_drawn", "bench_graph", "bench_prefill", "kernels", "ncu_decode", "ncu_prefill", "racecheck"}) {
    EXPECT_THAT(text_, testing::ContainsRegex(std::string("\n").append(step).append(" +ok, [0-9.]+ s"))) << step;
  }
  EXPECT_THAT(text_, testing::ContainsRegex("\ndemo_graph +ok, [^\n]*\n    all [0-9]+ / 16 "));
  EXPECT_THAT(text_, testing::ContainsRegex("\nrun_drawn +ok, [0-9.]+ s: [0-9.]+ tokens/s\n"));
  EXPECT_THAT(text_, HasSubstr("run_graph and run_launches: the same tokens"));
  for (const char* row :
       {"tg128 @ d100", "pp32", "img60x40", "4% of roofline", "attend_wg as other", "Duration us 4", "0 errors"}) {
    EXPECT_THAT(text_, HasSubstr(row));
  }
  EXPECT_THAT(log("why.log"), HasSubstr("Duration us 4 --clock-control none"));
  EXPECT_THAT(log("fast.log"), HasSubstr("\"decode_tokens_per_second\""));
  EXPECT_EQ(log("kernels.jsonl"), "{\"kind\": \"device\"}\n");
  EXPECT_THAT(log("summary.txt"), HasSubstr("---- why"));
  EXPECT_LE(std::distance(std::filesystem::directory_iterator(dir_.file("out")), {}), 7);
}

TEST_F(GpuCheck, AGroupThatFailsNamesItsTestsAndTheOthersRun) {
  program("bin/tests/test_cuda", R"sh(case $1 in
*CudaRing*) echo "[ RUN      ] CudaRing.X
a_test.cpp:7: Failure
  want 1
[  FAILED  ] CudaRing.X (3 ms)"; exit 1 ;;
*Sample*) echo "[ RUN      ] DeviceSample.Y"; exec sleep 60 ;;
esac
echo "[       OK ] A.B (3 ms)")sh");
  EXPECT_EQ(check("--seconds 6 right"), 9) << text_;  // two, and what the sleeper left no time for
  EXPECT_THAT(text_, testing::ContainsRegex("\nring +failed .1., [0-9.]+ s: 0 ok"));
  EXPECT_THAT(text_, HasSubstr("last begun: [ RUN      ] CudaRing.X"));
  EXPECT_THAT(text_, HasSubstr("a_test.cpp:7: Failure"));
  EXPECT_THAT(text_, testing::ContainsRegex("\nattention +ok, [0-9.]+ s: 1 ok, 0 skipped"));
  EXPECT_THAT(text_, testing::ContainsRegex("\nsample +over [0-9]+ s"));
  EXPECT_THAT(text_, HasSubstr("last begun: [ RUN      ] DeviceSample.Y"));
  EXPECT_THAT(text_, HasSubstr("no time left"));
}

TEST_F(GpuCheck, GoesOnWithoutClustersWhereTheyFail) {
  program("bin/tests/test_cuda", R"sh(case $1 in
*Cluster*) echo "[ RUN      ] WarpgroupClusters.X"; exit 1 ;;
esac)sh");
  program("ncu", "echo \"Duration, clusters $GLIMPSE_CUDA_CLUSTERS\"");
  EXPECT_EQ(check("--quick why"), 1) << text_;
  EXPECT_THAT(text_, HasSubstr("what follows is without clusters"));
  EXPECT_THAT(text_, HasSubstr("Duration, clusters 0"));
}

TEST_F(GpuCheck, OtherAnswersOfAnotherWayToDecodeAreAFailure) {
  program("bin/glimpse", R"(case "$*" in *launches*) t=2;; *) t=1;; esac
echo "{\"tokens\": [1, $t]}"
echo '"decode_tokens_per_second": 9,'
echo '| tg128 | pp32 | img1 |')");
  EXPECT_EQ(check("--quick fast"), 1) << text_;
  EXPECT_THAT(text_, HasSubstr("run_graph and run_launches DIFFER"));
}

// Programs that end well and say nothing: a filter that no test matches any more, a table without rows, no figure.
TEST_F(GpuCheck, StepsWithoutResultsAreFailures) {
  program("bin/tests/test_cuda", R"sh(case "$*" in
*CudaRing*) echo "[==========] 0 tests from 0 test suites ran. (0 ms total)" ;;
*Sample*) echo "[  SKIPPED ] DeviceSample.A (0 ms)" ;;
*) echo "[       OK ] A.B (3 ms)" ;;
esac)sh");
  program("bin/glimpse", "echo '{\"tokens\": [1, 2]}'");
  program("bin/bench/gpu_bench", ":");
  EXPECT_EQ(check("--quick right"), 1 + 3) << text_;
  EXPECT_THAT(text_, testing::ContainsRegex("\nring +nothing found, [0-9.]+ s: 0 ok, 0 skipped"));
  EXPECT_THAT(text_, testing::ContainsRegex("\nsample +ok, [0-9.]+ s: 0 ok, 1 skipped"));
  EXPECT_THAT(text_, testing::ContainsRegex("\ndemo_graph +nothing found"));
  program("ncu", "echo nothing");
  EXPECT_EQ(check("--quick fast why"), 3 + 2 + 2 + 1 + 3) << text_;
  for (const char* step : {"run_graph", "run_drawn", "bench_launches", "bench_q8", "bench_prefill", "kernels"}) {
    EXPECT_THAT(text_, testing::ContainsRegex(std::string("\n").append(step).append(" +nothing found"))) << step;
  }
  EXPECT_THAT(log("steps.jsonl"), HasSubstr("\"step\": \"ncu_prefill\", \"verdict\": \"nothing found\""));
}

TEST_F(GpuCheck, ProgramsMayComeInAnArchive) {
  const std::string pack = "tar czf " + dir_.file("bin.tgz") + " -C " + dir_.file("bin") + " .";
  ASSERT_EQ(std::system(pack.c_str()), 0);
  std::filesystem::remove_all(dir_.file("bin"));
  bin_ = "bin.tgz";
  EXPECT_EQ(check("--quick why"), 0) << text_;
  EXPECT_THAT(text_, testing::ContainsRegex("\nmemcheck +ok, [0-9.]+ s"));
  dir_.write("bin.tgz", "no archive");
  EXPECT_EQ(check("--quick why"), 2);
  EXPECT_THAT(text_, HasSubstr("bin.tgz is not an archive"));
}

TEST_F(GpuCheck, MissingProgramsAreNamed) {
  std::filesystem::remove(dir_.file("bin/bench/gpu_bench"));
  EXPECT_EQ(check(""), 2);
  EXPECT_THAT(text_, HasSubstr("gpu_bench is missing: cmake --preset gpu"));
}

}  // namespace
}  // namespace glimpse::cli_test
