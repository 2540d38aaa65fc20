// From requests of the engine to the response of a client: waiting, streaming, giving up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/serve/engine.h"
#include "tools/serve/http.h"
#include "tools/serve/metrics.h"
#include "tools/serve/responses.h"

namespace glimpse::serve {

/// How an endpoint spells choices. One object per response.
class AnswerStyle {
 public:
  virtual ~AnswerStyle() = default;
  /// A choice of a whole response.
  virtual Json whole(int index, const RequestResult& result) = 0;
  /// What a stream says before a choice's first token; null: nothing.
  virtual Json first(int index) = 0;
  /// What one more token makes known; null: nothing.
  virtual Json step(int index, const Session::Step& step) = 0;
  /// The end of a choice, in one piece or several.
  virtual std::vector<Json> last(int index, const RequestResult& result) = 0;

  /// The whole response of these choices; as OpenAI has it.
  virtual Json response(const ResponseHead& head, Json choices, const std::vector<RequestResult>& results,
                        const std::vector<std::string>& warnings) {
    return response_of(head, std::move(choices), results, warnings);
  }
  /// A piece of a stream with what one choice says.
  virtual Json chunk(const ResponseHead& head, Json choice) { return chunk_of(head, Json::array({std::move(choice)})); }
  /// Whether "[DONE]" ends a stream.
  virtual bool says_done() const { return true; }
};

struct AnswerPlan {
  size_t n_requests = 0;  // one per choice
  /// Makes each in its turn, from the first: what is refused costs no copies of the others. Gone when they are made.
  std::function<Request(size_t index)> request;
  std::shared_ptr<AnswerStyle> style;
  ResponseHead head;
  bool stream = false;
  bool include_usage = false;
  /// A stream that has been silent for so long says ": waiting", which clients read over and proxies count as life; 0:
  /// it does not.
  std::chrono::milliseconds ping{0};
  std::vector<std::string> picture_paths;  // of all pictures of the request: for errors
  std::vector<std::string> warnings;
};

/// Submits the plan's requests and waits: for all answers, or for the first event of a stream, so that what fails
/// before has a status of its own; where that takes longer than two seconds or `ping` the stream begins without, and
/// what fails is an event of it. Throws ApiError. client: looked at while we wait; when it leaves, its requests are
/// cancelled. engine, metrics and client outlive the response.
HttpResponse answer_plan(Engine& engine, Metrics& metrics, AnswerPlan plan, const HttpClient& client);

/// What has become of a choice, as an error when it is one.
void check_result(const RequestResult& result);

}  // namespace glimpse::serve
