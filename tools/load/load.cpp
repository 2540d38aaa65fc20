#include "tools/load/load.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/base/hash.h"
#include "tools/load/event_stream.h"
#include "tools/serve/base64.h"

namespace glimpse::load {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::string why(httplib::Error error) {
  if (error == httplib::Error::Connection) return "no connection";
  if (error == httplib::Error::Read) return "the connection broke off, or nothing came in time";
  return httplib::to_string(error);
}

struct Address {
  std::string server, prefix;  // "http://host:port", "/v1"
};
Result<Address> parse_url(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos || (!url.starts_with("http://") && !url.starts_with("https://"))) {
    return make_error(ErrorCode::kInvalidArgument, "%s is no http:// address of a server", url);
  }
  const size_t slash = std::min(url.find('/', scheme + 3), url.size());
  Address address{url.substr(0, slash), url.substr(slash)};
  while (address.prefix.ends_with('/')) address.prefix.pop_back();
  if (address.prefix.empty()) address.prefix = "/v1";
  return address;
}

// A picture's type is told by its first bytes; servers look at the bytes, too.
std::string data_url(const std::string& bytes) {
  const char* type = "image/jpeg";
  if (bytes.starts_with("\x89PNG")) type = "image/png";
  if (bytes.starts_with("RIFF")) type = "image/webp";
  return std::string("data:") + type + ";base64," + serve::encode_base64(bytes);
}

class Load {
 public:
  Load(const Settings& settings, Address address, json extra)
      : s_(settings), address_(std::move(address)), extra_(std::move(extra)) {
    for (const std::string& bytes : s_.images) urls_.push_back(data_url(bytes));
    nonce_ = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  }

  Result<std::vector<Level>> run() {
    GLIMPSE_TRY(wait_until_ready());
    if (s_.n_warmup > 0) {
      say("warming up");
      const std::vector<Exchange> first = run_level(1, s_.n_warmup).first;
      for (const Exchange& exchange : first) {
        if (cancelled()) return make_error(ErrorCode::kCancelled, "interrupted");
        if (!exchange.error.empty()) return make_error(ErrorCode::kIo, "%s: %s", s_.url, exchange.error);
      }
    }
    std::vector<Level> levels;
    for (const int64_t concurrency : s_.concurrency) {
      const int64_t n = s_.n_requests > 0 ? s_.n_requests : 4 * concurrency;
      say(format("%d requests, %d at a time", n, concurrency));
      const auto [exchanges, seconds] = run_level(concurrency, n);
      if (cancelled()) return make_error(ErrorCode::kCancelled, "interrupted");
      levels.push_back(summarize(exchanges, concurrency, seconds));
      if (levels.back().n_failed == n) {
        return make_error(ErrorCode::kIo, "%s: no request was answered: %s", s_.url, levels.back().first_error);
      }
    }
    return levels;
  }

 private:
  bool cancelled() const { return s_.cancelled && s_.cancelled(); }
  void say(const std::string& what) const {
    if (s_.say) s_.say(what);
  }

  std::unique_ptr<httplib::Client> connect() const {
    auto client = std::make_unique<httplib::Client>(address_.server);
    client->set_keep_alive(true);
    client->set_tcp_nodelay(true);
    client->set_connection_timeout(10);
    client->set_read_timeout(static_cast<time_t>(std::ceil(s_.timeout_seconds)));
    client->set_write_timeout(static_cast<time_t>(std::ceil(s_.timeout_seconds)));
    if (!s_.api_key.empty()) client->set_bearer_token_auth(s_.api_key.c_str());
    return client;
  }

  // A server that loads its model answers /health with 503; one that is not up yet, not at all.
  Status wait_until_ready() const {
    const auto start = Clock::now();
    const auto client = connect();
    for (bool waited = false; s_.wait_seconds > 0; waited = true) {
      const httplib::Result answer = client->Get("/health");
      if (answer && answer->status != 503) return {};
      if (cancelled()) return make_error(ErrorCode::kCancelled, "interrupted");
      if (ms_since(start) > 1000 * s_.wait_seconds) {
        return make_error(ErrorCode::kIo, "%s is not ready after %g s: %s", s_.url, s_.wait_seconds,
                          answer ? "status 503" : why(answer.error()));
      }
      if (!waited) say("waiting for the server");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return {};
  }

  std::string body(uint64_t number) const {
    json content = json::array();
    std::string mark;
    if (!s_.same) {  // of one length, so that all prompts have about as many tokens
      Hash64 hash;
      hash.add(nonce_);
      hash.add(number);
      mark = format("[%08x] ", static_cast<uint32_t>(hash.value()));
    }
    json request = {{"messages", json::array()},
                    {"max_tokens", s_.max_tokens},
                    {"temperature", 0},
                    {"stream", true},
                    {"stream_options", {{"include_usage", true}}}};
    if (!s_.model.empty()) request["model"] = s_.model;
    if (urls_.empty()) {
      request["messages"].push_back({{"role", "user"}, {"content", mark + s_.prompt}});
    } else {
      if (!mark.empty()) content.push_back({{"type", "text"}, {"text", mark}});
      content.push_back({{"type", "image_url"}, {"image_url", {{"url", urls_[number % urls_.size()]}}}});
      content.push_back({{"type", "text"}, {"text", s_.prompt}});
      request["messages"].push_back({{"role", "user"}, {"content", std::move(content)}});
    }
    request.update(extra_);
    return request.dump(-1, ' ', false, json::error_handler_t::replace);
  }

  Exchange ask(httplib::Client& client, uint64_t number) const;

  // n requests by so many threads, and the seconds that all of them took.
  std::pair<std::vector<Exchange>, double> run_level(int64_t concurrency, int64_t n) {
    std::vector<Exchange> exchanges(static_cast<size_t>(n));
    std::atomic<int64_t> next{0};
    const uint64_t first = n_sent_;
    n_sent_ += static_cast<uint64_t>(n);
    const auto start = Clock::now();
    const auto work = [&] {
      const auto client = connect();
      for (int64_t i = next++; i < n && !cancelled(); i = next++) {
        try {
          exchanges[static_cast<size_t>(i)] = ask(*client, first + static_cast<uint64_t>(i));
        } catch (const std::exception& error) {
          exchanges[static_cast<size_t>(i)].error = error.what();
        }
      }
    };
    std::vector<std::thread> threads;
    for (int64_t i = 1; i < std::min(concurrency, n); ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    return {std::move(exchanges), ms_since(start) / 1000};
  }

  const Settings& s_;
  const Address address_;
  const json extra_;
  std::vector<std::string> urls_;
  uint64_t nonce_ = 0, n_sent_ = 0;
};

// The pieces of one answer, as they arrive.
class Listener {
 public:
  explicit Listener(Exchange& exchange)
      : exchange_(exchange), stream_([this](const StreamEvent& event) { take(event); }) {}

  void start() { start_ = last_ = Clock::now(); }
  bool add(std::string_view bytes) { return stream_.add(bytes); }
  bool done() const { return done_; }
  void finish() {
    exchange_.total_ms = ms_since(start_);
    if (exchange_.n_output_tokens <= 0) exchange_.n_output_tokens = n_pieces_;
  }

 private:
  void take(const StreamEvent& event) {
    if (!event.error.empty() && exchange_.error.empty()) exchange_.error = event.error;
    if (event.n_prompt_tokens >= 0) exchange_.n_prompt_tokens = event.n_prompt_tokens;
    if (event.n_output_tokens >= 0) exchange_.n_output_tokens = event.n_output_tokens;
    done_ = done_ || event.done;
    exchange_.text += event.text;
    if (!event.has_token) return;
    if (n_pieces_++ == 0) {
      exchange_.first_token_ms = ms_since(start_);
    } else {
      exchange_.gaps_ms.push_back(ms_since(last_));
    }
    last_ = Clock::now();
  }

  Exchange& exchange_;
  EventStream stream_;
  Clock::time_point start_, last_;
  int64_t n_pieces_ = 0;
  bool done_ = false;
};

Exchange Load::ask(httplib::Client& client, uint64_t number) const {
  Exchange exchange;
  Listener listener(exchange);
  std::string refused;
  int status = 0;
  httplib::Request request;
  request.method = "POST";
  request.path = address_.prefix + "/chat/completions";
  request.set_header("Content-Type", "application/json");
  request.set_header("Accept", "text/event-stream");
  request.body = body(number);
  request.response_handler = [&](const httplib::Response& response) {
    status = response.status;
    return true;
  };
  request.content_receiver = [&](const char* bytes, size_t n, uint64_t, uint64_t) {
    if (cancelled()) return false;
    if (status == 200) return listener.add({bytes, n});
    refused.append(bytes, std::min(n, size_t{4096} - std::min(refused.size(), size_t{4096})));
    return true;
  };
  listener.start();
  const httplib::Result answer = client.send(request);
  listener.finish();
  if (!exchange.error.empty()) return exchange;
  if (status != 0 && status != 200) {
    exchange.error = format("status %d: %s", status, error_message(refused));
  } else if (!answer) {
    exchange.error = why(answer.error());
  } else if (!listener.done()) {
    exchange.error = "the answer broke off, or is no stream";
  }
  return exchange;
}

}  // namespace

Result<std::vector<Level>> run_load(const Settings& settings) {
  GLIMPSE_ASSIGN(Address address, parse_url(settings.url));
  json extra = json::object();
  if (!settings.extra.empty()) extra = json::parse(settings.extra, nullptr, false);
  if (!extra.is_object()) return make_error(ErrorCode::kInvalidArgument, "%s is no JSON object", settings.extra);
  return Load(settings, std::move(address), std::move(extra)).run();
}

}  // namespace glimpse::load
