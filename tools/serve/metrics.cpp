#include "tools/serve/metrics.h"

#include "engine/base/format.h"
#include "tools/serve/process_memory.h"

namespace glimpse::serve {
namespace {

const std::vector<double> kSeconds = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120};
const std::vector<double> kTokenSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5};
const std::vector<double> kTokens = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536};

// Values of labels: backslash, quote and line end are escaped.
std::string escaped(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

void head(const std::string& name, const char* type, const std::string& help, std::string& out) {
  out += format("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void sample(const std::string& name, const std::string& labels, double value, std::string& out) {
  out += format("%s{%s} %.17g\n", name, labels, value);
}

}  // namespace

void Histogram::observe(double value) {
  size_t i = 0;
  while (i < bounds_.size() && value > bounds_[i]) ++i;
  ++counts_[i];
  sum_ += value;
}

void Histogram::write(const std::string& name, const std::string& help, const std::string& labels,
                      std::string& out) const {
  head(name, "histogram", help, out);
  uint64_t n = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    n += counts_[i];
    const std::string bound = i < bounds_.size() ? format("%g", bounds_[i]) : "+Inf";
    out += format("%s_bucket{%s,le=\"%s\"} %d\n", name, labels, bound, n);
  }
  out += format("%s_sum{%s} %.17g\n%s_count{%s} %d\n", name, labels, sum_, name, labels, n);
}

Metrics::Metrics()
    : first_token_(kSeconds),
      per_token_(kTokenSeconds),
      total_(kSeconds),
      queued_(kSeconds),
      prefill_(kSeconds),
      decode_(kSeconds),
      image_(kSeconds),
      prompt_tokens_(kTokens),
      generated_tokens_(kTokens) {}

void Metrics::observe(const RequestResult& result) {
  const std::lock_guard lock(mutex_);
  if (!result.status.ok()) {
    ++finished_[result.status.error().code == ErrorCode::kCancelled ? "abort" : "error"];
    return;
  }
  const Answer& answer = result.answer;
  const bool is_cancelled = answer.reason == FinishReason::kCancelled;
  const bool is_stop = answer.reason == FinishReason::kStop || answer.reason == FinishReason::kStopString;
  ++finished_[is_cancelled ? "abort" : is_stop ? "stop" : "length"];
  const Timings& t = answer.timings;
  if (result.first_token_ms > 0) first_token_.observe(result.first_token_ms / 1e3);
  if (t.n_generated_tokens > 1) per_token_.observe(t.decode / 1e3 / static_cast<double>(t.n_generated_tokens - 1));
  total_.observe(result.total_ms / 1e3);
  queued_.observe(result.queued_ms / 1e3);
  prefill_.observe(t.prefill / 1e3);
  decode_.observe(t.decode / 1e3);
  if (t.n_image_tokens > 0) image_.observe(t.image_encode / 1e3);
  prompt_tokens_.observe(static_cast<double>(t.n_prompt_tokens + t.n_cached_tokens));
  generated_tokens_.observe(static_cast<double>(t.n_generated_tokens));
}

void Metrics::count_response(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[{route, status}];
}

void Metrics::count_connection_refused() {
  const std::lock_guard lock(mutex_);
  ++n_connections_refused_;
}

void Metrics::count_client_left() {
  const std::lock_guard lock(mutex_);
  ++n_clients_left_;
}

void Metrics::count_slow_reader() {
  const std::lock_guard lock(mutex_);
  ++n_slow_readers_;
}

std::string Metrics::write(const EngineStats& s, const std::string& model_name) const {
  const std::lock_guard lock(mutex_);
  const std::string labels = format("model_name=\"%s\"", escaped(model_name));
  std::string out;
  const auto number = [&](const char* name, const char* type, const char* help, double value) {
    head(name, type, help, out);
    sample(name, labels, value, out);
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    number(name, "counter", help, static_cast<double>(value));
  };
  number("vllm:num_requests_running", "gauge", "Requests under way.", static_cast<double>(s.n_running));
  number("vllm:num_requests_waiting", "gauge", "Requests that wait.", static_cast<double>(s.n_waiting));
  const auto n_busy = static_cast<double>(s.n_pages - s.n_free_pages - s.n_kept_pages);
  number("vllm:kv_cache_usage_perc", "gauge", "Cache pages that requests hold, 1 is all.",
         s.n_pages > 0 ? n_busy / static_cast<double>(s.n_pages) : 0);
  counter("vllm:prompt_tokens_total", "Prompt tokens, cached ones too.", s.n_prompt_tokens + s.n_cached_prompt_tokens);
  counter("vllm:generation_tokens_total", "Tokens generated.", s.n_generated_tokens);
  counter("vllm:prefix_cache_queries_total", "Prompt tokens looked for in the prompt cache.",
          s.n_prompt_tokens + s.n_cached_prompt_tokens);
  counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prompt cache.", s.n_cached_prompt_tokens);
  head("vllm:request_success_total", "counter", "Requests that ended, by reason.", out);
  for (const char* const reason : {"stop", "length", "abort", "error"}) {
    const auto found = finished_.find(reason);
    sample("vllm:request_success_total", labels + format(",finished_reason=\"%s\"", reason),
           found == finished_.end() ? 0 : static_cast<double>(found->second), out);
  }
  first_token_.write("vllm:time_to_first_token_seconds", "Until the first token.", labels, out);
  per_token_.write("vllm:request_time_per_output_token_seconds", "Mean time between tokens.", labels, out);
  total_.write("vllm:e2e_request_latency_seconds", "Until the last token.", labels, out);
  queued_.write("vllm:request_queue_time_seconds", "Until work began.", labels, out);
  prefill_.write("vllm:request_prefill_time_seconds", "Reading the prompt.", labels, out);
  decode_.write("vllm:request_decode_time_seconds", "Writing the answer.", labels, out);
  prompt_tokens_.write("vllm:request_prompt_tokens", "Tokens of a prompt.", labels, out);
  generated_tokens_.write("vllm:request_generation_tokens", "Tokens of an answer.", labels, out);
  image_.write("glimpse:image_encode_seconds", "Encoding a request's pictures.", labels, out);
  number("glimpse:image_seconds_total", "counter", "Time that pictures took.", s.image_seconds);
  number("glimpse:prefill_seconds_total", "counter", "Time of prompts.", s.prefill_seconds);
  number("glimpse:decode_seconds_total", "counter", "Time of answers.", s.decode_seconds);
  counter("glimpse:images_total", "Pictures of requests.", s.n_images);
  counter("glimpse:image_cache_hits_total", "Pictures found in the cache of embeddings.", s.n_cached_images);
  counter("glimpse:image_tokens_total", "Tokens that pictures made.", s.n_image_tokens);
  counter("glimpse:passes_total", "Passes of the decoder.", s.n_passes);
  counter("glimpse:requests_refused_total", "Requests refused at once.", s.n_refused);
  counter("glimpse:requests_cancelled_total", "Requests cancelled.", s.n_cancelled);
  counter("glimpse:connections_refused_total", "Connections beyond the limit.", n_connections_refused_);
  counter("glimpse:clients_left_total", "Clients that left before their answer.", n_clients_left_);
  counter("glimpse:slow_readers_total", "Clients that were cut off.", n_slow_readers_);
  const ProcessMemory memory = process_memory();
  number("process_resident_memory_bytes", "gauge", "Resident memory.", static_cast<double>(memory.resident));
  number("glimpse:heap_held_bytes", "gauge", "Memory that malloc has from the system.",
         static_cast<double>(memory.heap_held));
  number("glimpse:heap_used_bytes", "gauge", "Of that, what is in use.", static_cast<double>(memory.heap_used));
  head("glimpse:http_responses_total", "counter", "Responses by route and status.", out);
  for (const auto& [key, n] : responses_) {
    sample("glimpse:http_responses_total",
           labels + format(",route=\"%s\",status=\"%d\"", escaped(key.first), key.second), static_cast<double>(n), out);
  }
  return out;
}

}  // namespace glimpse::serve
