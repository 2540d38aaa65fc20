#include "tools/compare/outputs.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>

namespace glimpse::compare {
namespace {

using nlohmann::json;

std::optional<double> number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !std::isfinite(value) || value < 0) return std::nullopt;
  return value;
}

// Members of a JSON object that may be missing or of another type.
double real(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}
int64_t integer(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

}  // namespace

Result<PictureRun> parse_mtmd(const std::string& log, const std::string& output) {
  // "image slice encoded in N ms" in older builds, once per picture or slice of one.
  static const std::regex kEncoded(
      R"((?:mtmd batch encoding done|image slice encoded|image/slice encoded) in ([0-9.]+) ms)");
  static const std::regex kImage(R"(decoding image batch \d+/\d+, n_tokens_batch = (\d+))");
  static const std::regex kPrompt(R"(prompt eval time = *([0-9.]+) ms / *(\d+) tokens)");
  static const std::regex kEval(R"((?:^|[: ]) *eval time = *([0-9.]+) ms / *(\d+) runs)");
  PictureRun run;
  bool encoded = false, prompt = false, eval = false;
  double prompt_ms = 0;
  std::istringstream in(log);
  std::string line;
  std::smatch match;
  while (std::getline(in, line)) {
    if (line.size() > 4096) continue;
    if (std::regex_search(line, match, kEncoded)) {
      run.image_encode += number(match[1]).value_or(0);
      encoded = true;
    } else if (std::regex_search(line, match, kImage)) {
      run.n_image += static_cast<int64_t>(number(match[1]).value_or(0));
    } else if (std::regex_search(line, match, kPrompt)) {
      prompt_ms = number(match[1]).value_or(0);
      run.n_prompt = static_cast<int64_t>(number(match[2]).value_or(0));
      prompt = true;
    } else if (std::regex_search(line, match, kEval)) {
      run.decode = number(match[1]).value_or(0);
      run.n_decode = static_cast<int64_t>(number(match[2]).value_or(0));
      eval = true;
    }
  }
  const char* missing = !encoded ? "encoding done in" : !prompt ? "prompt eval time" : !eval ? "eval time" : nullptr;
  if (missing != nullptr) {
    return make_error(ErrorCode::kCorrupt, "llama-mtmd-cli printed no line with \"%s\": is it too old?", missing);
  }
  // Encoding lies inside "prompt eval" when text comes before the picture, as in every chat prompt.
  run.first_token = prompt_ms > run.image_encode ? prompt_ms : prompt_ms + run.image_encode;
  run.prefill = run.first_token - run.image_encode;
  // It prints a newline, the answer and two newlines.
  run.answer = output;
  if (run.answer.starts_with("\n")) run.answer.erase(0, 1);
  for (int i = 0; i < 2 && run.answer.ends_with("\n"); ++i) run.answer.pop_back();
  return run;
}

Result<PictureRun> parse_glimpse_run(const std::string& output) {
  const json j = json::parse(output, nullptr, false);
  if (!j.is_object() || !j.contains("timings") || !j["timings"].is_object() || !j.contains("answer") ||
      !j["answer"].is_string()) {
    return make_error(ErrorCode::kCorrupt, "glimpse run --json printed no answer with timings");
  }
  const json& t = j["timings"];
  PictureRun run;
  run.image_prepare = real(t, "image_decode_ms") + real(t, "image_resize_ms");
  run.image_encode = real(t, "image_encode_ms");
  run.prefill = real(t, "prefill_ms");
  run.first_token = run.image_prepare + run.image_encode + run.prefill;
  run.decode = real(t, "decode_ms");
  run.n_prompt = integer(t, "prompt_tokens");
  run.n_image = integer(t, "image_tokens");
  run.n_decode = std::max<int64_t>(0, integer(t, "generated_tokens") - 1);  // the first comes from the prefill
  run.answer = j["answer"].get<std::string>();
  return run;
}

Result<ServerRun> parse_load(const std::string& output) {
  const json levels = json::parse(output, nullptr, false);
  if (!levels.is_array() || levels.size() != 1 || !levels[0].is_object()) {
    return make_error(ErrorCode::kCorrupt, "glimpse load -o json printed no level");
  }
  const json& level = levels[0];
  const auto mean = [&](const char* name) {
    const auto found = level.find(name);
    return found != level.end() && found->is_object() ? real(*found, "mean") : 0.0;
  };
  return ServerRun{60 * real(level, "requests_per_second"), real(level, "output_tokens_per_second"), mean("ttft_ms"),
                   mean("itl_ms")};
}

Result<std::vector<BenchRow>> parse_bench(const std::string& output) {
  const json j = json::parse(output, nullptr, false);
  if (!j.is_array()) return make_error(ErrorCode::kCorrupt, "bench -o json printed no list");
  std::vector<BenchRow> rows;
  for (const json& item : j) {
    if (!item.is_object()) return make_error(ErrorCode::kCorrupt, "bench -o json printed no list of rows");
    BenchRow row;
    row.n_prompt = integer(item, "n_prompt");
    row.n_gen = integer(item, "n_gen");
    row.n_depth = integer(item, "n_depth");
    row.tokens_per_second = real(item, "avg_ts");
    if (item.contains("build_commit") && item["build_commit"].is_string()) row.commit = item["build_commit"];
    if (row.tokens_per_second <= 0)
      return make_error(ErrorCode::kCorrupt, "bench -o json printed a row without avg_ts");
    rows.push_back(row);
  }
  return rows;
}

}  // namespace glimpse::compare
