// What an Engine is made of. Its face to other threads is in engine.cpp, what a step does in engine_step.cpp.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/serve/engine.h"

namespace glimpse {

using EngineClock = std::chrono::steady_clock;

inline double engine_ms_since(EngineClock::time_point start) {
  return std::chrono::duration<double, std::milli>(EngineClock::now() - start).count();
}

/// A request from submit() to its end.
struct Job {
  RequestId id = 0;
  Request request;
  EngineClock::time_point submitted = EngineClock::now();
  std::atomic<bool> cancelled{false};

  // -- of the thread that runs the engine
  std::unique_ptr<Session> session;
  std::vector<std::shared_ptr<const ImageEmbedding>> embeddings;  // of the first pictures, in the order of the messages
  Timings pictures;
  bool begun = false, answering = false;
  RequestResult result;

  bool expired() const {
    return request.deadline_ms > 0 && engine_ms_since(submitted) >= static_cast<double>(request.deadline_ms);
  }
};

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  EngineOptions options;
  std::unique_ptr<Session> root;  // an empty one; those of the requests are its forks

  // -- any thread's
  mutable std::mutex mutex;
  std::condition_variable changed;  // a request came or ended
  std::unordered_map<RequestId, std::shared_ptr<Job>> jobs;
  std::vector<std::shared_ptr<Job>> waiting;  // the next one to admit first
  RequestId last_id = 0;
  bool accepting = true, quitting = false;
  EngineStats counted;
  std::thread thread;

  // -- of the thread that runs the engine
  std::mutex step_mutex;
  std::atomic<std::thread::id> stepping{};
  std::atomic<bool> abandoned{false};  // the engine ended in a callback
  std::vector<std::shared_ptr<Job>> running;

  Status check(const Request& request) const;
  bool step();
  bool step_alone();
  bool idle() const;
  void cancel_all();
  void loop();

  void drop_ended();
  void admit();
  bool encode_next_picture();
  bool prefill_next();
  void answer_all();
  Status encode(Job& job, const RequestImage& image);
  void finish(Job& job, Status status);
};

}  // namespace glimpse
