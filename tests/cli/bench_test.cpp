// glimpse bench: reports that parse, stages that add up, wrong input said plainly, traces whole or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// On the golden pair, without the probe of memory and instructions, which takes a second.
std::vector<std::string> bench(const std::vector<std::string>& more, const std::string& repetitions = "2",
                               const std::string& threads = "2") {
  std::vector<std::string> arguments = {"bench", "-m", golden("tied/model.gguf"), "--no-roofline"};
  arguments.insert(arguments.end(), {"-r", repetitions, "-t", threads});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}
std::vector<std::string> with_vision(std::vector<std::string> more, const std::string& repetitions = "2") {
  more.insert(more.end(), {"--mmproj", golden("tied/mmproj.gguf"), "--image-max-tokens", "32"});
  return bench(more, repetitions);
}

std::vector<std::string> tests_of(const json& rows) {
  std::vector<std::string> names;
  for (const json& row : rows) names.push_back(row.at("test").get<std::string>());
  return names;
}

TEST(Bench, JsonRowsAreTheTestsAskedFor) {
  const json rows = json_of(run_glimpse(with_vision({"-p", "16,24", "-n", "3", "-pg", "8,2", "-d", "0,8", "--image",
                                                     "60x40", "--ttft", "60x40+5", "--e2e", "7+4", "-o", "json"})));
  EXPECT_THAT(tests_of(rows), ElementsAre("pp16", "pp24", "tg3", "pp8+tg2", "pp16 @ d8", "pp24 @ d8", "tg3 @ d8",
                                          "pp8+tg2 @ d8", "img60x40", "ttft 60x40+5", "e2e 7+4"));
  for (const json& row : rows) {
    EXPECT_EQ(row.at("samples_ns").size(), 2u);
    EXPECT_EQ(row.at("n_threads"), 2);
    EXPECT_GT(row.at("avg_ts").get<double>(), 0);
    EXPECT_GT(row.at("flops").get<double>(), 0);
    EXPECT_GT(row.at("bytes").get<double>(), 0);
    EXPECT_TRUE(row.at("pct_roofline").is_null());
    EXPECT_EQ(row.count("profile"), 0u);
  }
  EXPECT_EQ(rows[4].at("n_depth"), 8);
  EXPECT_EQ(rows[8].at("image_w"), 60);
  EXPECT_GT(rows[8].at("n_image_tokens").get<int>(), 0);
  EXPECT_EQ(rows[9].at("n_image_tokens"), rows[8]["n_image_tokens"]);
  EXPECT_EQ(rows[10].at("n_image_tokens"), 0);
}

TEST(Bench, ConversationsInOnePassAreAList) {
  const json rows = json_of(run_glimpse(bench({"-p", "0", "-n", "3", "-np", "1,3", "-d", "0,8", "-o", "json"})));
  EXPECT_THAT(tests_of(rows), ElementsAre("tg3", "tg3 x3", "tg3 @ d8", "tg3 x3 @ d8"));
  EXPECT_EQ(rows[0].at("n_parallel"), 1);
  EXPECT_EQ(rows[3].at("n_parallel"), 3);
  EXPECT_EQ(rows[1].at("flops").get<double>(), 3 * rows[0].at("flops").get<double>());
  EXPECT_NE(run_glimpse(bench({"-n", "3", "--parallel", "0"})).exit_code, 0);
}

TEST(Bench, EveryFormatHasTheSameRows) {
  const std::vector<std::string> tests = {"-p", "8", "-n", "2"};
  const auto in = [&](const char* format, const char* flag = "-o") {
    auto arguments = bench(tests);
    arguments.insert(arguments.end(), {flag, format});
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 0) << format << result.err;
    EXPECT_EQ(result.err, "") << format;
    return result.out;
  };
  const json rows = json::parse(in("json"), nullptr, false);
  ASSERT_EQ(rows.size(), 2u);
  std::istringstream lines(in("jsonl", "--output"));
  size_t n = 0;
  for (std::string line; std::getline(lines, line); ++n) {
    const json row = json::parse(line, nullptr, false);
    ASSERT_TRUE(row.is_object()) << line;
    EXPECT_EQ(row.at("test"), rows.at(n).at("test"));
    EXPECT_EQ(row.at("flops"), rows.at(n).at("flops"));
  }
  EXPECT_EQ(n, 2u);
  const std::string csv = in("csv"), sql = in("sql"), md = in("md");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
  EXPECT_EQ(csv.rfind("build_commit,build_number,cpu_info,", 0), 0u) << csv;
  EXPECT_EQ(sql.rfind("CREATE TABLE IF NOT EXISTS glimpse_bench (", 0), 0u) << sql;
  for (const char* test : {"pp8", "tg2"}) {
    EXPECT_THAT(csv, HasSubstr(std::string("\"") + test + "\""));
    EXPECT_THAT(sql, HasSubstr(std::string("'") + test + "'"));
    EXPECT_THAT(md, HasSubstr(std::string(" ") + test + " |"));
  }
  EXPECT_EQ(md.rfind("| model ", 0), 0u) << md;
  EXPECT_THAT(md, HasSubstr("build: "));
}

TEST(Bench, SeveralModelsInOneReport) {
  const auto run = [](const char* format, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"bench",
                                          "-m",
                                          golden("tied/model.gguf"),
                                          "-m",
                                          golden("untied/model.gguf"),
                                          "--no-roofline",
                                          "-r",
                                          "1",
                                          "-t",
                                          "1",
                                          "-p",
                                          "8",
                                          "-n",
                                          "2",
                                          "-o",
                                          format};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_glimpse(arguments);
  };
  const json rows = json_of(run("json"));
  EXPECT_THAT(tests_of(rows), ElementsAre("pp8", "tg2", "pp8", "tg2"));
  EXPECT_EQ(rows[0].at("model_filename"), golden("tied/model.gguf"));
  EXPECT_EQ(rows[3].at("model_filename"), golden("untied/model.gguf"));
  const std::string csv = run("csv").out, md = run("md").out;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 5);
  EXPECT_THAT(md, HasSubstr("model: " + golden("tied/model.gguf")));
  EXPECT_THAT(md, HasSubstr("model: " + golden("untied/model.gguf")));
  // Each with its own encoder; one that is missing is said before anything is measured.
  const json pairs =
      json_of(run("json", {"--mmproj", golden("tied/mmproj.gguf"), "--mmproj", golden("untied/mmproj.gguf"), "--image",
                           "60x40", "--image-max-tokens", "16"}));
  EXPECT_EQ(pairs.size(), 6u);
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"-m", golden("gone.gguf")},
        std::vector<std::string>{"-m", golden("tied/model.gguf"), "--mmproj", "a", "--mmproj", "b"},
        std::vector<std::string>{"--trace", "/tmp/never.json"}}) {
    const RunResult result = run("json", wrong);
    EXPECT_EQ(result.exit_code, 1) << result.out;
    EXPECT_EQ(result.out, "");
  }
}

TEST(BenchTiming, StagesAddUpToTheWallTime) {
  // Within 3 %; the median of many repetitions, some of which a busy machine may interrupt between two stages.
  const json rows = json_of(run_glimpse(
      with_vision({"--image", "400x300", "--ttft", "400x300+8", "--e2e", "400x300+8+4", "-o", "json"}, "21")));
  ASSERT_EQ(rows.size(), 3u);
  for (const json& row : rows) {
    std::vector<double> shares;
    for (size_t i = 0; i < row.at("samples_ns").size(); ++i) {
      double sum = 0;
      for (const auto& [stage, ns] : row.at("samples_stages_ns")[i].items()) sum += ns.get<double>();
      shares.push_back(sum / row["samples_ns"][i].get<double>());
    }
    std::sort(shares.begin(), shares.end());
    EXPECT_LE(shares.back(), 1.001);
    EXPECT_GE(shares[shares.size() / 2], 0.97) << row.at("test");
  }
}

TEST(Bench, ThreadListGivesRowsOfEach) {
  const json rows = json_of(run_glimpse(bench({"-p", "8", "-n", "0", "-o", "json"}, "2", "1,3")));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("n_threads"), 1);
  EXPECT_EQ(rows[1].at("n_threads"), 3);
  EXPECT_EQ(rows[0].at("flops"), rows[1].at("flops"));
}

TEST(Bench, RooflineIsMeasuredWithTheTest) {
  const json rows = json_of(run_glimpse({"bench", "-m", golden("tied/model.gguf"), "-p", "8", "-n", "0", "-r", "1",
                                         "-t", "1", "-o", "json", "--no-warmup"}));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_GT(rows[0].at("roof_gbs").get<double>(), 0.1);
  EXPECT_GT(rows[0].at("roof_f32_gflops").get<double>(), 0.01);
  EXPECT_GT(rows[0].at("pct_roofline").get<double>(), 0);
}

TEST(Bench, ProfileNamesTheOperations) {
  const json rows = json_of(run_glimpse(with_vision({"--ttft", "60x40+5", "--profile", "-o", "json"})));
  ASSERT_EQ(rows.size(), 1u);
  double share = 0;
  std::string names;
  for (const json& op : rows[0].at("profile").at("ops")) {
    share += op.at("share").get<double>();
    EXPECT_GE(op.at("calls").get<int>(), 1);
    EXPECT_GT(op.at("bytes").get<double>(), 0);
    names += op.at("op").get<std::string>() + "\n";
  }
  EXPECT_GT(share, 0);  // how much, on a machine that others use, is no fact about the program
  EXPECT_LE(share, 1.0001);
  for (const char* op : {"norm_qkv ", "attention ", "norm_swiglu ", "linear_add ", "norm_linear ", "embed "}) {
    EXPECT_THAT(names, HasSubstr(op));
  }
  const RunResult md = run_glimpse(bench({"-p", "8", "-n", "0", "--profile"}));
  EXPECT_THAT(md.out, HasSubstr("profile of pp8"));
  EXPECT_THAT(md.out, HasSubstr("(between operations)"));
  const RunResult csv = run_glimpse(bench({"-p", "8", "-n", "0", "--profile", "-o", "csv"}));
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 2);  // programs read it
  EXPECT_THAT(csv.err, HasSubstr("profile of pp8"));
}

TEST(Bench, TraceIsChromesFormat) {
  const ScratchDir dir;
  const std::string path = dir.file("trace.json");
  const RunResult result = run_glimpse(with_vision({"--e2e", "60x40+5+3", "--trace", path}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, testing::Not(HasSubstr("profile of")));  // that is --profile's
  EXPECT_THAT(dir.list(), ElementsAre("trace.json"));
  const json trace = json::parse(read_all(path), nullptr, false);
  ASSERT_TRUE(trace.is_object());
  std::map<std::string, int> categories;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X") ++categories[event.at("cat").get<std::string>()];
  }
  EXPECT_EQ(categories["test"], 1);
  EXPECT_EQ(categories["stage"], 10);
  EXPECT_GT(categories["op"], 50);
}

TEST(Bench, TraceIsNotOverwritten) {
  const ScratchDir dir;
  const std::string kept = dir.write("kept.json", "something precious");
  RunResult result = run_glimpse(bench({"-p", "8", "-n", "0", "--trace", kept}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("exists already"));
  EXPECT_EQ(result.out, "");  // said before anything is measured
  EXPECT_EQ(read_all(kept), "something precious");
  EXPECT_THAT(dir.list(), ElementsAre("kept.json"));
  result = run_glimpse(bench({"-p", "8", "-n", "0", "--trace", kept, "--force"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(json::accept(read_all(kept)));
}

TEST(Bench, FailedTraceLeavesNothingBehind) {
  const ScratchDir dir;
  RunSetup small_files;
  small_files.file_size_limit = 4096;
  const RunResult result = run_glimpse(bench({"-p", "8", "-n", "4", "--trace", dir.file("trace.json")}), small_files);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("trace.json"));
  EXPECT_THAT(result.out, HasSubstr(" tg4 |"));  // what was measured is not lost
  EXPECT_THAT(dir.list(), IsEmpty());
}

TEST(Bench, InterruptKeepsTheRowsAndLeavesNoTrace) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const ScratchDir dir;
    bool sent = false;
    RunSetup setup;
    int ticks = 0;
    setup.while_running = [&](pid_t pid) {
      // The trace is opened once signals are caught; from then on give the first test time to end.
      if (sent || open_file_size(pid, dir.path()) < 0 || ++ticks < 300) return;
      sent = kill(pid, signal) == 0;
    };
    std::string threads = "1";
    for (int i = 0; i < 20000; ++i) threads += ",1";  // rows without end
    const RunResult result = run_glimpse(
        bench({"-p", "8", "-n", "0", "-o", "json", "--trace", dir.file("trace.json")}, "1", threads), setup);
    EXPECT_TRUE(sent);
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    const json rows = json::parse(result.out, nullptr, false);
    ASSERT_TRUE(rows.is_array()) << result.out;
    EXPECT_GE(rows.size(), 1u);
    EXPECT_THAT(dir.list(), IsEmpty());
  }
}

TEST(Bench, WrongFilesAndSettingsAreNamed) {
  const ScratchDir dir;
  const std::string model = golden("tied/model.gguf"), mmproj = golden("tied/mmproj.gguf");
  const std::string text = dir.write("text.jpg", "this is no picture");
  const std::string cut = dir.write("cut.gguf", read_all(model).substr(0, 5000));
  const std::string half = dir.write("half.jpg", read_all(GLIMPSE_TEST_DIR "/data/chelsea.jpg").substr(0, 9000));
  const std::pair<std::vector<std::string>, const char*> bad[] = {
      {{"bench", "-m", "/no/such/model.gguf"}, "/no/such/model.gguf"},
      {{"bench", "-m", dir.path()}, "glimpse-test-"},
      {{"bench", "-m", cut}, "cut.gguf"},
      {{"bench", "-m", mmproj}, "mmproj.gguf"},
      {{"bench", "-m", model, "--mmproj", model, "--image", "28x28"}, "model.gguf"},
      {bench({"--image", "28x28"}), "--mmproj"},
      {bench({"--ttft", "28x28+5"}), "--mmproj"},
      {with_vision({"--image", "/no/such/cat.jpg"}), "/no/such/cat.jpg"},
      {with_vision({"--image", text}), "text.jpg"},
      {with_vision({"--image", half}), "half.jpg"},
      {with_vision({"--image", "0x28"}), "0x28"},
      {with_vision({"--image", "5000x10"}), "img5000x10"},  // aspect ratio
      {with_vision({"--ttft", "28x28"}), "28x28"},
      {with_vision({"--e2e", "28x28+5"}), "28x28+5"},
      {with_vision({"--image", "28x28", "--image-min-tokens", "64"}), "tokens"},
      {bench({"-p", "0", "-n", "0"}), "no test"},
      {bench({"-p", "-4"}), "-4"},
      {bench({"-pg", "12"}), "'12'"},
      {bench({"-p", "16777216", "-n", "0"}), "positions"},
      {bench({"-p", "8", "--trace", dir.file("no/such/dir/trace.json")}), "no/such/dir"},
      {bench({"-p", "8", "--trace", dir.path(), "--force"}), "glimpse-test-"},
  };
  const std::vector<std::string> before = dir.list();
  for (const auto& [arguments, word] : bad) {
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 1) << testing::PrintToString(arguments) << result.err;
    EXPECT_THAT(result.err, HasSubstr("glimpse: ")) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr(word)) << testing::PrintToString(arguments);
  }
  EXPECT_EQ(dir.list(), before);
}

TEST(Bench, TypeOfTheCacheIsNamed) {
  for (const char* type : {"f16", "bf16", "f32", "q8_0"}) {
    const json rows = json_of(run_glimpse(bench({"-p", "8", "-n", "0", "-o", "json", "-ctk", type})));
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].at("type_k"), type);
    EXPECT_EQ(rows[0].at("type_v"), type);
    const RunResult table = run_glimpse(bench({"-p", "8", "-n", "0", "--kv-type", type, "--profile"}));
    EXPECT_THAT(table.out, testing::ContainsRegex(std::string("attention [0-9]+x[0-9]+ ") + type));
    EXPECT_EQ(table.out.find("type_k") == std::string::npos, std::string(type) == "f16")
        << table.out;  // as llama-bench
  }
  EXPECT_EQ(json_of(run_glimpse(bench({"-p", "8", "-n", "0", "-o", "json"})))[0].at("type_k"), "f16");
}

// On a machine with a GPU that the build can use rows are of it; elsewhere one line says what is missing.
TEST(Bench, CudaIsMeasuredOrSaidToBeMissing) {
  const RunResult result = run_glimpse(bench({"-p", "8", "-n", "2", "-o", "json", "--device", "cuda"}));
  if (result.exit_code == 0) {
    for (const json& row : json_of(result)) EXPECT_EQ(row.at("backends"), "CUDA");
    return;
  }
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, testing::AnyOf(HasSubstr("glimpse: no CUDA device: "), HasSubstr("has no CUDA")));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(Bench, NoGpuLayersAreTheCpu) {
  const json rows = json_of(run_glimpse(bench(
      {"-p", "8", "-n", "0", "-o", "json", "--device", "cuda", "--gpu-layers", "0", "--cuda-decode", "launches"})));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].at("backends"), "CPU");
  EXPECT_EQ(rows[0].at("gpu_info"), "");
  for (const char* option : {"--device", "--gpu-layers", "--cuda-decode"}) {
    const RunResult wrong = run_glimpse(bench({option, "tpu"}));
    EXPECT_EQ(wrong.exit_code, 2) << option;
    EXPECT_THAT(wrong.err, HasSubstr(option));
  }
}

TEST(Bench, ForcedInstructionSetIsNamed) {
  RunSetup setup;
  setup.environment = {"GLIMPSE_FORCE_ISA=ref"};
  const json rows = json_of(run_glimpse(bench({"-p", "8", "-n", "0", "-o", "json", "-ctk", "f32", "-b", "4"}), setup));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].at("isa"), "ref");
  EXPECT_EQ(rows[0].at("type_k"), "f32");
  EXPECT_EQ(rows[0].at("n_ubatch"), 4);
  setup.environment = {"GLIMPSE_FORCE_ISA=sse9"};
  const RunResult wrong = run_glimpse(bench({"-p", "8"}), setup);
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("sse9"));
}

}  // namespace
}  // namespace glimpse::cli_test
