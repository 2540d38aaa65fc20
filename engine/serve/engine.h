// Many questions at once: requests from any thread run together in the passes of one decoder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/generate/memory_plan.h"
#include "engine/generate/session.h"
#include "engine/generate/video.h"
#include "engine/model/model.h"

namespace glimpse {

struct EngineOptions : PictureOptions {
  int n_threads = 0;       // 0: available_cpus()
  int64_t context = 4096;  // most positions of one request, prompt and answer together
  int64_t batch = 512;     // rows of one pass: slices of prompts and one row for each answer under way
  int n_parallel = 4;      // most requests that are under way at once
  int64_t n_queued = 256;  // most requests that wait; further ones are refused (kBusy)
  /// Cache positions of all requests and of the prefixes that are kept; 0: n_parallel * context.
  int64_t pool_slots = 0;
  KvElement kv_element = KvElement::kF16;
  /// Prefixes that some request computed, pictures included, are used by those that begin alike; those that were not
  /// used for longest go first when their pages are needed.
  bool prompt_cache = true;
  /// Embeddings of pictures that were seen before, by their content; 0: none are kept.
  uint64_t image_cache_bytes = uint64_t{256} << 20;
  /// Where they are kept from one process to the next as well, if not empty; the directory must exist.
  std::string image_cache_dir;
  /// Of the files there, at most; those used longest ago go first. 0: no limit.
  uint64_t image_cache_dir_bytes = uint64_t{4} << 30;
  LogSink log;
};

/// What one session, or whoever reads vectors beside the engine, needs of them.
SessionOptions session_options(const EngineOptions& options);

/// Memory that an engine will use, before any of it is allocated. Errors: kInvalidArgument names the option.
Result<MemoryPlan> plan_engine(const Model& model, const EngineOptions& options);

/// Frames of a video that were read before: those to be seen, as sample_frames() chose them.
struct RequestVideo {
  std::vector<Image> frames;    // upright, all of one size
  double fps = 2;               // of these frames
  std::vector<double> seconds;  // when each was taken, ascending; empty: index / fps
  VideoLimits limits;
};

/// As the encoder takes them; the video outlives it.
VideoFrames video_frames(const RequestVideo& video);

/// A picture of a request, read when its turn comes: a file, its bytes, upright pixels, an embedding made before, or a
/// video.
struct RequestImage {
  std::string path;                                 // of a file; empty: the next
  std::string bytes;                                // of a file; empty: the next
  Image pixels;                                     // empty: the next
  std::shared_ptr<const ImageEmbedding> embedding;  // nullptr: the next
  std::shared_ptr<const RequestVideo> video;
};

struct RequestPart {
  std::string text;
  std::shared_ptr<const RequestImage> image;  // when set, text is ignored
};
struct RequestMessage {
  std::string role;  // as Message::role, kRawRole too
  std::vector<RequestPart> parts;
};

using RequestId = uint64_t;

/// Sizes of a request's picture, upright, in pixels; zeros where it was not read.
struct RequestPictureSizes {
  ImageSize original, resized;
};

/// What became of a request. An error leaves what was said before it. Whatever cancelled it (cancel(), its deadline,
/// its callback, the end of the engine), the status is kCancelled and says which; where the answer had begun its reason
/// is kCancelled as well.
struct RequestResult {
  Answer answer;
  Status status;
  double queued_ms = 0;         // until its first pass or picture
  double first_token_ms = 0;    // since submit(); 0: there was none
  double total_ms = 0;          // since submit()
  int64_t n_cached_images = 0;  // pictures that were not encoded again: seen before, or by another request just now
  std::vector<RequestPictureSizes> pictures;  // in the order of the messages; empty when its turn never came
  /// Of a request with only_pictures: what became of them, in the order of its messages.
  std::vector<std::shared_ptr<const ImageEmbedding>> embeddings;
};

struct Request {
  std::vector<RequestMessage> messages;
  PromptOptions prompt;
  /// on_text and progress are not used: on_token has it all.
  GenerateOptions generate;
  /// Ends the request with kCancelled that many milliseconds after submit(), what was said being kept; 0: never.
  int64_t deadline_ms = 0;
  int priority = 0;  // larger ones are admitted first; of equal ones the older
  /// Pictures are encoded, and that is all: texts and `generate` are not looked at.
  bool only_pictures = false;
  /// Both are called by the thread that runs the engine, and may call all of it but ask(); step() and run() do nothing
  /// there. on_token: for each token, as Session::step() gives it; returning false cancels, an exception is the error
  /// of this request. on_done: once, last, whatever happened.
  std::function<bool(const Session::Step& step)> on_token;
  std::function<void(RequestResult result)> on_done;
};

struct EngineStats {
  int64_t n_running = 0, n_waiting = 0;
  int64_t n_pages = 0, n_free_pages = 0, n_kept_pages = 0;  // kept: by the prompt cache alone
  uint64_t page_bytes = 0;
  // Since the beginning.
  uint64_t n_requests = 0, n_finished = 0, n_failed = 0, n_cancelled = 0, n_refused = 0;
  uint64_t n_passes = 0;
  uint64_t n_prompt_tokens = 0;         // run through the decoder
  uint64_t n_cached_prompt_tokens = 0;  // found in the prompt cache
  uint64_t n_generated_tokens = 0;
  uint64_t n_images = 0, n_cached_images = 0;  // but for those that came as embeddings; not encoded again
  uint64_t n_image_tokens = 0;                 // encoded
  // On pictures; in passes with rows of prompts; in those without.
  double image_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};

/// An answer is the same, bit for bit, alone and in any company, with caches and without. (On a GPU, whose bits depend
/// on the number of rows in a pass, prompts go in whole, one after another, and a beginning that was found in the
/// prompt cache may round the rest differently.)
///
/// Whose turn it is: engine_step.cpp says when pictures are encoded, engine_pass.cpp how prompts share passes with
/// answers and who waits for pages.
class Engine {
 public:
  /// end().
  ~Engine();
  /// Allocates everything that plan_engine() names. Errors: those of plan_engine(), kOutOfMemory with the plan's sizes.
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);

  const Model& model() const;
  /// Most positions of one request.
  int64_t context() const;

  // -- from any thread
  /// Errors, with nothing called back: kBusy (the queue is full), kTooLarge (more pages than the pool has, with the
  /// sizes), kInvalidArgument (what can be said without running it: options, messages).
  Result<RequestId> submit(Request request);
  /// It ends with kCancelled at the next pass, unless it is over. Unknown ids are ignored.
  void cancel(RequestId id);
  EngineStats stats() const;

  // -- whoever runs it: one thread of the caller's, or one of its own
  /// One pass, or the pictures of one pass of the vision encoder; false: there is nothing left to do.
  bool step();
  /// step() until nothing is left.
  void run();
  /// A thread of its own steps from now on. Errors: kOutOfMemory (no thread to be had), kInvalidArgument (it runs).
  Status start();
  /// Takes no further requests (kCancelled) and waits until those there are have ended, at most that long: the rest is
  /// cancelled.
  void stop(int64_t grace_ms);
  /// Ends what is under way with kCancelled; in a callback: when that has returned. Nothing is called back any more
  /// when it returns, whoever else still has the engine.
  void end();

  /// Whether start() was called, and stop() not yet.
  bool has_thread() const;
  /// Whether the calling thread is in a callback of this engine.
  bool in_callback() const;
  /// In a child process (fork), whether it had a thread of its own in the parent, or another thread was at work on it:
  /// it is in the middle of something and may only be destroyed. Calls do nothing then and submit() fails (kCancelled).
  bool left_behind() const;

  /// submit() and waiting for the end of it, with the engine's own thread or by stepping. request.on_done is not
  /// called; what submit() refuses is the result's status.
  RequestResult ask(Request request);

 private:
  Engine();
  struct Impl;
  std::shared_ptr<Impl> impl_;  // also of the thread that runs it: a callback may end the engine
};

}  // namespace glimpse
