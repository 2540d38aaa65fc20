// Counts and times for Prometheus. Names of vLLM where they mean the same, of our own where nobody has one.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/serve/engine.h"

namespace glimpse::serve {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void observe(double value);
  void write(const std::string& name, const std::string& help, const std::string& labels, std::string& out) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;  // the last: beyond every bound
  double sum_ = 0;
};

/// Used by any thread.
class Metrics {
 public:
  Metrics();
  /// A request of the engine has ended.
  void observe(const RequestResult& result);
  /// A response was sent.
  void count_response(const std::string& route, int status);
  void count_connection_refused();
  void count_client_left();
  void count_slow_reader();
  /// The text of /metrics (version 0.0.4).
  std::string write(const EngineStats& stats, const std::string& model_name) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> finished_;  // by reason
  std::map<std::pair<std::string, int>, uint64_t> responses_;
  uint64_t n_connections_refused_ = 0, n_clients_left_ = 0, n_slow_readers_ = 0;
  Histogram first_token_, per_token_, total_, queued_, prefill_, decode_, image_, prompt_tokens_, generated_tokens_;
};

}  // namespace glimpse::serve
