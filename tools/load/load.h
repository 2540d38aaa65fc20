// Requests to a server of OpenAI's interface, several at a time, and how long they take.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::load {

struct Settings {
  std::string url;      // "http://127.0.0.1:8080", with or without "/v1"
  std::string api_key;  // "": none
  std::string model;    // as the server calls it
  std::string prompt;
  std::vector<std::string> images;  // bytes of picture files; requests take them in turn. None: text alone
  std::string extra;                // "", or a JSON object whose members each request gets
  int64_t max_tokens = 64;
  std::vector<int64_t> concurrency = {1, 2, 4, 8};  // requests at a time, one level after the other
  int64_t n_requests = 0;                           // of a level; 0: 4 times its concurrency
  int64_t n_warmup = 1;                             // requests before the first level
  bool same = false;  // all requests begin alike: a server's prompt cache may answer. Else each has a number in front
  double timeout_seconds = 300;  // of a request
  double wait_seconds = 0;       // for the server to be ready
  std::function<bool()> cancelled;
  std::function<void(const std::string& what)> say;  // what is being measured
};

/// Of one request; milliseconds since it was sent.
struct Exchange {
  std::string error;  // "": it was answered
  double first_token_ms = 0;
  double total_ms = 0;
  std::vector<double> gaps_ms;                       // between the pieces of the answer
  int64_t n_prompt_tokens = 0, n_output_tokens = 0;  // as the server counts; without, the pieces
  std::string text;
};

struct Summary {
  double mean = 0, p50 = 0, p95 = 0;
};
Summary summarize(std::vector<double> values);

struct Level {
  int64_t concurrency = 0, n_requests = 0, n_failed = 0;
  double seconds = 0;  // from the first request to the last answer
  double requests_per_second = 0, output_tokens_per_second = 0;
  double prompt_tokens = 0, output_tokens = 0;  // means of a request
  Summary first_token_ms, between_tokens_ms, total_ms;
  std::string first_error;
};
Level summarize(const std::vector<Exchange>& exchanges, int64_t concurrency, double seconds);

/// Errors: kInvalidArgument (the URL, extra), kIo: the server is not there, or answers nothing; kCancelled.
Result<std::vector<Level>> run_load(const Settings& settings);

/// "md", "csv", "json" or "jsonl".
std::string report(const std::vector<Level>& levels, const Settings& settings, const std::string& format);

}  // namespace glimpse::load
