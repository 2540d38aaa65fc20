#include "tools/serve/answer_flow.h"

#include <algorithm>
#include <optional>

#include "tools/serve/answers.h"
#include "tools/serve/api_error.h"

namespace glimpse::serve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{100};       // how often a waiting client is looked at
constexpr std::chrono::milliseconds kPatience{2000};  // for the first event of a stream
constexpr Clock::time_point kForEver = Clock::time_point::max();

/// Waits for events on behalf of a client, which is looked at now and then, however busy the events are.
class Watch {
 public:
  Watch(const HttpClient& client, Metrics& metrics) : client_(client), metrics_(metrics) {}

  /// Nothing when none comes until then.
  std::optional<AnswerEvent> next(Answers& answers, Clock::time_point end = kForEver) {
    for (;;) {
      const Clock::duration left = std::clamp<Clock::duration>(end - Clock::now(), Clock::duration(0), kLook);
      std::optional<AnswerEvent> event = answers.next(std::chrono::ceil<std::chrono::milliseconds>(left));
      const Clock::time_point now = Clock::now();
      if (now - looked_ >= kLook) {
        looked_ = now;
        if (client_.has_left()) {
          metrics_.count_client_left();
          throw client_left();
        }
      }
      if (event || now >= end) return event;
    }
  }

 private:
  const HttpClient& client_;
  Metrics& metrics_;
  Clock::time_point looked_ = Clock::now();
};

/// A stream on its way: the plan without its requests, the events.
class Stream {
 public:
  Stream(AnswerPlan plan, std::unique_ptr<Answers> answers, size_t n_choices, Metrics& metrics,
         const HttpClient& client)
      : plan_(std::move(plan)),
        answers_(std::move(answers)),
        begun_(n_choices),
        results_(n_choices),
        watch_(client, metrics) {}

  /// event: the first, where it is there.
  void run(std::optional<AnswerEvent> event, const StreamWriter& write) {
    for (Clock::time_point said = Clock::now();;) {
      const std::string text = event ? tell(*event) : ": waiting\n\n";
      if (!text.empty()) {
        if (!write(text)) {
          answers_->cancel();
          return;
        }
        said = Clock::now();
      }
      if (answers_->finished()) break;
      try {
        event = watch_.next(*answers_, plan_.ping.count() > 0 ? said + plan_.ping : kForEver);
      } catch (const ApiError& left) {
        answers_->cancel();
        write(error_event(left));
        return;
      }
    }
    write(end());
  }

 private:
  std::string chunk(Json choice) {
    Json json = plan_.style->chunk(plan_.head, std::move(choice));
    if (plan_.include_usage) json["usage"] = nullptr;
    if (!plan_.warnings.empty()) json["warnings"] = std::exchange(plan_.warnings, {});
    return event_of(json);
  }

  std::string error_event(ApiError error) const {
    place_picture_error(plan_.picture_paths, error);
    return format("data: %s\n\n", error_body(error));
  }

  std::string tell(const AnswerEvent& event) {
    const auto at = static_cast<size_t>(event.choice);
    std::string text;
    if (event.result && !event.result->status.ok()) {
      results_[at] = *event.result;
      return error_event(api_error(event.result->status.error()));
    }
    if (!begun_[at]) {
      begun_[at] = true;
      Json first = plan_.style->first(event.choice);
      if (!first.is_null()) text += chunk(std::move(first));
    }
    if (!event.result) {
      Json step = plan_.style->step(event.choice, event.step);
      return step.is_null() ? text : text + chunk(std::move(step));
    }
    results_[at] = *event.result;
    for (Json& last : plan_.style->last(event.choice, *event.result)) text += chunk(std::move(last));
    return text;
  }

  std::string end() {
    Json json = chunk_of(plan_.head, Json::array());
    json["usage"] = usage_of(results_, plan_.head.n_choices);
    json["timings"] = timings_of(results_.front());
    return format("%s%s", plan_.include_usage ? event_of(json) : "",
                  plan_.style->says_done() ? "data: [DONE]\n\n" : "");
  }

  AnswerPlan plan_;
  const std::unique_ptr<Answers> answers_;
  std::vector<bool> begun_;
  std::vector<RequestResult> results_;
  Watch watch_;
};

HttpResponse stream_of(AnswerPlan plan, std::unique_ptr<Answers> answers, size_t n_choices, Metrics& metrics,
                       const HttpClient& client) {
  const Clock::time_point end = plan.ping.count() > 0 ? Clock::now() + std::min(plan.ping, kPatience) : kForEver;
  std::optional<AnswerEvent> event = Watch(client, metrics).next(*answers, end);
  if (event && event->result) check_result(*event->result);
  HttpResponse response;
  response.content_type = "text/event-stream";
  response.fields = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  const auto stream = std::make_shared<Stream>(std::move(plan), std::move(answers), n_choices, metrics, client);
  const auto first = std::make_shared<std::optional<AnswerEvent>>(std::move(event));
  response.stream = [stream, first](const StreamWriter& write) { stream->run(std::move(*first), write); };
  return response;
}

HttpResponse whole_of(const AnswerPlan& plan, Answers& answers, size_t n_choices, Metrics& metrics,
                      const HttpClient& client) {
  std::vector<RequestResult> results(n_choices);
  Watch watch(client, metrics);
  while (!answers.finished()) {
    AnswerEvent event = *watch.next(answers);
    if (!event.result) continue;
    check_result(*event.result);
    results[static_cast<size_t>(event.choice)] = std::move(*event.result);
  }
  Json choices = Json::array();
  for (size_t i = 0; i < n_choices; ++i) choices.push_back(plan.style->whole(static_cast<int>(i), results[i]));
  HttpResponse response;
  response.body = dump(plan.style->response(plan.head, std::move(choices), results, plan.warnings));
  return response;
}

}  // namespace

void check_result(const RequestResult& result) {
  if (!result.status.ok()) throw api_error(result.status.error());
  if (result.answer.reason != FinishReason::kCancelled) return;
  ApiError stopped(503, "the server is being stopped", "", "cancelled");
  stopped.retry_after_s = 5;
  throw stopped;
}

namespace {

HttpResponse answer(Engine& engine, Metrics& metrics, AnswerPlan plan, const HttpClient& client) {
  auto answers = std::make_unique<Answers>(engine, [&metrics](const RequestResult& r) { metrics.observe(r); });
  const size_t n = plan.n_requests;
  for (size_t i = 0; i < n; ++i) {
    const Status status = answers->submit(plan.request(i));
    if (!status.ok()) throw api_error(status.error());
  }
  plan.request = nullptr;
  // When the client leaves, what was asked for is cancelled with the answers.
  if (plan.stream) return stream_of(std::move(plan), std::move(answers), n, metrics, client);
  return whole_of(plan, *answers, n, metrics, client);
}

}  // namespace

HttpResponse answer_plan(Engine& engine, Metrics& metrics, AnswerPlan plan, const HttpClient& client) {
  const std::vector<std::string> picture_paths = plan.picture_paths;
  try {
    return answer(engine, metrics, std::move(plan), client);
  } catch (ApiError& error) {
    place_picture_error(picture_paths, error);
    throw;
  }
}

}  // namespace glimpse::serve
