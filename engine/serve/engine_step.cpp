// What the thread that runs the engine does, step by step: who ends, who is admitted, whose turn it is.
//
// Turns. A step is a pass, or the pictures of one pass of the vision encoder. Pictures come first, for their requests
// wait; but two such steps have a pass between them where answers are under way, so that these stand still for one of
// them at most. A pass has a row of every answer under way and slices of prompts (engine_pass.cpp).
#include <algorithm>
#include <utility>

#include "engine/serve/engine_impl.h"

namespace glimpse {

bool Engine::Impl::step() {
  Status done = told_of([&]() -> Status {
    try_step();
    return {};
  });
  if (!done.ok()) {
    // Memory ran out between requests. What one holds may be what is missing: the youngest ends.
    std::shared_ptr<Job> youngest;
    if (!running.empty()) {
      youngest = running.back();
    } else {
      const std::lock_guard lock(mutex);
      if (!waiting.empty()) youngest = waiting.back();
    }
    if (youngest != nullptr) finish(*youngest, std::move(done));
  }
  tell_pages();
  return !is_idle();
}

bool Engine::Impl::try_step() {
  drop_ended();
  admit();
  const bool answers =
      std::any_of(running.begin(), running.end(), [](const auto& job) { return job->stage == Job::Stage::kAnswer; });
  if (!(answers && picture_before) && encode_pictures()) {
    picture_before = true;
    return true;
  }
  picture_before = false;
  start_prompts();
  run_pass();
  return true;
}

// Those whose time is over or that nobody wants any more.
void Engine::Impl::drop_ended() {
  std::vector<std::shared_ptr<Job>> ended;
  const auto over = [](const std::shared_ptr<Job>& job) { return job->over(); };
  std::copy_if(running.begin(), running.end(), std::back_inserter(ended), over);
  {
    const std::lock_guard lock(mutex);
    std::copy_if(waiting.begin(), waiting.end(), std::back_inserter(ended), over);
  }
  for (const auto& job : ended) {  // whose words take memory: until there are some it is where it was
    finish(*job, job->cancelled
                     ? make_error(ErrorCode::kCancelled, "the request was cancelled")
                     : make_error(ErrorCode::kCancelled, "the deadline of %d ms has passed", job->request.deadline_ms));
  }
}

// Into the sessions that are free. Whether there are pages for it is known when its pictures are.
void Engine::Impl::admit() {
  while (!idle.empty()) {
    std::shared_ptr<Job> job;
    {
      const std::lock_guard lock(mutex);
      if (waiting.empty()) return;
      running.push_back(waiting.front());
      waiting.erase(waiting.begin());
      job = running.back();
    }
    job->session = std::move(idle.back());
    idle.pop_back();
    job->result.queued_ms = engine_ms_since(job->submitted);
    const Status listed = told_of([&]() -> Status {
      for (const RequestMessage& message : job->request.messages) {
        for (const RequestPart& part : message.parts) {
          if (part.image != nullptr) job->pictures.emplace_back().source = part.image;
        }
      }
      job->result.pictures.resize(job->pictures.size());
      return {};
    });
    if (!listed.ok()) finish(*job, listed);
  }
}

// What it computed stays for others.
void Engine::Impl::keep_rows(Job& job) {
  if (prefixes == nullptr || !job.has_pages()) return;
  const Status kept = told_of([&]() -> Status {
    const bool answered = job.stage == Job::Stage::kAnswer;
    const auto n = static_cast<size_t>(answered ? job.session->n_past_as_prompt() : job.session->cache().n_past());
    const std::span<const TokenId> tokens = job.session->cached_tokens();
    for (size_t i = job.rows.size(); i < n; ++i) job.rows.push_back({tokens[i], 0, {}});
    prefixes->keep(std::span(job.rows).first(n), job.session->cache());
    return {};
  });
  (void)kept;  // or not: it can be computed again
}

// The last that is heard of it. Allocates nothing that it needs.
void Engine::Impl::finish(Job& job, Status status) {
  RequestResult& result = job.result;
  const bool cancelled = !status.ok() && status.error().code == ErrorCode::kCancelled;
  if (job.session != nullptr) {
    if (status.ok() || cancelled) keep_rows(job);
    if (job.stage == Job::Stage::kAnswer) result.answer = job.session->take_answer();
    job.session->reset();
    idle.push_back(std::move(job.session));  // there is room for all
  }
  Timings& timings = result.answer.timings;
  timings.image_decode = job.spent.image_decode;
  timings.image_resize = job.spent.image_resize;
  timings.image_encode = job.spent.image_encode;
  if (cancelled && job.stage == Job::Stage::kAnswer) {
    result.answer.finished = true;
    result.answer.reason = FinishReason::kCancelled;
  }
  for (size_t i = 0; i < result.pictures.size(); ++i) {
    if (const auto& seen = job.pictures[i].embedding) result.pictures[i] = {seen->original, seen->resized};
  }
  const bool good = status.ok();
  result.status = std::move(status);
  result.total_ms = engine_ms_since(job.submitted);
  const auto done = std::move(job.request.on_done);
  const auto self =
      std::find_if(running.begin(), running.end(), [&](const auto& other) { return other.get() == &job; });
  std::shared_ptr<Job> last;  // the job lives until the end of this
  if (self != running.end()) {
    last = std::move(*self);
    running.erase(self);
  }
  {
    const std::lock_guard lock(mutex);
    std::erase_if(waiting, [&](const auto& other) { return other.get() == &job; });
    ++(good ? counted.n_finished : cancelled ? counted.n_cancelled : counted.n_failed);
    if (const auto found = jobs.find(job.id); found != jobs.end()) {
      last = std::move(found->second);
      jobs.erase(found);
    }
    changed.notify_all();
  }
  if (!done) return;
  try {
    done(std::move(result));
  } catch (...) {  // the caller's own affair
  }
}

// For stats().
void Engine::Impl::tell_pages() {
  const int64_t n_kept = prefixes == nullptr ? 0 : prefixes->n_idle();
  const std::lock_guard lock(mutex);
  counted.n_kept_pages = n_kept;
}

}  // namespace glimpse
