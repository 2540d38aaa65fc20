// glimpse load against our own server with the demo model, and what it makes of streams and times.
#include "tools/load/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/dialogue.h"
#include "tests/cli/process.h"
#include "tools/load/event_stream.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

const std::string kModels = GLIMPSE_SOURCE_DIR "/models/";

TEST(LoadStream, PiecesComeInWhateverWayTheBytesAreCut) {
  const std::string bytes =
      ": comment\r\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n"
      "data:{\"choices\":[{\"delta\":{\"content\":\"a\\n\"}}]}\n\ndata: "
      "{\"choices\":[{\"delta\":{\"reasoning_content\":"
      "\"b\"},\"finish_reason\":\"stop\"}]}\n\nevent: x\ndata: no json\ndata: {\"choices\":[],\"usage\":{"
      "\"prompt_tokens\":5,\"completion_tokens\":7}}\n\ndata: {\"error\":{\"message\":\"full\"}}\n\ndata: [DONE]\n\n";
  for (size_t step = 1; step <= bytes.size(); step = step * 2 + 1) {
    std::string text, error, finish;
    int n_tokens = 0, n_done = 0;
    int64_t n_prompt = -1, n_output = -1;
    load::EventStream stream([&](const load::StreamEvent& event) {
      text += event.text;
      n_tokens += event.has_token ? 1 : 0;
      n_done += event.done ? 1 : 0;
      n_prompt = std::max(n_prompt, event.n_prompt_tokens);
      n_output = std::max(n_output, event.n_output_tokens);
      error += event.error;
      finish += event.finish_reason;
    });
    for (size_t at = 0; at < bytes.size(); at += step) ASSERT_TRUE(stream.add(bytes.substr(at, step)));
    EXPECT_EQ(text, "a\n") << step;
    EXPECT_EQ(n_tokens, 2) << step;
    EXPECT_EQ(n_done, 1) << step;
    EXPECT_EQ(n_prompt, 5);
    EXPECT_EQ(n_output, 7);
    EXPECT_EQ(error, "full");
    EXPECT_EQ(finish, "stop");
  }
  load::EventStream endless([](const load::StreamEvent&) {});
  bool more = true;
  for (int i = 0; i < 100 && more; ++i) more = endless.add(std::string(1 << 16, 'x'));
  EXPECT_FALSE(more);
}

TEST(LoadStream, ATokenWithoutTextIsOne) {
  int n_tokens = 0;
  load::EventStream stream([&](const load::StreamEvent& event) { n_tokens += event.has_token ? 1 : 0; });
  stream.add("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
  stream.add("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n");
  stream.add("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
  EXPECT_EQ(n_tokens, 0);
  stream.add("data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n");
  EXPECT_EQ(n_tokens, 1);
}

TEST(LoadTimes, AreThoseOfTheRequestsThatWereAnswered) {
  std::vector<load::Exchange> exchanges(3);
  exchanges[0] = {"", 10, 40, {10, 20}, 5, 3, "x"};
  exchanges[1] = {"", 30, 60, {30}, 7, 2, "y"};
  exchanges[2].error = "refused";
  const load::Level level = load::summarize(exchanges, 2, 0.5);
  EXPECT_EQ(level.n_requests, 3);
  EXPECT_EQ(level.n_failed, 1);
  EXPECT_EQ(level.first_error, "refused");
  EXPECT_DOUBLE_EQ(level.requests_per_second, 4);
  EXPECT_DOUBLE_EQ(level.output_tokens_per_second, 10);
  EXPECT_DOUBLE_EQ(level.prompt_tokens, 6);
  EXPECT_DOUBLE_EQ(level.first_token_ms.mean, 20);
  EXPECT_DOUBLE_EQ(level.first_token_ms.p50, 10);
  EXPECT_DOUBLE_EQ(level.first_token_ms.p95, 30);
  EXPECT_DOUBLE_EQ(level.between_tokens_ms.mean, 20);
  EXPECT_DOUBLE_EQ(level.between_tokens_ms.p50, 20);
  EXPECT_DOUBLE_EQ(level.total_ms.p95, 60);
}

TEST(Load, MeasuresOurServer) {
  Dialogue server({"serve", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "--port",
                   "0", "-t", "1", "--parallel", "2"},
                  Dialogue::Over::kPipes);
  ASSERT_TRUE(server.hears("http://127.0.0.1:")) << server.said();
  ASSERT_TRUE(server.hears("\n")) << server.said();
  const std::string said = server.said();
  const size_t at = said.find("http://127.0.0.1:");
  const std::string url = said.substr(at, said.find_first_not_of("0123456789", at + 17) - at);
  const RunResult picture = run_glimpse({"load", url, "--wait", "20", "--image", kModels + "sample.png", "-n", "8",
                                         "--concurrency", "1,3", "--requests", "6", "-o", "json"});
  ASSERT_EQ(picture.exit_code, 0) << picture.err;
  const json levels = json::parse(picture.out);
  ASSERT_EQ(levels.size(), 2u);
  for (const json& level : levels) {
    EXPECT_EQ(level["requests"], 6);
    EXPECT_EQ(level["failed"], 0);
    EXPECT_GT(level["prompt_tokens"], 48);  // the picture's
    EXPECT_GT(level["output_tokens"], 1);
    EXPECT_LE(level["output_tokens"], 8);
    EXPECT_GT(level["requests_per_second"], 0);
    EXPECT_GT(level["ttft_ms"]["p50"], 0);
    EXPECT_GE(level["ttft_ms"]["p95"], level["ttft_ms"]["p50"]);
    EXPECT_GT(level["itl_ms"]["mean"], 0);
    EXPECT_GE(level["total_ms"]["mean"], level["ttft_ms"]["mean"]);
  }
  EXPECT_EQ(levels[1]["concurrency"], 3);
  // Tokens that have no text: a control token, again and again.
  const RunResult silent = run_glimpse({"load", url, "-p", "Hello", "-n", "3", "--concurrency", "1", "--requests", "1",
                                        "--extra", "{\"logit_bias\": {\"1397\": 1000}}", "-o", "json"});
  ASSERT_EQ(silent.exit_code, 0) << silent.err;
  const json none = json::parse(silent.out)[0];
  EXPECT_EQ(none["output_tokens"], 3);
  EXPECT_GT(none["ttft_ms"]["p50"], 0);
  const RunResult csv = run_glimpse(
      {"load", url + "/v1", "-p", "Hello", "-n", "4", "--concurrency", "2", "-o", "csv", "--same", "--warmup", "0"});
  EXPECT_EQ(csv.exit_code, 0) << csv.err;
  EXPECT_THAT(csv.out, testing::MatchesRegex("concurrency,requests[^\n]*\n2,8,0,[^\n]*\n"));
  const RunResult table = run_glimpse({"load", url, "--concurrency", "1", "--requests", "1"});
  EXPECT_THAT(table.out, HasSubstr("| 1 | 1 | 0 |"));
  const RunResult wrong = run_glimpse({"load", url, "--extra", "{\"temperature\": \"hot\"}"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("status 400"));
  EXPECT_THAT(wrong.err, HasSubstr("temperature"));
}

TEST(Load, WhatCannotBeMeasuredIsSaid) {
  const RunResult nobody = run_glimpse({"load", "http://127.0.0.1:1", "-p", "x"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("http://127.0.0.1:1"));
  EXPECT_EQ(nobody.out, "");
  EXPECT_THAT(run_glimpse({"load", "http://127.0.0.1:1", "--wait", "0.2"}).err, HasSubstr("not ready after"));
  EXPECT_THAT(run_glimpse({"load", "ftp://x"}).err, HasSubstr("no http:// address"));
  EXPECT_THAT(run_glimpse({"load", "http://127.0.0.1:1", "--extra", "[1]"}).err, HasSubstr("no JSON object"));
  EXPECT_THAT(run_glimpse({"load", "http://127.0.0.1:1", "--image", "/nowhere"}).err, HasSubstr("/nowhere"));
}

}  // namespace
}  // namespace glimpse::cli_test
