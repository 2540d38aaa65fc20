// /v1/embeddings and /v1/rerank: texts and pictures to vectors, documents to scores. What glimpse embed and glimpse
// rerank say of the same, bit for bit.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate/embedder.h"
#include "engine/generate/picture_encoder.h"
#include "engine/serve/engine.h"
#include "tools/serve/generation.h"
#include "tools/serve/http.h"
#include "tools/serve/text_gate.h"

namespace glimpse::serve {

/// What the server was told to do besides answers. Models made for it do it anyway.
struct VectorPolicy {
  bool embeddings = false, reranking = false;
  Pooling pooling = Pooling::kNone;  // how rows become one vector; kNone: as the file says, the mean where it does not
};

/// Makes vectors and scores, one request at a time, beside the engine.
class VectorMaker {
 public:
  /// What the model is for and what was asked for; nullptr: neither of the two. Errors: those of Embedder::create().
  static Result<std::unique_ptr<VectorMaker>> create(const std::shared_ptr<const Model>& model,
                                                     const EngineOptions& options, const VectorPolicy& policy);

  bool embeds() const { return embeds_; }
  bool ranks() const { return ranks_; }

  /// The whole response to a body. engine: encodes the pictures, with those of answers and its caches; nullptr: they
  /// are encoded here. Throws ApiError.
  HttpResponse embeddings(std::string_view text, const RequestPolicy& policy, Engine* engine, const HttpClient& client);
  HttpResponse rerank(std::string_view text, const RequestPolicy& policy, Engine* engine, const HttpClient& client);
  /// From any thread: what is not made by then ends with an error.
  void stop(int64_t grace_ms);

 private:
  using Clock = std::chrono::steady_clock;
  struct Body;
  using Pictures = std::vector<std::shared_ptr<const ImageEmbedding>>;
  explicit VectorMaker(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  template <typename Work>
  auto alone(const HttpClient& client, Work&& work);
  void check_text(const std::vector<RequestPart>& input) const;
  Pictures encode(const std::vector<RequestPart>& parts, const HttpClient& client);
  std::vector<EmbedInput> see(std::vector<std::vector<RequestPart>> inputs, const std::vector<std::string>& paths,
                              Engine* engine, const HttpClient& client);

  const std::shared_ptr<const Model> model_;
  bool embeds_ = false, ranks_ = false;
  int64_t context_ = 0;
  Pooling pooling_ = Pooling::kNone;
  std::atomic<Clock::duration> end_ = Clock::duration::max();  // since the clock's epoch
  TextGate texts_;
  std::mutex mutex_;
  std::condition_variable free_;
  bool busy_ = false;  // somebody uses what follows
  std::unique_ptr<Embedder> embedder_;
  std::unique_ptr<PictureEncoder> encoder_;  // where there is no engine
};

}  // namespace glimpse::serve
