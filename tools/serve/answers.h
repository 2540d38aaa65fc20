// The answers to one request of a client, as they come: from the engine's thread to the one that serves the client.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/serve/engine.h"

namespace glimpse::serve {

/// One token of a choice, or its end.
struct AnswerEvent {
  int choice = 0;
  Session::Step step;                   // when result is not there
  std::optional<RequestResult> result;  // the last of its choice
};

/// Used by one thread; what it holds is cancelled when it goes.
class Answers {
 public:
  /// observe: called by the engine's thread with the end of every choice, also after we are gone; what it throws is
  /// ignored.
  Answers(Engine& engine, std::function<void(const RequestResult&)> observe)
      : engine_(engine), observe_(std::move(observe)), box_(std::make_shared<Mailbox>()) {}
  ~Answers() { cancel(); }
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  /// The next choice. Its callbacks are set here. Errors: those of Engine::submit(); what was submitted before goes on.
  Status submit(Request request);
  /// The next event; nothing when none came in time.
  std::optional<AnswerEvent> next(std::chrono::milliseconds wait);
  /// Whether every choice has ended and every event was taken.
  bool finished() const { return n_open_ == 0; }
  void cancel();

 private:
  struct Mailbox {
    std::mutex mutex;
    std::condition_variable arrived;
    std::list<AnswerEvent> events;
    std::list<AnswerEvent> ends;  // of choices that go on: to tell of an end takes no memory, and always succeeds
    void put(int choice, const Session::Step& step);
    void end(int choice, RequestResult result) noexcept;
  };
  Engine& engine_;
  const std::function<void(const RequestResult&)> observe_;
  const std::shared_ptr<Mailbox> box_;  // callbacks may come later than we live
  std::vector<RequestId> ids_;
  size_t n_open_ = 0;
};

}  // namespace glimpse::serve
