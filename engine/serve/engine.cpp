#include "engine/serve/engine.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "engine/model/kv_pages.h"
#include "engine/serve/engine_impl.h"
#include "tokenizer/token_trie.h"

namespace glimpse {
namespace {

Status check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return make_error(ErrorCode::kInvalidArgument, "%s is %d: it must be in [%d, %d]", name, value, least, most);
}

bool is_folder(const std::string& path) {
  struct stat about;
  return stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

constexpr size_t kLongText = 64 << 10;                   // bytes of one request
constexpr uint64_t kMostCacheBytes = uint64_t{1} << 50;  // sums with it do not overflow

Status check_options(const EngineOptions& options) {
  constexpr int64_t kMostSlots = int64_t{1} << 30;
  GLIMPSE_TRY(check_range("n_parallel", options.n_parallel, 1, 1024));
  GLIMPSE_TRY(check_range("n_queued", options.n_queued, 1, kMostSlots));
  GLIMPSE_TRY(check_range("context", options.context, 1, kMostSlots));
  return check_range("pool_slots", options.pool_slots, 0, kMostSlots);
}

// A session's, with a pool for all. Logs as session_sizes() does.
Result<SessionSizes> engine_sizes(const Model& model, const EngineOptions& options) {
  GLIMPSE_TRY(check_options(options));
  GLIMPSE_ASSIGN(SessionSizes sizes, session_sizes(model, session_options(options)));
  const int64_t of_one = KvPages::pages_for(sizes.context) * kKeyBlock;
  sizes.pool_slots = options.pool_slots > 0 ? options.pool_slots : options.n_parallel * of_one;
  return sizes;
}

MemoryPlan engine_memory(const Model& model, const Ops& ops, const SessionSizes& sizes, const EngineOptions& options) {
  MemoryPlan plan = session_memory(model, ops, sizes, options.kv_element);
  // Of each further session: logits, and the ids of its slots.
  const auto of_session = sizeof(float) * static_cast<uint64_t>(model.text().vocab_size) +
                          2 * sizeof(TokenId) * static_cast<uint64_t>(sizes.context + 1);
  plan.decoder_scratch += static_cast<uint64_t>(options.n_parallel - 1) * of_session;
  if (model.has_vision()) plan.vision_scratch += std::min(options.image_cache_bytes, kMostCacheBytes);
  return plan;
}

}  // namespace

SessionOptions session_options(const EngineOptions& options) {
  SessionOptions session;
  static_cast<PictureOptions&>(session) = options;
  session.n_threads = options.n_threads;
  session.context = options.context;
  session.batch = options.batch;
  session.kv_element = options.kv_element;
  session.log = options.log;
  return session;
}

Result<MemoryPlan> plan_engine(const Model& model, const EngineOptions& options) {
  GLIMPSE_ASSIGN(const SessionSizes sizes, engine_sizes(model, options));
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model.make_ops(sizes.n_threads));
  return engine_memory(model, *ops, sizes, options);
}

Engine::Engine() = default;

Engine::~Engine() {
  if (impl_ != nullptr) end();
}

void Engine::end() {
  if (left_behind()) return;
  if (in_callback()) {
    const std::lock_guard lock(impl_->mutex);
    impl_->abandoned = true;
    if (impl_->thread) impl_->thread.let_go();  // it holds what it needs
  }
  stop(0);
}

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  GLIMPSE_ASSIGN(const SessionSizes sizes, engine_sizes(*model, options));
  if (!options.image_cache_dir.empty() && !is_folder(options.image_cache_dir)) {
    return make_error(ErrorCode::kNotFound, "the image cache %s: there is no such folder", options.image_cache_dir);
  }
  std::unique_ptr<Engine> engine(new Engine());
  engine->impl_ = std::make_shared<Impl>();
  Impl& e = *engine->impl_;
  e.model = model;
  e.options = options;
  e.options.batch = sizes.batch;
  e.context = sizes.context;
  GLIMPSE_ASSIGN(std::unique_ptr<Ops> ops, model->make_ops(sizes.n_threads, options.log));
  const MemoryPlan plan = engine_memory(*model, *ops, sizes, options);
  GLIMPSE_TRY(check_available(plan, *ops, "the engine", "a smaller context, or fewer requests at once"));
  auto bench = Workbench::create(model, sizes, std::move(ops), options.kv_element);
  if (!bench.ok()) return explain(std::move(bench).error(), plan);
  e.bench = std::move(bench).value();
  e.pages = e.bench->pages;
  // "cpu avx2, 8 threads": the number of threads changes no bit.
  const std::string how = e.bench->ops->describe();
  e.encoder_name = format("%016x %d %s", model->vision_fingerprint(), static_cast<int>(model->vision_precision()),
                          how.substr(0, how.find(',')));
  e.running.reserve(static_cast<size_t>(options.n_parallel));
  e.idle.reserve(static_cast<size_t>(options.n_parallel));
  for (int i = 0; i < options.n_parallel; ++i) {
    auto session = Session::create(model, e.bench, sizes, options.log);
    if (!session.ok()) return explain(std::move(session).error(), plan);
    e.idle.push_back(std::move(session).value());
  }
  e.embeddings = std::make_unique<EmbeddingCache>(
      options.image_cache_bytes,
      EmbeddingFolder(options.image_cache_dir, options.image_cache_dir_bytes, model->vision_fingerprint(),
                      model->text().embedding_width(), options.log));
  if (options.prompt_cache) e.prefixes = std::make_unique<PrefixCache>(e.pages);
  log(options.log, LogLevel::kInfo,
      format("engine: %d requests of up to %d positions at once, %d pages of %d, %s; %s", options.n_parallel, e.context,
             e.pages->n_pages(), kKeyBlock, e.bench->ops->describe(), describe(plan)));
  return engine;
}

const Model& Engine::model() const {
  return *impl_->model;
}

int64_t Engine::context() const {
  return impl_->context;
}

// -- any thread -----------------------------------------------------------------------------------------------------

// What can be said without running it.
Status Engine::Impl::check(const Request& request) const {
  if (request.messages.empty()) return make_error(ErrorCode::kInvalidArgument, "no messages");
  if (request.deadline_ms < 0) {
    return make_error(ErrorCode::kInvalidArgument, "deadline_ms is %d: it must be at least 0 (0: none)",
                      request.deadline_ms);
  }
  if (!request.only_pictures) GLIMPSE_TRY(check_generate_options(*model, request.generate));
  int64_t n_pictures = 0;
  size_t n_bytes = 0;
  bool raw = false;
  std::vector<ChatMessage> chat;
  for (const RequestMessage& message : request.messages) {
    ChatMessage& converted = chat.emplace_back();
    converted.role = message.role;
    raw = raw || message.role == kRawRole;
    for (const RequestPart& part : message.parts) {
      ChatPart& piece = converted.parts.emplace_back();
      piece.text = part.text;
      if (part.image == nullptr) n_bytes += part.text.size();
      if (part.image == nullptr) continue;
      const RequestImage& image = *part.image;
      ++n_pictures;
      const bool is_empty = image.embedding == nullptr && image.path.empty() && image.bytes.empty() &&
                            image.pixels.pixels.empty() && (image.video == nullptr || image.video->frames.empty());
      if (is_empty) return make_error(ErrorCode::kInvalidArgument, "picture %d is empty", n_pictures);
      const bool video = image.video != nullptr || (image.embedding != nullptr && image.embedding->is_video);
      piece.kind = video ? ChatPart::Kind::kVideo : ChatPart::Kind::kImage;
      if (video && image.embedding != nullptr) piece.slice_seconds = image.embedding->slice_seconds;
      piece.n_tokens = image.embedding == nullptr ? 1 : image.embedding->n_tokens;  // at least
    }
  }
  if (request.only_pictures) return {};
  if (raw && chat.size() != 1) {
    return make_error(ErrorCode::kInvalidArgument, "a raw message stands alone: %d messages were given", chat.size());
  }
  GLIMPSE_TRY(check_text(n_bytes));
  // Forty times its bytes: long ones are taken apart one after another, whoever brings them.
  std::unique_lock alone(long_text_mutex, std::defer_lock);
  if (n_bytes > kLongText) alone.lock();
  const ChatOptions how = chat_options(model->chat_format(), request.prompt);
  GLIMPSE_ASSIGN(const TokenizedChat prompt, raw ? tokenize_raw(model->tokenizer(), chat[0].parts, how)
                                                 : tokenize_chat(model->tokenizer(), chat, how));
  const auto n = static_cast<int64_t>(prompt.ids.size());
  return check_size(n, n_pictures, request.generate.max_tokens);
}

// What cannot fit is refused before it is taken apart.
Status Engine::Impl::check_text(size_t n_bytes) const {
  if (n_bytes <= static_cast<size_t>(context)) return {};
  return check_size(fewest_tokens(model->tokenizer(), n_bytes), 1, 0);
}

// n: tokens of the prompt, at least.
Status Engine::Impl::check_size(int64_t n, int64_t n_pictures, int64_t max_tokens) const {
  const char* const at_least = n_pictures > 0 ? "at least " : "";
  if (n > context) {
    return make_error(ErrorCode::kContextFull, "the prompt has %s%d tokens; the context holds %d", at_least, n,
                      context);
  }
  const int64_t n_all = max_tokens < 0 || max_tokens > context ? context : std::min(context, n + max_tokens);
  if (KvPages::pages_for(n_all) <= pages->n_pages()) return {};
  return make_error(
      ErrorCode::kTooLarge,
      "a prompt of %s%d tokens and an answer of up to %d need %d pages of %d positions; the engine has %d", at_least, n,
      n_all - n, KvPages::pages_for(n_all), kKeyBlock, pages->n_pages());
}

Result<RequestId> Engine::submit(Request request) {
  Impl& e = *impl_;
  const auto refused = [&](Error error) {
    const std::lock_guard lock(e.mutex);
    ++e.counted.n_refused;
    return error;
  };
  if (e.left_behind()) return make_error(ErrorCode::kCancelled, "the engine is at work in the parent process");
  if (Status checked = e.check(request); !checked.ok()) return refused(std::move(checked).error());
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  std::unique_lock lock(e.mutex);
  if (!e.accepting) return make_error(ErrorCode::kCancelled, "the engine was stopped: it takes no further requests");
  if (static_cast<int64_t>(e.waiting.size()) >= e.options.n_queued) {
    ++e.counted.n_refused;
    return make_error(ErrorCode::kBusy, "%d requests wait: no more are taken", e.waiting.size());
  }
  job->id = e.last_id + 1;
  e.jobs.emplace(job->id, job);
  const auto behind = std::find_if(e.waiting.begin(), e.waiting.end(), [&](const std::shared_ptr<Job>& other) {
    return other->request.priority < job->request.priority;
  });
  try {
    e.waiting.insert(behind, job);
  } catch (...) {
    e.jobs.erase(job->id);
    throw;
  }
  ++e.last_id;
  ++e.counted.n_requests;
  e.changed.notify_all();
  return job->id;
}

void Engine::cancel(RequestId id) {
  if (left_behind()) return;
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->jobs.find(id);
  if (found != impl_->jobs.end()) found->second->cancelled = true;
}

EngineStats Engine::stats() const {
  const Impl& e = *impl_;
  if (e.left_behind()) return {};
  const std::lock_guard lock(e.mutex);
  EngineStats stats = e.counted;
  stats.n_waiting = static_cast<int64_t>(e.waiting.size());
  stats.n_running = static_cast<int64_t>(e.jobs.size() - e.waiting.size());
  stats.n_pages = e.pages->n_pages();
  stats.n_free_pages = e.pages->n_free();
  stats.page_bytes = e.pages->pool().page_bytes;
  return stats;
}

// -- whoever runs it ------------------------------------------------------------------------------------------------

// While one thread works others wait; in a callback there is nothing to be done. The engine may be gone when a callback
// returns: what is left is then cancelled here.
bool Engine::Impl::step_alone() {
  if (stepping == this_thread() || left_behind()) return false;
  const std::lock_guard lock(step_mutex);
  stepping_process = process_number();
  stepping = this_thread();
  bool more = step();
  while (more && abandoned) more = step();
  stepping = nullptr;
  return more;
}

bool Engine::step() {
  const std::shared_ptr<Impl> impl = impl_;
  return impl->step_alone();
}

void Engine::run() {
  const std::shared_ptr<Impl> impl = impl_;
  while (impl->step_alone()) {
  }
}

bool Engine::has_thread() const {
  const std::lock_guard lock(impl_->mutex);
  return static_cast<bool>(impl_->thread);
}

bool Engine::in_callback() const {
  return impl_->stepping == this_thread();
}

// Looks at no lock: in a child process it may be that of a thread which is not there.
bool Engine::Impl::left_behind() const {
  const uint32_t here = process_number(), owner = thread_process;
  const void* const at_work = stepping;
  return (owner != 0 && owner != here) || (at_work != nullptr && at_work != this_thread() && stepping_process != here);
}

bool Engine::left_behind() const {
  return impl_->left_behind();
}

bool Engine::Impl::is_idle() const {
  const std::lock_guard lock(mutex);
  return jobs.empty();
}

void Engine::Impl::cancel_all() {
  const std::lock_guard lock(mutex);
  for (const auto& [id, job] : jobs) job->cancelled = true;
}

// The engine's own thread.
void Engine::Impl::loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return quitting || !jobs.empty(); });
      if (jobs.empty()) return;
    }
    step_alone();
  }
}

Status Engine::start() {
  Impl& e = *impl_;
  if (e.left_behind()) return make_error(ErrorCode::kCancelled, "the engine is at work in the parent process");
  const std::lock_guard lock(e.mutex);
  if (e.thread) return make_error(ErrorCode::kInvalidArgument, "the engine has its thread already");
  if (!e.accepting) return make_error(ErrorCode::kInvalidArgument, "the engine was stopped");
  GLIMPSE_ASSIGN(e.thread, OwnThread::start("glimpse-engine", [impl = impl_] { impl->loop(); }));
  e.thread_process = process_number();
  return {};
}

void Engine::stop(int64_t grace_ms) {
  constexpr int64_t kForEver = int64_t{1} << 40;  // 35 years; beyond 292 a clock has no room for them
  if (left_behind()) return;
  const std::shared_ptr<Impl> impl = impl_;
  Impl& e = *impl;
  const EngineClock::time_point end =
      EngineClock::now() + std::chrono::milliseconds(std::clamp<int64_t>(grace_ms, 0, kForEver));
  OwnThread thread;
  {
    std::unique_lock lock(e.mutex);
    e.accepting = false;
    e.quitting = true;
    e.changed.notify_all();
    if (e.stepping == this_thread()) {  // from a callback: nobody can wait for the end of it
      lock.unlock();
      e.cancel_all();
      return;
    }
    ++e.n_stopping;
    if (e.thread) {
      e.changed.wait_until(lock, end, [&] { return e.jobs.empty(); });
      thread = std::move(e.thread);
    }
  }
  while (!thread && EngineClock::now() < end && e.step_alone()) {
  }
  e.cancel_all();
  if (thread) {
    thread.join();
    e.thread_process = 0;
  }
  while (e.step_alone()) {
  }
  const std::lock_guard lock(e.mutex);
  --e.n_stopping;
  e.changed.notify_all();
}

RequestResult Engine::ask(Request request) {
  RequestResult answer;
  if (in_callback()) {
    answer.status = make_error(ErrorCode::kInvalidArgument, "ask() was called from a callback of the engine");
    return answer;
  }
  bool there = false;  // under the mutex
  const std::shared_ptr<Impl> impl = impl_;
  request.on_done = [&](RequestResult result) {
    const std::lock_guard lock(impl->mutex);
    answer = std::move(result);
    there = true;
    impl->changed.notify_all();
  };
  const Result<RequestId> id = submit(std::move(request));
  if (!id.ok()) {
    answer.status = id.error();
    return answer;
  }
  const auto another_runs_it = [&] { return impl->thread || impl->n_stopping > 0; };
  for (std::unique_lock lock(impl->mutex); !there;) {
    if (another_runs_it()) {
      impl->changed.wait(lock, [&] { return there || !another_runs_it(); });
    } else {
      lock.unlock();
      impl->step_alone();
      lock.lock();
    }
  }
  return answer;
}

}  // namespace glimpse
