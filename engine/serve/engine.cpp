#include "engine/serve/engine.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "engine/base/host_signals.h"
#include "engine/model/kv_pages.h"
#include "engine/serve/engine_impl.h"

namespace glimpse {
namespace {

Status check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return make_error(ErrorCode::kInvalidArgument, "%s is %d: it must be in [%d, %d]", name, value, least, most);
}

Result<SessionOptions> session_options(const EngineOptions& options) {
  constexpr int64_t kMostSlots = int64_t{1} << 30;
  GLIMPSE_TRY(check_range("n_parallel", options.n_parallel, 1, 1024));
  GLIMPSE_TRY(check_range("n_queued", options.n_queued, 1, kMostSlots));
  GLIMPSE_TRY(check_range("context", options.context, 1, kMostSlots));
  GLIMPSE_TRY(check_range("pool_slots", options.pool_slots, 0, kMostSlots));
  SessionOptions session;
  static_cast<PictureOptions&>(session) = options;
  session.n_threads = options.n_threads;
  session.context = options.context;
  session.batch = options.batch;
  const int64_t of_one = KvPages::pages_for(options.context) * kKeyBlock;
  session.pool_slots = options.pool_slots > 0 ? options.pool_slots : std::min(options.n_parallel * of_one, kMostSlots);
  session.kv_element = options.kv_element;
  session.log = options.log;
  return session;
}

}  // namespace

Result<MemoryPlan> plan_engine(const Model& model, const EngineOptions& options) {
  GLIMPSE_ASSIGN(const SessionOptions session, session_options(options));
  return plan_session(model, session);
}

Engine::Engine() = default;

Engine::~Engine() {
  if (impl_ == nullptr) return;
  if (in_callback()) {
    const std::lock_guard lock(impl_->mutex);
    impl_->abandoned = true;
    if (impl_->thread.joinable()) impl_->thread.detach();  // it holds what it needs
  }
  stop(0);
}

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  GLIMPSE_ASSIGN(const SessionOptions session, session_options(options));
  std::unique_ptr<Engine> engine(new Engine());
  engine->impl_ = std::make_shared<Impl>();
  engine->impl_->model = model;
  engine->impl_->options = options;
  GLIMPSE_ASSIGN(engine->impl_->root, Session::create(std::move(model), session));
  return engine;
}

const Model& Engine::model() const {
  return *impl_->model;
}

int64_t Engine::context() const {
  return impl_->root->context();
}

// -- any thread -----------------------------------------------------------------------------------------------------

// What can be said without running it.
Status Engine::Impl::check(const Request& request) const {
  if (request.messages.empty()) return make_error(ErrorCode::kInvalidArgument, "no messages");
  if (request.deadline_ms < 0) {
    return make_error(ErrorCode::kInvalidArgument, "deadline_ms is %d: it must be at least 0 (0: none)",
                      request.deadline_ms);
  }
  int64_t number = 0;
  for (const RequestMessage& message : request.messages) {
    for (const RequestPart& part : message.parts) {
      if (part.image == nullptr) continue;
      ++number;
      const RequestImage& image = *part.image;
      if (image.embedding == nullptr && image.path.empty() && image.bytes.empty() && image.pixels.pixels.empty()) {
        return make_error(ErrorCode::kInvalidArgument, "picture %d is empty", number);
      }
    }
  }
  return check_generate_options(*model, request.generate);
}

Result<RequestId> Engine::submit(Request request) {
  Impl& e = *impl_;
  GLIMPSE_TRY(e.check(request));
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  const std::lock_guard lock(e.mutex);
  if (!e.accepting) return make_error(ErrorCode::kCancelled, "the engine was stopped: it takes no further requests");
  if (static_cast<int64_t>(e.waiting.size()) >= e.options.n_queued) {
    ++e.counted.n_refused;
    return make_error(ErrorCode::kBusy, "%d requests wait: no more are taken", e.waiting.size());
  }
  job->id = e.last_id + 1;
  const auto behind = std::find_if(e.waiting.begin(), e.waiting.end(), [&](const std::shared_ptr<Job>& other) {
    return other->request.priority < job->request.priority;
  });
  e.jobs.reserve(e.jobs.size() + 1);
  e.waiting.insert(behind, job);
  try {
    e.jobs.emplace(job->id, job);
  } catch (...) {
    std::erase(e.waiting, job);
    throw;
  }
  ++e.last_id;
  ++e.counted.n_requests;
  e.changed.notify_all();
  return job->id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->jobs.find(id);
  if (found != impl_->jobs.end()) found->second->cancelled = true;
}

EngineStats Engine::stats() const {
  const Impl& e = *impl_;
  const std::lock_guard lock(e.mutex);
  EngineStats stats = e.counted;
  stats.n_waiting = static_cast<int64_t>(e.waiting.size());
  stats.n_running = static_cast<int64_t>(e.jobs.size() - e.waiting.size());
  stats.n_pages = e.root->n_pages();
  stats.n_free_pages = e.root->n_free_pages();
  stats.page_bytes = e.root->page_bytes();
  return stats;
}

// -- whoever runs it ------------------------------------------------------------------------------------------------

// While one thread works others wait; in a callback there is nothing to be done. The engine may be gone when a callback
// returns: what is left is then cancelled here.
bool Engine::Impl::step_alone() {
  if (stepping == std::this_thread::get_id()) return false;
  const std::lock_guard lock(step_mutex);
  stepping = std::this_thread::get_id();
  bool more = step();
  while (more && abandoned) more = step();
  stepping = std::thread::id();
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
  return impl_->thread.joinable();
}

bool Engine::in_callback() const {
  return impl_->stepping == std::this_thread::get_id();
}

bool Engine::Impl::idle() const {
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
  const std::lock_guard lock(e.mutex);
  if (e.thread.joinable()) return make_error(ErrorCode::kInvalidArgument, "the engine has its thread already");
  if (!e.accepting) return make_error(ErrorCode::kInvalidArgument, "the engine was stopped");
  try {
    const HostSignalsBlocked blocked;
    e.thread = std::thread([impl = impl_] { impl->loop(); });
    pthread_setname_np(e.thread.native_handle(), "glimpse-engine");
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kOutOfMemory, "out of memory");
  } catch (const std::system_error& error) {
    return make_error(ErrorCode::kOutOfMemory, "no thread for the engine: %s", error.what());
  }
  return {};
}

void Engine::stop(int64_t grace_ms) {
  const std::shared_ptr<Impl> impl = impl_;
  Impl& e = *impl;
  const EngineClock::time_point end = EngineClock::now() + std::chrono::milliseconds(std::max<int64_t>(grace_ms, 0));
  std::thread thread;
  {
    std::unique_lock lock(e.mutex);
    e.accepting = false;
    e.quitting = true;
    e.changed.notify_all();
    if (e.stepping == std::this_thread::get_id()) {  // from a callback: nobody can wait for the end of it
      lock.unlock();
      e.cancel_all();
      return;
    }
    if (e.thread.joinable()) {
      e.changed.wait_until(lock, end, [&] { return e.jobs.empty(); });
      thread = std::move(e.thread);
    }
  }
  while (!thread.joinable() && EngineClock::now() < end && e.step_alone()) {
  }
  e.cancel_all();
  if (thread.joinable()) thread.join();
  while (e.step_alone()) {
  }
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
  for (std::unique_lock lock(impl->mutex); !there;) {
    if (impl->thread.joinable() || impl->quitting) {
      impl->changed.wait(lock, [&] { return there; });
    } else {
      lock.unlock();
      impl->step_alone();
      lock.lock();
    }
  }
  return answer;
}

}  // namespace glimpse
