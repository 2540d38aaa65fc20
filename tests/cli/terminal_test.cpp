// What reaches the terminal: nothing that a file, a model or the command line says steers it, whichever way it comes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loaders/gguf/gguf.h"
#include "tests/cli/process.h"
#include "tests/loaders/gguf_builder.h"
#include "tokenizer/utf8.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Every control character (but NUL, which no argument has), C1 as Unicode and as a byte, what overrides directions,
// line separators. A word around them shows that the text was printed at all.
const std::string& hostile() {
  static const std::string text = [] {
    std::string all = "evil";
    for (char c = 1; c < 0x20; ++c) all += c;
    for (char32_t c = 0x7F; c < 0xA0; ++c) append_utf8(c, all);
    for (const char32_t c : {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, 0x2028, 0x2029}) {
      append_utf8(c, all);
    }
    return all + "live";
  }();
  return text;
}
// With bytes that are no UTF-8, where such are taken.
std::string hostile_bytes() {
  return hostile() +
         "\x9b"
         "31m\xff";
}

bool is_clean(const std::string& printed) {
  std::string_view rest = printed;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    const char32_t c = step.code_point;
    if (step.kind != Utf8Step::Kind::kValid || (c < 0x20 && c != '\n') || (c >= 0x7F && c < 0xA0) ||
        (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069)) {
      return false;
    }
    rest.remove_prefix(step.n_bytes);
  }
  return true;
}

// It was said, and nothing in what was printed is a control character but the line ends.
void expect_clean(const std::vector<std::string>& arguments, int exit_code, const char* where) {
  const RunResult result = run_glimpse(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << where << result.err;
  EXPECT_TRUE(is_clean(result.out)) << where << testing::PrintToString(result.out);
  EXPECT_TRUE(is_clean(result.err)) << where << testing::PrintToString(result.err);
  EXPECT_THAT(result.out + result.err, HasSubstr("evil\\")) << where;
}

TEST(Terminal, CommandLines) {
  const std::string evil = hostile_bytes(), model = golden("tied/model.gguf");
  expect_clean({evil}, 2, "command");
  expect_clean({"help", evil}, 2, "help");
  expect_clean({"--" + evil}, 2, "option before the command");
  expect_clean({"run", "--" + evil}, 2, "option");
  expect_clean({"run", "-m", model, "-p", "x", "-n", evil}, 2, "value");
  expect_clean({"run", "-m", model, "-p", "x", "--kv-type", evil}, 2, "choice");
  expect_clean({"run", "-m", model, "-p", "x", "--logit-bias", evil}, 1, "checked by the command");
  expect_clean({"run", "-m", model, "x", evil}, 2, "too many");
  expect_clean({"quantize", model, "/tmp/never", "Q8_0", "--dry-run", "--tensor-type", evil + "=Q4_0"}, 0, "rule");
}

TEST(Terminal, NamesOfFiles) {
  const ScratchDir dir;
  const std::string model = golden("tied/model.gguf"), mmproj = golden("tied/mmproj.gguf");
  const std::string gone = dir.file(hostile_bytes()), text = dir.write(hostile_bytes() + ".txt", "no model");
  for (const std::string& path : {gone, text}) {
    expect_clean({"run", "-m", path, "-p", "x"}, 1, "run");
    expect_clean({"inspect", path}, 1, "inspect");
    expect_clean({"chat", "-m", path}, 1, "chat");
    expect_clean({"chat", "-m", model, "--mmproj", mmproj, "--image", path}, 1, "chat with a picture");
    expect_clean({"batch", "-m", path, "-p", "x", "--mmproj", mmproj, kPicture}, 1, "batch");
    expect_clean({"serve", "-m", path, "--port", "0"}, 1, "serve");
    expect_clean({"serve", "-m", model, "--port", "0", "--media-path", path + "/below"}, 1, "directory of pictures");
    expect_clean({"serve", "-m", model, "--port", "0", "--api-key-file", gone}, 1, "keys");
    expect_clean({"bench", "-m", path}, 1, "bench");
    expect_clean({"perplexity", "-m", model, "-f", path}, 1, "perplexity");
    expect_clean({"diff", "-m", model, "-p", "x", "--against", path}, 1, "diff");
    expect_clean({"quantize", path, dir.file("out.gguf"), "Q8_0"}, 1, "quantize");
    expect_clean({"synth", "-m", dir.file("out.gguf"), "--like", path}, 1, "synth");
    expect_clean({"compare", "-m", model, "--llama-bin", path}, 1, "compare");
    expect_clean({"eval", "-m", model, "--mmproj", mmproj, "--cases", path}, 1, "eval");
    expect_clean({"run", "-m", model, "--mmproj", mmproj, "-p", "x", "--image", path}, 1, "picture");
  }
  expect_clean({"run", "-m", model, "-f", gone}, 1, "question");
  expect_clean({"run", "-m", model, "--mmproj", mmproj, "-p", "x", "--image", kPicture, "--boxes", text}, 1, "boxes");
}

// The same in names of tensors, which have at most 63 bytes.
std::vector<std::string> hostile_names() {
  std::vector<std::string> names = {""};
  for (std::string_view rest = hostile(); !rest.empty();) {
    const size_t n = utf8_step(rest).n_bytes;
    if (names.back().size() + n > 63) names.emplace_back();
    names.back() += rest.substr(0, n);
    rest.remove_prefix(n);
  }
  return names;
}

// A file that is no model but whose every text is hostile.
std::string hostile_gguf(const std::string& architecture) {
  gguf_test::GgufBuilder builder;
  builder.text("general.architecture", architecture).text("general.name", hostile_bytes());
  builder.text(hostile(), "value").text("other", hostile_bytes());
  builder.array("list", GgufType::kString, 1, gguf_test::str(hostile()));
  for (const std::string& name : hostile_names()) {
    builder.tensor(name, {4}, DType::kF32, std::string(16, '\xff'));  // no numbers: a finding
  }
  return builder.build();
}

TEST(Terminal, TextsOfModelFiles) {
  const ScratchDir dir;
  const std::string file = dir.write("evil.gguf", hostile_gguf(hostile()));
  expect_clean({"run", "-m", file, "-p", "x"}, 1, "run");
  expect_clean({"inspect", file, "--check-data"}, 0, "inspect");
  expect_clean({"inspect", file, "--all"}, 0, "inspect whole");
  expect_clean({"quantize", file, dir.file("out.gguf"), "Q8_0"}, 1, "quantize");
}

// JSON escapes by its own rules: the same value is read.
TEST(Terminal, JsonKeepsTheValue) {
  const ScratchDir dir;
  const std::string file = dir.write("evil.gguf", hostile_gguf("test"));
  const RunResult result = run_glimpse({"inspect", file, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(is_clean(result.out)) << testing::PrintToString(result.out);
  const json parsed = json::parse(result.out, nullptr, false);
  ASSERT_TRUE(parsed.is_object());
  std::string names;
  for (const json& tensor : parsed.at("tensors")) names += tensor.at("name").get<std::string>();
  EXPECT_EQ(names, hostile());
  EXPECT_EQ(parsed.at("metadata").at(hostile()), "value");
}

TEST(Terminal, CasesAndTheirAnswers) {
  const ScratchDir dir;
  json file;
  file["cases"] = json::array({{{"task", hostile()},
                                {"pictures", json::array()},
                                {"turns", json::array({json::array({hostile(), hostile()})})},
                                {"score", "exact"}}});
  const std::vector<std::string> eval = {
      "eval", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "--cases", dir.path(),
      "-n",   "1"};
  const auto with = [&](const std::string& more) {
    auto arguments = eval;
    arguments.push_back(more);
    return arguments;
  };
  dir.write("cases.json", file.dump());
  expect_clean(with("--wrong"), 0, "eval --wrong");
  const RunResult as_json = run_glimpse(with("--json"));
  EXPECT_TRUE(is_clean(as_json.out)) << testing::PrintToString(as_json.out);
  EXPECT_EQ(json::parse(as_json.out, nullptr, false).at("cases").at(0).at("question"), hostile());
  file["cases"][0]["score"] = hostile();
  dir.write("cases.json", file.dump());
  expect_clean(eval, 1, "an unknown score");
}

// The id of the token that is one byte, as a vocabulary spells it.
std::string escape_token_bias() {
  const Result<GgufFile> file = GgufFile::open(golden("tied/model.gguf"));
  const auto* tokens = file.ok() ? file.value().string_array("tokenizer.ggml.tokens") : nullptr;
  if (tokens == nullptr) return "";
  const auto found = std::find(tokens->begin(), tokens->end(), "\xC4\x9B");  // U+011B stands for byte 0x1b
  return std::to_string(found - tokens->begin()) + "+1000";
}

// A model's words are the user's data: a file gets them as they are, a terminal does not obey them.
TEST(Terminal, WordsOfTheModel) {
  const std::vector<std::string> arguments = {"run", "-m",           golden("tied/model.gguf"), "-p", "hello", "-n",
                                              "3",   "--logit-bias", escape_token_bias()};
  EXPECT_EQ(run_glimpse(arguments).out, "\x1b\x1b\x1b\n");
  RunSetup terminal;
  terminal.on_terminal = true;
  const RunResult result = run_glimpse(arguments, terminal);
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("\\x1b\\x1b\\x1b"));
  EXPECT_THAT(result.out, Not(HasSubstr("\x1b\x1b")));  // the progress line has its own
}

// A log line begins where a line begins: the progress line is erased before.
TEST(Terminal, LogsDoNotFollowAProgressLine) {
  RunSetup terminal;
  terminal.on_terminal = true;
  const RunResult result =
      run_glimpse({"run", "-m", golden("tied/model.gguf"), "-p", "hello", "-n", "2", "--verbose"}, terminal);
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("%"));  // there was a progress line
  size_t n_logs = 0;
  for (size_t at = 0; (at = result.out.find("info: ", at)) != std::string::npos; ++at, ++n_logs) {
    const std::string before = result.out.substr(0, at);
    EXPECT_TRUE(before.empty() || before.ends_with("\n") || before.ends_with("\r\x1b[K"))
        << testing::PrintToString(before);
  }
  EXPECT_GT(n_logs, 1u);
}

}  // namespace
}  // namespace glimpse::cli_test
