// glimpse_engine_* and glimpse_ticket_*: many questions at once.
#include "engine/serve/engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <utility>

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

struct glimpse_engine {
  std::shared_ptr<Engine> engine;
  ImageLimits limits;
};

namespace {

// What a request has said so far, and what became of it. Written by the thread that runs the engine.
struct TicketState {
  std::mutex mutex;
  std::condition_variable changed;
  Answer said;  // until it is finished: text, tokens, log-probabilities
  bool finished = false;
  RequestResult result;  // when finished
};

}  // namespace

struct glimpse_ticket {
  std::shared_ptr<TicketState> state;
  std::weak_ptr<Engine> engine;
  RequestId id = 0;
  // What the last call told: copies, for the engine goes on.
  mutable Answer told;
  mutable std::vector<float> logprobs;
  mutable std::vector<glimpse_picture_size> pictures;
  mutable std::string message;
};

namespace {

Result<EngineOptions> engine_options(const glimpse_engine_params* given) {
  GLIMPSE_ASSIGN(const glimpse_engine_params params, given_params(given, glimpse_engine_params_init));
  EngineOptions options;
  GLIMPSE_TRY(read_picture_params(params, &options));
  options.n_threads = params.n_threads;
  options.context = params.n_ctx;
  options.batch = params.n_batch;
  options.n_parallel = params.n_parallel;
  options.n_queued = params.n_queued;
  options.pool_slots = params.n_pool;
  GLIMPSE_ASSIGN(options.kv_element, kv_element(params.kv_type));
  options.prompt_cache = params.prompt_cache != 0;
  if (params.image_cache_bytes < 0) {
    return make_error(ErrorCode::kInvalidArgument, "image_cache_bytes is %d: it must be at least 0",
                      params.image_cache_bytes);
  }
  options.image_cache_bytes = static_cast<uint64_t>(params.image_cache_bytes);
  if (params.image_cache_dir_bytes < 0) {
    return make_error(ErrorCode::kInvalidArgument, "image_cache_dir_bytes is %d: it must be at least 0 (0: no limit)",
                      params.image_cache_dir_bytes);
  }
  options.image_cache_dir_bytes = static_cast<uint64_t>(params.image_cache_dir_bytes);
  if (params.image_cache_dir != nullptr) options.image_cache_dir = params.image_cache_dir;
  options.log = log_sink(params.log, params.log_user);
  return options;
}

Result<std::shared_ptr<const RequestImage>> read_image_of(const glimpse_request_part& part, const ImageLimits& limits) {
  auto image = std::make_shared<RequestImage>();
  if (part.embedding != nullptr) {
    image->embedding = part.embedding->embedding;
    return std::shared_ptr<const RequestImage>(std::move(image));
  }
  const glimpse_picture& picture = *part.picture;
  GLIMPSE_TRY(check_one_source(picture));
  if (picture.path != nullptr) {
    if (*picture.path == '\0') return make_error(ErrorCode::kInvalidArgument, "the path of a picture is empty");
    image->path = picture.path;
  } else if (picture.bytes != nullptr) {
    if (picture.n_bytes == 0 || picture.n_bytes > limits.max_bytes) {
      return make_error(picture.n_bytes == 0 ? ErrorCode::kTruncated : ErrorCode::kTooLarge,
                        "a picture of %d bytes: want 1 to %d", picture.n_bytes, limits.max_bytes);
    }
    image->bytes.assign(static_cast<const char*>(picture.bytes), picture.n_bytes);
  } else {
    GLIMPSE_ASSIGN(const size_t stride, stride_of(picture, limits));
    const size_t row = 3 * static_cast<size_t>(picture.width);
    image->pixels = {picture.width, picture.height, {}};
    image->pixels.pixels.reserve(row * static_cast<size_t>(picture.height));
    for (int32_t y = 0; y < picture.height; ++y) {
      const uint8_t* from = picture.rgb + static_cast<size_t>(y) * stride;
      image->pixels.pixels.insert(image->pixels.pixels.end(), from, from + row);
    }
  }
  return std::shared_ptr<const RequestImage>(std::move(image));
}

Result<std::vector<RequestMessage>> read_request_messages(const glimpse_request& given, const ImageLimits& limits) {
  if (given.n_messages > 0) GLIMPSE_TRY(require(given.messages, "messages"));
  std::vector<RequestMessage> messages;
  for (size_t i = 0; i < given.n_messages; ++i) {
    const glimpse_request_message& from = given.messages[i];
    GLIMPSE_TRY(require(from.role, "a message's role"));
    if (from.n_parts > 0) GLIMPSE_TRY(require(from.parts, "a message's parts"));
    RequestMessage& to = messages.emplace_back();
    to.role = from.role;
    for (size_t k = 0; k < from.n_parts; ++k) {
      const glimpse_request_part& part = from.parts[k];
      RequestPart piece;
      if (part.embedding != nullptr && part.picture != nullptr) {
        return make_error(ErrorCode::kInvalidArgument, "a part has both an embedding and a picture (clear it first)");
      }
      if (part.embedding != nullptr || part.picture != nullptr) {
        GLIMPSE_ASSIGN(piece.image, read_image_of(part, limits));
      } else {
        GLIMPSE_ASSIGN(piece.text, part_text(part.text, part.n_bytes));
      }
      to.parts.push_back(std::move(piece));
    }
  }
  return messages;
}

glimpse_step_result step_result(const Session::Step& step) {
  glimpse_step_result filled{};
  filled.struct_size = sizeof filled;
  filled.token = step.token.id;
  filled.logprob = step.token.logprob;
  filled.finish_reason = step.finished ? static_cast<int32_t>(step.reason) : GLIMPSE_FINISH_NONE;
  filled.text = step.text.c_str();
  filled.n_bytes = step.text.size();
  filled.status = GLIMPSE_OK;
  return filled;
}

// The ticket keeps what comes, and the caller's callbacks are told. Nothing that ends a request needs memory.
void connect(Request& request, const glimpse_request& given, const std::shared_ptr<TicketState>& state) {
  const bool keeps_logprobs = request.generate.n_top_logprobs > 0;
  request.on_token = [state, keeps_logprobs, callback = given.on_token,
                      user = given.on_token_user](const Session::Step& step) {
    {
      const std::lock_guard lock(state->mutex);
      state->said.text += step.text;
      if (step.token.id >= 0) state->said.tokens.push_back(step.token.id);
      if (step.token.id >= 0 && keeps_logprobs) state->said.logprobs.push_back(step.token);
      state->changed.notify_all();
    }
    if (callback == nullptr) return true;
    const glimpse_step_result result = step_result(step);
    return callback(user, &result) != 0;
  };
  request.on_done = [state, callback = given.on_done, user = given.on_done_user](RequestResult result) {
    {
      const std::lock_guard lock(state->mutex);
      state->result = std::move(result);
      state->finished = true;
      state->changed.notify_all();
    }
    if (callback == nullptr) return;
    glimpse_ticket ticket;
    ticket.state = state;
    callback(user, &ticket);
  };
}

// Under the state's mutex.
void tell(const glimpse_ticket& ticket) {
  const TicketState& state = *ticket.state;
  ticket.told = state.finished ? state.result.answer : state.said;
  ticket.message = state.finished && !state.result.status.ok() ? state.result.status.error().message : std::string();
  ticket.logprobs.clear();
  for (const SampledToken& token : ticket.told.logprobs) ticket.logprobs.push_back(token.logprob);
  ticket.pictures.clear();
  for (const RequestPictureSizes& sizes : state.result.pictures) {
    ticket.pictures.push_back({static_cast<int32_t>(sizes.original.width), static_cast<int32_t>(sizes.original.height),
                               static_cast<int32_t>(sizes.resized.width), static_cast<int32_t>(sizes.resized.height)});
  }
}

glimpse_request_result request_result(const glimpse_ticket& ticket, bool finished, const RequestResult& result) {
  glimpse_request_result filled{};
  const Answer& answer = ticket.told;
  filled.finished = finished ? 1 : 0;
  filled.status = finished && !result.status.ok() ? to_status(result.status.error().code) : GLIMPSE_OK;
  filled.message = ticket.message.c_str();
  filled.finish_reason = finished && answer.finished ? static_cast<int32_t>(answer.reason) : GLIMPSE_FINISH_NONE;
  filled.text = answer.text.c_str();
  filled.n_bytes = answer.text.size();
  filled.tokens = answer.tokens.data();
  filled.n_tokens = answer.tokens.size();
  filled.logprobs = ticket.logprobs.empty() ? nullptr : ticket.logprobs.data();
  filled.queued_ms = result.queued_ms;
  filled.first_token_ms = result.first_token_ms;
  filled.total_ms = result.total_ms;
  filled.n_cached_images = result.n_cached_images;
  filled.thinking_open = finished && answer.thinking_open ? 1 : 0;
  filled.pictures = ticket.pictures.empty() ? nullptr : ticket.pictures.data();
  filled.n_pictures = ticket.pictures.size();
  return filled;
}

// Until it is finished, says more than n_seen tokens, or the time is up. The engine is held for a step only, and not
// under the lock: another thread may free it meanwhile, and whoever lets go of it last waits for its thread.
Status wait_for(const glimpse_ticket& ticket, size_t n_seen, int64_t timeout_ms) {
  TicketState& state = *ticket.state;
  const bool for_ever = timeout_ms < 0 || timeout_ms > std::numeric_limits<int32_t>::max();
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(for_ever ? 0 : timeout_ms);
  const auto there = [&] { return state.finished || state.said.tokens.size() > n_seen; };
  for (;;) {
    std::shared_ptr<Engine> engine = ticket.engine.lock();
    if (engine != nullptr && engine->left_behind()) {
      return make_error(ErrorCode::kCancelled, "the engine is at work in the parent process");
    }
    std::unique_lock lock(state.mutex);
    if (there() || (!for_ever && std::chrono::steady_clock::now() >= end)) return {};
    lock.unlock();
    if (engine != nullptr && engine->in_callback()) return {};
    if (engine != nullptr && !engine->has_thread()) {
      engine->step();
      continue;
    }
    engine.reset();
    lock.lock();
    if (for_ever) {
      state.changed.wait(lock, there);
    } else {
      state.changed.wait_until(lock, end, there);
    }
  }
}

}  // namespace

extern "C" {

size_t glimpse_engine_params_init(glimpse_engine_params* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* params) {
    const EngineOptions defaults;
    params->n_ctx = static_cast<int32_t>(defaults.context);
    params->n_batch = static_cast<int32_t>(defaults.batch);
    params->n_parallel = defaults.n_parallel;
    params->n_queued = static_cast<int32_t>(defaults.n_queued);
    params->kv_type = GLIMPSE_KV_F16;
    params->prompt_cache = defaults.prompt_cache ? 1 : 0;
    params->image_cache_bytes = static_cast<int64_t>(defaults.image_cache_bytes);
    params->image_cache_dir_bytes = static_cast<int64_t>(defaults.image_cache_dir_bytes);
    init_picture_params(params);
  });
}

glimpse_status glimpse_plan_engine(const glimpse_model* model, const glimpse_engine_params* params,
                                   glimpse_memory_plan* plan) {
  return give_plan(model, params, plan, engine_options, plan_engine);
}

glimpse_status glimpse_engine_create(const glimpse_model* model, const glimpse_engine_params* params,
                                     glimpse_engine** out) {
  return give_made(model, params, out, engine_options, [](auto& handle, const auto& of, const auto& options) -> Status {
    handle.limits = options.source_limits;
    GLIMPSE_ASSIGN(handle.engine, Engine::create(of, options));
    return {};
  });
}

void glimpse_engine_free(glimpse_engine* engine) {
  if (engine != nullptr) engine->engine->end();  // a thread that waits for a ticket may have it for a moment longer
  delete engine;
}

glimpse_status glimpse_engine_start(glimpse_engine* engine) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(engine, "engine"));
    return engine->engine->start();
  });
}

glimpse_status glimpse_engine_stop(glimpse_engine* engine, int64_t grace_ms) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(engine, "engine"));
    engine->engine->stop(grace_ms);
    return {};
  });
}

glimpse_status glimpse_engine_step(glimpse_engine* engine, int32_t* more) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(engine, "engine"));
    const bool left = engine->engine->step();
    if (more != nullptr) *more = left ? 1 : 0;
    return {};
  });
}

size_t glimpse_request_init(glimpse_request* params, size_t struct_size) {
  return init_params(params, struct_size, [](auto*) {});
}

glimpse_status glimpse_engine_submit(glimpse_engine* engine, const glimpse_request* request, glimpse_ticket** out) {
  return guarded([&]() -> Status {
    if (out != nullptr) *out = nullptr;
    GLIMPSE_TRY(require(engine, "engine"));
    GLIMPSE_ASSIGN(const glimpse_request given, given_params(request, glimpse_request_init));
    if (out == nullptr && given.on_done == nullptr) {
      return make_error(ErrorCode::kInvalidArgument, "neither a ticket nor on_done: nobody would know of the answer");
    }
    auto ticket = std::make_unique<glimpse_ticket>();
    ticket->state = std::make_shared<TicketState>();
    ticket->engine = engine->engine;
    Request to;
    GLIMPSE_ASSIGN(to.messages, read_request_messages(given, engine->limits));
    if (given.generate != nullptr) {
      GLIMPSE_ASSIGN(to.generate, generate_options(given.generate));
    }
    GLIMPSE_ASSIGN(to.prompt, prompt_options(given.tools, given.n_tools, given.thinking));
    to.deadline_ms = given.deadline_ms;
    to.priority = given.priority;
    connect(to, given, ticket->state);
    GLIMPSE_ASSIGN(ticket->id, engine->engine->submit(std::move(to)));
    if (out != nullptr) *out = ticket.release();
    return {};
  });
}

void glimpse_ticket_cancel(const glimpse_ticket* ticket) {
  if (ticket == nullptr) return;
  if (const std::shared_ptr<Engine> engine = ticket->engine.lock()) engine->cancel(ticket->id);
}

void glimpse_ticket_free(glimpse_ticket* ticket) {
  glimpse_ticket_cancel(ticket);
  delete ticket;
}

glimpse_status glimpse_ticket_wait(const glimpse_ticket* ticket, size_t n_seen, int64_t timeout_ms,
                                   glimpse_request_result* result) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(ticket, "ticket"));
    GLIMPSE_TRY(check_info(result));
    GLIMPSE_TRY(wait_for(*ticket, n_seen, timeout_ms));
    const std::lock_guard lock(ticket->state->mutex);
    tell(*ticket);
    return write_info(request_result(*ticket, ticket->state->finished, ticket->state->result), result);
  });
}

glimpse_status glimpse_ticket_get_top_logprobs(const glimpse_ticket* ticket, size_t index, int32_t* ids,
                                               float* logprobs, size_t capacity, size_t* n) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(ticket, "ticket"));
    return write_top_logprobs(ticket->told.logprobs, index, ids, logprobs, capacity, n);
  });
}

glimpse_status glimpse_ticket_get_timings(const glimpse_ticket* ticket, glimpse_timings* timings) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(ticket, "ticket"));
    const std::lock_guard lock(ticket->state->mutex);
    return write_timings(ticket->state->result.answer.timings, timings);
  });
}

glimpse_status glimpse_engine_get_stats(const glimpse_engine* engine, glimpse_engine_stats* stats) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(engine, "engine"));
    const EngineStats now = engine->engine->stats();
    glimpse_engine_stats filled{};
    filled.n_running = now.n_running;
    filled.n_waiting = now.n_waiting;
    filled.n_pages = now.n_pages;
    filled.n_free_pages = now.n_free_pages;
    filled.n_kept_pages = now.n_kept_pages;
    filled.page_bytes = now.page_bytes;
    filled.n_requests = now.n_requests;
    filled.n_finished = now.n_finished;
    filled.n_failed = now.n_failed;
    filled.n_cancelled = now.n_cancelled;
    filled.n_refused = now.n_refused;
    filled.n_passes = now.n_passes;
    filled.n_prompt_tokens = now.n_prompt_tokens;
    filled.n_cached_prompt_tokens = now.n_cached_prompt_tokens;
    filled.n_generated_tokens = now.n_generated_tokens;
    filled.n_images = now.n_images;
    filled.n_cached_images = now.n_cached_images;
    filled.n_image_tokens = now.n_image_tokens;
    filled.image_seconds = now.image_seconds;
    filled.prefill_seconds = now.prefill_seconds;
    filled.decode_seconds = now.decode_seconds;
    return write_info(filled, stats);
  });
}

}  // extern "C"
