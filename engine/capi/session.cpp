// glimpse_session_*, glimpse_generate and the stepwise calls.
#include <algorithm>

#include "engine/capi/handles.h"
#include "engine/generate/session_plan.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace glimpse::capi {

Result<SessionOptions> session_options(const glimpse_session_params* given) {
  GLIMPSE_ASSIGN(const glimpse_session_params params, given_params(given, glimpse_session_params_init));
  SessionOptions options;
  options.n_threads = params.n_threads;
  options.context = params.n_ctx;
  options.batch = params.n_batch;
  GLIMPSE_ASSIGN(options.kv_element, kv_element(params.kv_type));
  GLIMPSE_TRY(read_picture_params(params, &options));
  options.n_speculate = params.n_speculate;
  options.pool_slots = params.n_pool;
  if (params.draft_model != nullptr) options.draft_model = params.draft_model->model;
  options.n_draft = params.n_draft;
  options.draft_min_probability = params.draft_min_probability;
  options.log = log_sink(params.log, params.log_user);
  options.cancel = params.cancel;
  return options;
}

Result<KvElement> kv_element(int32_t kv_type) {
  switch (kv_type) {
    case GLIMPSE_KV_BF16:
      return KvElement::kBf16;
    case GLIMPSE_KV_F32:
      return KvElement::kF32;
    case GLIMPSE_KV_F16:
      return KvElement::kF16;
    case GLIMPSE_KV_Q8_0:
      return KvElement::kQ8_0;
    default:
      return make_error(ErrorCode::kInvalidArgument, "kv_type %d is unknown", kv_type);
  }
}

Result<GenerateOptions> generate_options(const glimpse_generate_params* given) {
  GLIMPSE_ASSIGN(const glimpse_generate_params params, given_params(given, glimpse_generate_params_init));
  GenerateOptions options;
  options.max_tokens = params.max_tokens;
  options.sampler.temperature = params.temperature;
  options.sampler.top_k = params.top_k;
  options.sampler.top_p = params.top_p;
  options.sampler.min_p = params.min_p;
  options.sampler.repetition_penalty = params.repetition_penalty;
  options.sampler.presence_penalty = params.presence_penalty;
  options.sampler.frequency_penalty = params.frequency_penalty;
  options.sampler.penalty_last_n = params.penalty_last_n;
  options.sampler.seed = params.seed;
  if (params.n_logit_bias > 0) GLIMPSE_TRY(require(params.logit_bias, "logit_bias"));
  for (size_t i = 0; i < params.n_logit_bias; ++i) {
    options.sampler.logit_bias.emplace_back(params.logit_bias[i].id, params.logit_bias[i].bias);
  }
  if (params.n_stop > 0) GLIMPSE_TRY(require(params.stop, "stop"));
  for (size_t i = 0; i < params.n_stop; ++i) {
    GLIMPSE_TRY(require(params.stop[i], "a stop string"));
    options.stop.emplace_back(params.stop[i]);
  }
  options.n_top_logprobs = params.n_top_logprobs;
  options.render_special = params.render_special != 0;
  if (params.on_text != nullptr) {
    options.on_text = [callback = params.on_text, user = params.on_text_user](std::string_view text) {
      return callback(user, std::string(text).c_str(), text.size()) != 0;
    };
  }
  options.progress = progress_sink(params.progress, params.progress_user);
  if (params.constraint != nullptr) options.constraint = params.constraint->constraint;
  return options;
}

Result<std::string> part_text(const char* text, size_t n_bytes) {
  if (n_bytes > Tokenizer::kMaxTextBytes) {
    return make_error(ErrorCode::kInvalidArgument, "n_bytes of a part is %d: at most %d (clear the struct first)",
                      n_bytes, Tokenizer::kMaxTextBytes);
  }
  GLIMPSE_TRY(require(text, "a part's text"));
  return n_bytes > 0 ? std::string(text, n_bytes) : std::string(text);
}

Status write_step(glimpse_session& session, Session::Step step, glimpse_step_result* result) {
  session.step_text = std::move(step.text);
  glimpse_step_result filled{};
  filled.token = step.token.id;
  filled.logprob = step.token.logprob;
  filled.finish_reason = step.finished ? static_cast<int32_t>(step.reason) : GLIMPSE_FINISH_NONE;
  filled.text = session.step_text.c_str();
  filled.n_bytes = session.step_text.size();
  filled.status = GLIMPSE_OK;
  return write_info(filled, result);
}

Status write_timings(const Timings& measured, glimpse_timings* timings) {
  glimpse_timings filled{};
  filled.image_decode_ms = measured.image_decode;
  filled.image_resize_ms = measured.image_resize;
  filled.image_encode_ms = measured.image_encode;
  filled.prefill_ms = measured.prefill;
  filled.decode_ms = measured.decode;
  filled.n_image_tokens = measured.n_image_tokens;
  filled.n_prompt_tokens = measured.n_prompt_tokens;
  filled.n_cached_tokens = measured.n_cached_tokens;
  filled.n_generated_tokens = measured.n_generated_tokens;
  filled.n_drafted_tokens = measured.n_drafted_tokens;
  filled.n_accepted_tokens = measured.n_accepted_tokens;
  return write_info(filled, timings);
}

Status write_top_logprobs(const std::vector<SampledToken>& tokens, size_t index, int32_t* ids, float* logprobs,
                          size_t capacity, size_t* n) {
  GLIMPSE_TRY(require(n, "n"));
  *n = 0;
  if (index >= tokens.size()) {
    return make_error(ErrorCode::kInvalidArgument, "token %d: log-probabilities of %d tokens were kept", index,
                      tokens.size());
  }
  const std::vector<TokenLogprob>& top = tokens[index].top;
  const size_t count = std::min(capacity, top.size());
  if (count > 0) {
    GLIMPSE_TRY(require(ids, "ids"));
    GLIMPSE_TRY(require(logprobs, "logprobs"));
  }
  for (size_t i = 0; i < count; ++i) {
    ids[i] = top[i].id;
    logprobs[i] = top[i].logprob;
  }
  *n = top.size();
  return {};
}

glimpse_memory_plan memory_plan(const MemoryPlan& plan) {
  glimpse_memory_plan filled{};
  filled.weights = plan.weights;
  filled.kv_cache = plan.kv_cache;
  filled.decoder_scratch = plan.decoder_scratch;
  filled.vision_scratch = plan.vision_scratch;
  filled.total = plan.total();
  filled.image_reading = plan.image_reading;
  return filled;
}

Result<std::vector<Message>> read_messages(const glimpse_message* messages, size_t n_messages) {
  if (n_messages > 0) GLIMPSE_TRY(require(messages, "messages"));
  std::vector<Message> converted;
  for (size_t i = 0; i < n_messages; ++i) {
    GLIMPSE_TRY(require(messages[i].role, "a message's role"));
    if (messages[i].n_parts > 0) GLIMPSE_TRY(require(messages[i].parts, "a message's parts"));
    Message message{messages[i].role, {}};
    for (size_t k = 0; k < messages[i].n_parts; ++k) {
      const glimpse_part& part = messages[i].parts[k];
      if (part.embedding != nullptr) {
        message.parts.push_back({"", part.embedding->embedding});
      } else {
        GLIMPSE_ASSIGN(std::string text, part_text(part.text, part.n_bytes));
        message.parts.push_back({std::move(text), nullptr});
      }
    }
    converted.push_back(std::move(message));
  }
  return converted;
}

}  // namespace glimpse::capi

extern "C" {

size_t glimpse_session_params_init(glimpse_session_params* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* params) {
    const SessionOptions defaults;
    params->n_ctx = static_cast<int32_t>(defaults.context);
    params->n_batch = static_cast<int32_t>(defaults.batch);
    params->kv_type = GLIMPSE_KV_F16;
    params->n_draft = defaults.n_draft;
    init_picture_params(params);
  });
}

glimpse_status glimpse_plan_session(const glimpse_model* model, const glimpse_session_params* params,
                                    glimpse_memory_plan* plan) {
  return give_plan(model, params, plan, session_options, plan_session);
}

glimpse_status glimpse_session_create(const glimpse_model* model, const glimpse_session_params* params,
                                      glimpse_session** out) {
  return give_made(model, params, out, session_options,
                   [](auto& handle, const auto& of, const auto& options) -> Status {
                     GLIMPSE_ASSIGN(handle.session, Session::create(of, options));
                     handle.model = of;
                     return {};
                   });
}

void glimpse_session_free(glimpse_session* session) {
  free_handle(session);
}

glimpse_status glimpse_session_get_info(const glimpse_session* session, glimpse_session_info* info) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin_reading(session));
    const SessionSizes& sizes = session->session->sizes();
    glimpse_session_info filled{};
    filled.n_ctx = static_cast<int32_t>(sizes.context);
    filled.n_batch = static_cast<int32_t>(sizes.batch);
    filled.n_threads = sizes.n_threads;
    filled.n_speculate = static_cast<int32_t>(sizes.n_speculate);
    filled.max_image_tokens = static_cast<int32_t>(sizes.max_image_tokens);
    filled.page_slots = static_cast<int32_t>(kKeyBlock);
    filled.n_pages = static_cast<int32_t>(session->session->n_pages());
    filled.n_free_pages = static_cast<int32_t>(session->session->n_free_pages());
    filled.n_draft = static_cast<int32_t>(sizes.draft.n_tokens);
    return write_info(filled, info);
  });
}

glimpse_status glimpse_session_reset(glimpse_session* session) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    session->session->reset();
    return {};
  });
}

size_t glimpse_generate_params_init(glimpse_generate_params* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* params) {
    const GenerateOptions defaults;
    params->max_tokens = static_cast<int32_t>(defaults.max_tokens);
    params->temperature = defaults.sampler.temperature;
    params->top_k = defaults.sampler.top_k;
    params->top_p = defaults.sampler.top_p;
    params->min_p = defaults.sampler.min_p;
    params->repetition_penalty = defaults.sampler.repetition_penalty;
    params->penalty_last_n = defaults.sampler.penalty_last_n;
  });
}

glimpse_status glimpse_generate(glimpse_session* session, const glimpse_message* messages, size_t n_messages,
                                const glimpse_generate_params* params) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(const GenerateOptions options, generate_options(params));
    GLIMPSE_ASSIGN(const std::vector<Message> converted, read_messages(messages, n_messages));
    GLIMPSE_ASSIGN(const Answer answer, session->session->generate(converted, options));
    (void)answer;  // the session keeps it
    return {};
  });
}

glimpse_status glimpse_prefill(glimpse_session* session, const glimpse_message* messages, size_t n_messages,
                               glimpse_progress_callback progress, void* progress_user) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(const std::vector<Message> converted, read_messages(messages, n_messages));
    return session->session->prefill(converted, progress_sink(progress, progress_user));
  });
}

glimpse_status glimpse_begin_answer(glimpse_session* session, const glimpse_generate_params* params) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(const GenerateOptions options, generate_options(params));
    return session->session->begin_answer(options);
  });
}

glimpse_status glimpse_step(glimpse_session* session, glimpse_step_result* result) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_TRY(check_info(result));  // before the step: a token that cannot be told of would be lost
    GLIMPSE_ASSIGN(Session::Step step, session->session->step());
    return write_step(*session, std::move(step), result);
  });
}

glimpse_status glimpse_get_answer(const glimpse_session* session, glimpse_answer_info* info) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin_reading(session));
    const Answer& answer = session->session->answer();
    glimpse_answer_info filled{};
    filled.text = answer.text.c_str();
    filled.n_bytes = answer.text.size();
    filled.tokens = answer.tokens.data();
    filled.n_tokens = answer.tokens.size();
    filled.thinking_open = answer.thinking_open ? 1 : 0;
    filled.finish_reason = answer.finished ? static_cast<int32_t>(answer.reason) : GLIMPSE_FINISH_NONE;
    return write_info(filled, info);
  });
}

glimpse_status glimpse_get_top_logprobs(const glimpse_session* session, size_t index, int32_t* ids, float* logprobs,
                                        size_t capacity, size_t* n) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin_reading(session));
    return write_top_logprobs(session->session->answer().logprobs, index, ids, logprobs, capacity, n);
  });
}

glimpse_status glimpse_get_logits(const glimpse_session* session, const float** logits, size_t* n) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_TRY(require(logits, "logits"));
    GLIMPSE_TRY(require(n, "n"));
    GLIMPSE_ASSIGN(const std::span<const float> values, session->session->logits());
    *logits = values.data();
    *n = values.size();
    return {};
  });
}

glimpse_status glimpse_get_timings(const glimpse_session* session, glimpse_timings* timings) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin_reading(session));
    return write_timings(session->session->timings(), timings);
  });
}

int32_t glimpse_session_n_past(const glimpse_session* session) {
  return session == nullptr ? 0 : session->n_past.load(std::memory_order_relaxed);
}

int32_t glimpse_session_n_ctx(const glimpse_session* session) {
  return session == nullptr ? 0 : static_cast<int32_t>(session->session->context());
}

}  // extern "C"
