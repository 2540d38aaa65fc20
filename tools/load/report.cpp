#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tools/load/load.h"

namespace glimpse::load {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Summary& s) {
  return {{"mean", s.mean}, {"p50", s.p50}, {"p95", s.p95}};
}
Json json_of(const Level& l) {
  return {{"concurrency", l.concurrency},
          {"requests", l.n_requests},
          {"failed", l.n_failed},
          {"error", l.first_error},
          {"seconds", l.seconds},
          {"requests_per_second", l.requests_per_second},
          {"output_tokens_per_second", l.output_tokens_per_second},
          {"prompt_tokens", l.prompt_tokens},
          {"output_tokens", l.output_tokens},
          {"ttft_ms", json_of(l.first_token_ms)},
          {"itl_ms", json_of(l.between_tokens_ms)},
          {"total_ms", json_of(l.total_ms)}};
}

std::string dumped(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string csv(const std::vector<Level>& levels) {
  std::string text =
      "concurrency,requests,failed,seconds,requests_per_second,output_tokens_per_second,prompt_tokens,output_tokens";
  for (const char* name : {"ttft", "itl", "total"}) text += format(",%s_ms_mean,%s_ms_p50,%s_ms_p95", name, name, name);
  text += "\n";
  for (const Level& l : levels) {
    text += format("%d,%d,%d,%.4f,%.4f,%.3f,%.1f,%.1f", l.concurrency, l.n_requests, l.n_failed, l.seconds,
                   l.requests_per_second, l.output_tokens_per_second, l.prompt_tokens, l.output_tokens);
    for (const Summary& s : {l.first_token_ms, l.between_tokens_ms, l.total_ms}) {
      text += format(",%.3f,%.3f,%.3f", s.mean, s.p50, s.p95);
    }
    text += "\n";
  }
  return text;
}

std::string table(const std::vector<Level>& levels, const Settings& settings) {
  std::string text = format("%s, %s, at most %d tokens an answer%s\n\n", settings.url,
                            settings.images.empty()       ? "text alone"
                            : settings.images.size() == 1 ? "one picture"
                                                          : format("%d pictures in turn", settings.images.size()),
                            settings.max_tokens, settings.same ? ", all requests alike" : "");
  text += "| at a time | requests | failed | requests/s | tokens/s | prompt + answer | TTFT ms: mean, p50, p95 | ";
  text += "between tokens ms: mean, p50, p95 | whole ms: mean, p50, p95 |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const Level& l : levels) {
    text += format("| %d | %d | %d | %.2f | %.1f | %.0f + %.0f |", l.concurrency, l.n_requests, l.n_failed,
                   l.requests_per_second, l.output_tokens_per_second, l.prompt_tokens, l.output_tokens);
    for (const Summary& s : {l.first_token_ms, l.between_tokens_ms, l.total_ms}) {
      text += format(" %.1f, %.1f, %.1f |", s.mean, s.p50, s.p95);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

Summary summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  // Nearest rank: a value that was measured.
  const auto rank = [&](double p) {
    const auto n = static_cast<double>(values.size());
    return values[static_cast<size_t>(std::max(1.0, std::ceil(p * n))) - 1];
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), rank(0.5), rank(0.95)};
}

Level summarize(const std::vector<Exchange>& exchanges, int64_t concurrency, double seconds) {
  Level level;
  level.concurrency = concurrency;
  level.n_requests = static_cast<int64_t>(exchanges.size());
  level.seconds = seconds;
  std::vector<double> first, between, total;
  for (const Exchange& exchange : exchanges) {
    if (!exchange.error.empty()) {
      if (level.n_failed++ == 0) level.first_error = exchange.error;
      continue;
    }
    if (exchange.first_token_ms > 0) first.push_back(exchange.first_token_ms);
    between.insert(between.end(), exchange.gaps_ms.begin(), exchange.gaps_ms.end());
    total.push_back(exchange.total_ms);
    level.prompt_tokens += static_cast<double>(exchange.n_prompt_tokens);
    level.output_tokens += static_cast<double>(exchange.n_output_tokens);
  }
  const auto n = static_cast<double>(total.size());
  if (n == 0 || seconds <= 0) return level;
  level.requests_per_second = n / seconds;
  level.output_tokens_per_second = level.output_tokens / seconds;
  level.prompt_tokens /= n;
  level.output_tokens /= n;
  level.first_token_ms = summarize(std::move(first));
  level.between_tokens_ms = summarize(std::move(between));
  level.total_ms = summarize(std::move(total));
  return level;
}

std::string report(const std::vector<Level>& levels, const Settings& settings, const std::string& format) {
  if (format == "csv") return csv(levels);
  if (format == "md") return table(levels, settings);
  Json list = Json::array();
  std::string lines;
  for (const Level& level : levels) {
    list.push_back(json_of(level));
    lines += dumped(list.back(), -1);
  }
  return format == "jsonl" ? lines : dumped(list, 2);
}

}  // namespace glimpse::load
