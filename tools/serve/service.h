// What the server answers: its routes, who may use them, and the endpoints.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/serve/engine.h"
#include "tools/serve/answer_format.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/completion.h"
#include "tools/serve/generation.h"
#include "tools/serve/http.h"
#include "tools/serve/metrics.h"
#include "tools/serve/text_gate.h"
#include "tools/serve/vectors.h"

namespace glimpse::serve {

struct AccessPolicy {
  std::vector<std::string> api_keys;      // none: everybody may
  std::vector<std::string> cors_origins;  // "https://example.org", "*"
  /// Names by which the server may be called, besides "localhost" and addresses; empty: any. Set where the server is
  /// for this machine alone: a page elsewhere cannot reach it through a name of its own (DNS rebinding).
  std::vector<std::string> hosts;
  bool any_host = true;
};

/// What answers, once the model is there. Outlives the service's last request.
struct Serving {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;  // nullptr: of a model that makes vectors, and no answers
  std::unique_ptr<VectorMaker> vectors;
  int64_t context = 0;
};

class Service : public HttpHandler {
 public:
  Service(RequestPolicy requests, AccessPolicy access);

  /// While the model loads.
  void show_progress(std::string_view stage, double fraction);
  /// From now on requests are answered.
  void open(const Serving& serving);
  /// From now on they are refused: the server ends.
  void close();

  void admit(const HttpHead& head) override;
  HttpResponse handle(HttpRequest request, const HttpClient& client) override;
  HttpResponse refuse(const HttpHead& head, const ApiError& error) override;
  void note(Event event) override;

 private:
  struct Route;
  static const std::vector<Route>& routes();
  static const Route* find_route(std::string_view path);
  /// Throws ApiError 503 before open() and after close().
  const Serving& serving() const;
  /// Throws ApiError 501 where there is none.
  Engine& engine() const;

  HttpResponse page(const HttpRequest& request, const HttpClient& client);
  HttpResponse health(const HttpRequest& request, const HttpClient& client);
  HttpResponse metrics(const HttpRequest& request, const HttpClient& client);
  HttpResponse models(const HttpRequest& request, const HttpClient& client);
  HttpResponse model(const HttpRequest& request, const HttpClient& client);
  HttpResponse chat(const HttpRequest& request, const HttpClient& client);
  HttpResponse completions(const HttpRequest& request, const HttpClient& client);
  HttpResponse embeddings(const HttpRequest& request, const HttpClient& client);
  HttpResponse llama_completion(const HttpRequest& request, const HttpClient& client);
  HttpResponse llama_embeddings(const HttpRequest& request, const HttpClient& client);
  HttpResponse input_tokens(const HttpRequest& request, const HttpClient& client);
  HttpResponse apply_template(const HttpRequest& request, const HttpClient& client);
  HttpResponse props(const HttpRequest& request, const HttpClient& client);
  HttpResponse adapters(const HttpRequest& request, const HttpClient& client);
  HttpResponse not_here(const HttpRequest& request, const HttpClient& client);
  HttpResponse rerank(const HttpRequest& request, const HttpClient& client);
  HttpResponse tokenize(const HttpRequest& request, const HttpClient& client);
  HttpResponse detokenize(const HttpRequest& request, const HttpClient& client);

  ChatContext chat_context();
  ChatRequest read_chat(const HttpRequest& request);
  /// A chat request's prompt, with as many tokens for each picture as it will have.
  TokenizedChat tokenize_question(const HttpRequest& request);
  int64_t count_tokens(const RequestImage& image, const std::string& path);
  HttpResponse complete(const HttpRequest& request, const HttpClient& client, CompletionKind kind);

  void check_host(const HttpHead& head) const;
  void check_origin(const HttpHead& head) const;
  void check_key(const HttpHead& head) const;
  void add_access_fields(const HttpHead& head, HttpResponse& response) const;
  std::string next_id(const char* prefix);

  const RequestPolicy requests_;
  const AccessPolicy access_;
  Metrics metrics_;
  FormatCache formats_;
  TextGate texts_;
  std::mutex counting_;  // of who reads a picture to count its tokens
  std::atomic<const Serving*> serving_ = nullptr;
  std::atomic<bool> closing_ = false;
  std::atomic<uint64_t> n_ids_ = 0;
  const uint64_t ids_begin_;
  const int64_t started_;  // seconds since 1970
  std::mutex progress_mutex_;
  std::string stage_ = "load";
  double fraction_ = 0;
};

}  // namespace glimpse::serve
