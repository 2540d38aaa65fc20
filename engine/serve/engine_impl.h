// What an Engine is made of. Its face to other threads is in engine.cpp; what a step does in engine_step.cpp, with its
// pictures in engine_pictures.cpp and its passes in engine_pass.cpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/base/own_thread.h"
#include "engine/base/sha256.h"
#include "engine/generate/picture_encoder.h"
#include "engine/generate/session_plan.h"
#include "engine/generate/workbench.h"
#include "engine/serve/embedding_cache.h"
#include "engine/serve/engine.h"
#include "engine/serve/prefix_cache.h"

namespace glimpse {

using EngineClock = std::chrono::steady_clock;

inline double engine_ms_since(EngineClock::time_point start) {
  return std::chrono::duration<double, std::milli>(EngineClock::now() - start).count();
}

/// What goes wrong for one request is its own error. To tell that memory ran out takes none.
template <typename Work>
Status told_of(Work&& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory, "out of memory"};
  } catch (const std::exception& error) {
    return make_error(ErrorCode::kInternal, "an exception: %s", error.what());
  } catch (...) {
    return make_error(ErrorCode::kInternal, "an unknown exception");
  }
}

/// A picture of a request, in the order of its messages.
struct JobPicture {
  std::shared_ptr<const RequestImage> source;
  std::optional<Sha256Digest> name;     // of its file's bytes
  std::optional<Sha256Digest> content;  // of what the encoder sees of it
  std::optional<PreparedPicture> prepared;
  bool alone = false;  // it was in a pass that failed
  std::shared_ptr<const ImageEmbedding> embedding;
};

/// A request from submit() to its end.
struct Job {
  RequestId id = 0;
  Request request;
  EngineClock::time_point submitted = EngineClock::now();
  std::atomic<bool> cancelled{false};

  // -- of the thread that runs the engine
  enum class Stage { kPictures, kReady, kPrompt, kAnswer };
  Stage stage = Stage::kPictures;
  std::unique_ptr<Session> session;
  std::vector<JobPicture> pictures;
  std::vector<RowKey> rows;  // of the prompt, from kReady on
  int64_t n_blocks = 0;      // pages that it may come to need
  Timings spent;             // on pictures
  RequestResult result;

  bool over() const {
    return cancelled ||
           (request.deadline_ms > 0 && engine_ms_since(submitted) >= static_cast<double>(request.deadline_ms));
  }
  bool sees_all() const {
    return std::all_of(pictures.begin(), pictures.end(), [](const JobPicture& p) { return p.embedding != nullptr; });
  }
  bool has_pages() const { return stage == Stage::kPrompt || stage == Stage::kAnswer; }
};

/// Pictures of one pass of the vision encoder.
struct PictureGroup {
  std::vector<std::pair<Job*, JobPicture*>> members;
  int64_t n_patches = 0;
  bool alone = false;
};

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  EngineOptions options;
  int64_t context = 0;
  std::string encoder_name;  // of all that an embedding's bits depend on, but for the picture

  // -- any thread's
  mutable std::mutex mutex;
  std::condition_variable changed;  // a request came or ended
  std::unordered_map<RequestId, std::shared_ptr<Job>> jobs;
  std::vector<std::shared_ptr<Job>> waiting;  // the next one to admit first
  RequestId last_id = 0;
  bool accepting = true, quitting = false;
  int n_stopping = 0;  // calls of stop() that see to the end of all requests
  EngineStats counted;
  OwnThread thread;
  mutable std::mutex long_text_mutex;

  // -- of the thread that runs the engine
  std::mutex step_mutex;
  std::atomic<const void*> stepping{nullptr};  // this_thread() of the one that steps
  std::atomic<bool> abandoned{false};          // the engine ended in a callback
  // process_number() of the process that has the thread of its own (0: none), and of the one that steps.
  std::atomic<uint32_t> thread_process{0}, stepping_process{0};
  std::shared_ptr<Workbench> bench;
  std::shared_ptr<KvPages> pages;  // of the bench
  std::unique_ptr<EmbeddingCache> embeddings;
  std::unique_ptr<PrefixCache> prefixes;
  std::vector<std::unique_ptr<Session>> idle;  // sessions of no request, all of one family
  std::vector<std::shared_ptr<Job>> running;   // in the order of admission
  bool picture_before = false;                 // the last step was a picture's
  double row_ms = 0;                           // of a prompt's row in a pass, lately; 0: not known yet

  // engine.cpp
  Status check(const Request& request) const;
  Status check_size(int64_t n, int64_t n_pictures, int64_t max_tokens) const;
  Status check_text(size_t n_bytes) const;
  bool left_behind() const;
  bool step_alone();
  bool is_idle() const;
  void cancel_all();
  void loop();

  // engine_step.cpp
  bool step();
  bool try_step();
  void drop_ended();
  void admit();
  void finish(Job& job, Status status);
  void keep_rows(Job& job);
  void tell_pages();

  // engine_pictures.cpp
  bool encode_pictures();
  Status get_picture(Job& job, JobPicture& picture);
  Status open_picture(Job& job, JobPicture& picture);
  Status open_video(JobPicture& picture);
  bool share_picture(Job& job, JobPicture& picture);
  void found_picture(Job& job, JobPicture& picture, std::shared_ptr<const ImageEmbedding> embedding);
  bool gather(Job& job, PictureGroup& group, Status& status);
  Status encode_group(const PictureGroup& group);
  Result<ImageEmbedding> encode_video(const RequestVideo& video, const ProgressSink& progress);

  // engine_pass.cpp
  Status make_ready(Job& job);
  void start_prompts();
  bool waits_for_another(const Job& job) const;
  bool start_prompt(Job& job);
  int64_t pages_wanted(const Job& job) const;
  int64_t spare_pages() const;
  int64_t slice_rows(bool answers_wait) const;
  std::vector<std::pair<Job*, int64_t>> next_pass() const;
  void run_pass();
  void take_step(Job& job, Result<Session::Step> step);
};

}  // namespace glimpse
