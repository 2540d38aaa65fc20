// What the thread that runs the engine does: pictures, prompts, a token for every answer.
#include <algorithm>
#include <new>
#include <utility>

#include "engine/model/kv_pages.h"
#include "engine/serve/engine_impl.h"

namespace glimpse {
namespace {

// What goes wrong for one request is its own error.
template <typename Work>
Status told(Work&& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return make_error(ErrorCode::kInternal, "an exception: %s", error.what());
  } catch (...) {
    return make_error(ErrorCode::kInternal, "an unknown exception");
  }
}

// The picture that comes next, nullptr: there is none.
const RequestImage* next_image(const Job& job) {
  size_t n = 0;
  for (const RequestMessage& message : job.request.messages) {
    for (const RequestPart& part : message.parts) {
      if (part.image != nullptr && n++ == job.embeddings.size()) return part.image.get();
    }
  }
  return nullptr;
}

std::vector<Message> messages_of(const Job& job) {
  std::vector<Message> messages;
  size_t n = 0;
  for (const RequestMessage& message : job.request.messages) {
    Message& to = messages.emplace_back();
    to.role = message.role;
    for (const RequestPart& part : message.parts) {
      MessagePart& piece = to.parts.emplace_back();
      if (part.image != nullptr) {
        piece.image = job.embeddings[n++];
      } else {
        piece.text = part.text;
      }
    }
  }
  return messages;
}

}  // namespace

bool Engine::Impl::step() {
  drop_ended();
  admit();
  if (encode_next_picture() || prefill_next()) return true;
  if (!running.empty()) answer_all();
  return !idle();
}

// Those whose time is over or that nobody wants any more.
void Engine::Impl::drop_ended() {
  std::vector<std::shared_ptr<Job>> ended;
  const auto over = [](const std::shared_ptr<Job>& job) { return job->cancelled || job->expired(); };
  {
    const std::lock_guard lock(mutex);
    std::copy_if(waiting.begin(), waiting.end(), std::back_inserter(ended), over);
    std::erase_if(waiting, over);
  }
  std::copy_if(running.begin(), running.end(), std::back_inserter(ended), over);
  for (const auto& job : ended) {
    finish(*job, job->cancelled
                     ? make_error(ErrorCode::kCancelled, "the request was cancelled")
                     : make_error(ErrorCode::kCancelled, "the deadline of %d ms has passed", job->request.deadline_ms));
  }
}

void Engine::Impl::admit() {
  const int64_t pages_each = KvPages::pages_for(root->context());
  const int64_t room = std::min<int64_t>(options.n_parallel, root->n_pages() / pages_each);
  while (static_cast<int64_t>(running.size()) < room) {
    std::shared_ptr<Job> job;
    {
      const std::lock_guard lock(mutex);
      if (waiting.empty()) return;
      job = waiting.front();
      waiting.erase(waiting.begin());
    }
    job->result.queued_ms = engine_ms_since(job->submitted);
    running.push_back(job);
    const Status forked = told([&]() -> Status {
      GLIMPSE_ASSIGN(job->session, root->fork());
      return {};
    });
    if (!forked.ok()) finish(*job, forked);
  }
}

Status Engine::Impl::encode(Job& job, const RequestImage& image) {
  if (image.embedding != nullptr) {
    job.embeddings.push_back(image.embedding);
    return {};
  }
  const ProgressSink watch = [&](std::string_view, double) { return !job.cancelled && !job.expired(); };
  Timings one;
  std::shared_ptr<const ImageEmbedding> embedding;
  if (!image.path.empty()) {
    GLIMPSE_ASSIGN(const auto reader, open_image_file(image.path, root->decode_options(watch)));
    GLIMPSE_ASSIGN(embedding, root->encode_image(*reader, &one, watch));
  } else if (image.bytes.empty()) {
    GLIMPSE_ASSIGN(embedding, root->encode_image(image.pixels, &one, watch));
  } else {
    GLIMPSE_ASSIGN(const auto reader, open_image(std::as_bytes(std::span(image.bytes)), root->decode_options(watch)));
    GLIMPSE_ASSIGN(embedding, root->encode_image(*reader, &one, watch));
  }
  job.pictures.image_decode += one.image_decode;
  job.pictures.image_resize += one.image_resize;
  job.pictures.image_encode += one.image_encode;
  job.embeddings.push_back(std::move(embedding));
  const std::lock_guard lock(mutex);
  ++counted.n_images;
  counted.n_image_tokens += static_cast<uint64_t>(one.n_image_tokens);
  counted.image_seconds += (one.image_decode + one.image_resize + one.image_encode) / 1000;
  return {};
}

bool Engine::Impl::encode_next_picture() {
  for (const auto& job : running) {
    const RequestImage* image = next_image(*job);
    if (image == nullptr) continue;
    const size_t n_before = job->embeddings.size();
    Status encoded = told([&] { return encode(*job, *image); });
    if (!encoded.ok()) {
      finish(*job, with_context(std::move(encoded).error(), format("picture %d", n_before + 1)));
    }
    return true;
  }
  return false;
}

bool Engine::Impl::prefill_next() {
  for (const auto& job : running) {
    if (job->answering) continue;
    const ProgressSink watch = [&](std::string_view, double) { return !job->cancelled && !job->expired(); };
    const Status done = told([&]() -> Status {
      job->session->set_prompt_options(job->request.prompt);
      GLIMPSE_TRY(job->session->prefill(messages_of(*job), watch));
      return job->session->begin_answer(job->request.generate);
    });
    if (!done.ok()) {
      finish(*job, done);
      return true;
    }
    job->answering = true;
    const Timings& timings = job->session->timings();
    const std::lock_guard lock(mutex);
    ++counted.n_passes;
    counted.n_prompt_tokens += static_cast<uint64_t>(timings.n_prompt_tokens);
    counted.prefill_seconds += timings.prefill / 1000;
    return true;
  }
  return false;
}

// A token for each of them.
void Engine::Impl::answer_all() {
  const EngineClock::time_point start = EngineClock::now();
  std::vector<std::shared_ptr<Job>> members = running;
  std::vector<Session*> sessions;
  for (const auto& job : members) sessions.push_back(job->session.get());
  auto steps = Session::step_many(sessions);
  {
    const std::lock_guard lock(mutex);
    ++counted.n_passes;
    counted.decode_seconds += engine_ms_since(start) / 1000;
    counted.n_generated_tokens += members.size();
  }
  for (size_t i = 0; i < members.size(); ++i) {
    Job& job = *members[i];
    if (!steps.ok() || !steps.value()[i].ok()) {
      finish(job, steps.ok() ? steps.value()[i].error() : steps.error());
      continue;
    }
    const Session::Step& step = steps.value()[i].value();
    if (job.result.first_token_ms == 0 && step.token.id >= 0)
      job.result.first_token_ms = engine_ms_since(job.submitted);
    const Status wanted = told([&]() -> Status {
      if (!job.request.on_token || job.request.on_token(step)) return {};
      return make_error(ErrorCode::kCancelled, "the request was cancelled by on_token");
    });
    if (!wanted.ok()) {
      finish(job, wanted);
    } else if (step.finished) {
      finish(job, {});
    }
  }
}

// The last that is heard of it.
void Engine::Impl::finish(Job& job, Status status) {
  RequestResult& result = job.result;
  if (job.session != nullptr) {
    result.answer = job.session->answer();
    result.answer.timings = job.session->timings();
  }
  Timings& timings = result.answer.timings;
  timings.image_decode = job.pictures.image_decode;
  timings.image_resize = job.pictures.image_resize;
  timings.image_encode = job.pictures.image_encode;
  if (!status.ok() && !result.answer.finished && job.answering) {
    result.answer.finished = true;
    result.answer.reason = FinishReason::kCancelled;
  }
  result.status = std::move(status);
  result.total_ms = engine_ms_since(job.submitted);
  job.session.reset();
  const auto done = std::move(job.request.on_done);
  std::shared_ptr<Job> last;
  {
    const std::lock_guard lock(mutex);
    if (result.status.ok()) {
      ++counted.n_finished;
    } else if (result.status.error().code == ErrorCode::kCancelled) {
      ++counted.n_cancelled;
    } else {
      ++counted.n_failed;
    }
    last = std::move(jobs.at(job.id));
    jobs.erase(job.id);
    changed.notify_all();
  }
  std::erase(running, last);
  if (!done) return;
  try {
    done(std::move(result));
  } catch (...) {  // the caller's own affair
  }
}

}  // namespace glimpse
