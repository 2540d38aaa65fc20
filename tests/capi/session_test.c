/* Plans, sessions, answers: whole, streamed, cancelled and in steps. */
#include "support.h"

static const glimpse_part kSeven = {"what is 7?", NULL, 0};
static const glimpse_message kWhatIs7 = {"user", &kSeven, 1};

static Answer answer_anew(glimpse_session* session, const glimpse_message* message,
                          const glimpse_generate_params* params) {
  CHECK_OK(glimpse_session_reset(session));
  CHECK_OK(glimpse_generate(session, message, 1, params));
  return read_answer(session);
}

/* Neither of the tokens that end an answer. */
static const glimpse_logit_bias kEndless[2] = {{288, -INFINITY}, {290, -INFINITY}};

static void count_warnings(void* user, glimpse_log_level level, const char* message) {
  if (level >= GLIMPSE_LOG_WARNING) {
    ++*(int*)user;
    CHECK(strstr(message, "the model was trained for 512") != NULL);
  }
}

/* A context beyond the model's is cut, said once, and can be asked for. */
static void says_how_large_the_context_is(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session_params params = tiny_session_params();
  glimpse_session* session = NULL;
  int n_warnings = 0;
  params.log = count_warnings;
  params.log_user = &n_warnings;
  params.n_ctx = 300;
  CHECK_OK(glimpse_session_create(model, &params, &session));
  CHECK(glimpse_session_n_ctx(session) == 300 && n_warnings == 0);
  glimpse_session_free(session);
  params.n_ctx = 100000;
  CHECK_OK(glimpse_session_create(model, &params, &session));
  CHECK(glimpse_session_n_ctx(session) == 512 && n_warnings == 1);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

static void plans_before_it_allocates(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_session_params params = tiny_session_params();
  glimpse_memory_plan small, large;
  memset(&small, 0, sizeof small);
  memset(&large, 0, sizeof large);
  small.struct_size = large.struct_size = sizeof small;
  CHECK_OK(glimpse_plan_session(model, &params, &small));
  CHECK(small.struct_size == sizeof small);
  CHECK(small.weights > 0 && small.kv_cache > 0 && small.decoder_scratch > 0 && small.vision_scratch > 0);
  CHECK(small.total ==
        small.weights + small.kv_cache + small.decoder_scratch + small.vision_scratch + small.image_reading);
  CHECK(small.image_reading == 256u << 20 && (uint64_t)params.image_source_max_memory == small.image_reading);
  params.n_ctx = 512;
  params.kv_type = GLIMPSE_KV_F32;
  CHECK_OK(glimpse_plan_session(model, &params, &large));
  CHECK(large.kv_cache >= 3 * small.kv_cache); /* twice the positions of twice the bytes */
  CHECK(large.weights == small.weights);
  params.kv_type = GLIMPSE_KV_F16;
  CHECK_OK(glimpse_plan_session(model, &params, &small));
  CHECK(2 * small.kv_cache == large.kv_cache);
  params.kv_type = GLIMPSE_KV_BF16;
  CHECK_OK(glimpse_plan_session(model, &params, &large));
  CHECK(small.kv_cache == large.kv_cache);
  params.kv_type = GLIMPSE_KV_Q8_0;
  CHECK_OK(glimpse_plan_session(model, &params, &large));
  CHECK(large.kv_cache < small.kv_cache && 2 * large.kv_cache > small.kv_cache);
  /* A program that was built before the field existed gets the default, whatever lies there. */
  params.struct_size = offsetof(glimpse_session_params, kv_type);
  CHECK_OK(glimpse_plan_session(model, &params, &large));
  CHECK(large.kv_cache == small.kv_cache);
  glimpse_model_free(model);
}

static void create_must_fail(const glimpse_model* model, const glimpse_session_params* params) {
  glimpse_session* session = (glimpse_session*)1;
  CHECK_FAILS(glimpse_session_create(model, params, &session), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(session == NULL);
}

static void refuses_bad_sizes(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_session_params params;
  glimpse_session_params_init(&params, sizeof params);
  CHECK(params.struct_size == sizeof params);
  CHECK(params.kv_type == GLIMPSE_KV_F16);
  CHECK(params.n_ctx > 0 && params.n_batch > 0 && params.image_max_pixels > params.image_min_pixels);
#define REFUSES(field, value)     \
  params = tiny_session_params(); \
  params.field = (value);         \
  create_must_fail(model, &params)
  REFUSES(n_ctx, -1);
  REFUSES(n_batch, 0);
  REFUSES(n_threads, -3);
  REFUSES(kv_type, 9);
  REFUSES(kv_type, GLIMPSE_KV_Q8_0 + 1);
  REFUSES(kv_type, -1);
  REFUSES(n_speculate, 16);
  CHECK_ERROR_HAS("n_speculate");
  REFUSES(n_draft, 16);
  CHECK_ERROR_HAS("n_draft");
  REFUSES(image_min_tokens, 65);
#undef REFUSES
  glimpse_model_free(model);
}

typedef struct Stream {
  char text[4096];
  size_t n_bytes, n_calls, stop_after;
} Stream;

static int on_text(void* user, const char* text, size_t n_bytes) {
  Stream* stream = user;
  ++stream->n_calls;
  CHECK(strlen(text) <= n_bytes && text[n_bytes] == '\0');
  if (CHECK(stream->n_bytes + n_bytes < sizeof stream->text)) {
    memcpy(stream->text + stream->n_bytes, text, n_bytes);
    stream->n_bytes += n_bytes;
  }
  return stream->stop_after == 0 || stream->n_calls < stream->stop_after;
}

static void generates_streams_and_steps_the_same(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  Stream stream;
  Progress progress = {"prefill", NULL, 0, 0, 0};
  Answer whole, streamed, stepped;
  glimpse_timings timings;
  glimpse_step_result result;
  char collected[4096];
  size_t n_collected = 0, n_steps = 0, n_prompt;
  int32_t n_past, i;
  const float* logits = NULL;
  size_t n_logits = 0;

  CHECK(glimpse_session_n_past(session) == 0);
  CHECK_FAILS(glimpse_get_logits(session, &logits, &n_logits), GLIMPSE_ERROR_INVALID_ARGUMENT);
  whole = read_answer(session);
  CHECK(whole.n_bytes == 0 && whole.n_tokens == 0 && whole.finish_reason == GLIMPSE_FINISH_NONE);

  /* Whole. */
  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  whole = read_answer(session);
  CHECK(whole.n_tokens >= 1 && whole.n_tokens <= 12);
  CHECK(whole.finish_reason == GLIMPSE_FINISH_MAX_TOKENS || whole.finish_reason == GLIMPSE_FINISH_STOP);
  timings = read_timings(session);
  n_prompt = (size_t)timings.n_prompt_tokens;
  CHECK(n_prompt > 5 && timings.n_cached_tokens == 0 && timings.n_image_tokens == 0);
  CHECK(timings.n_generated_tokens == (int64_t)whole.n_tokens);
  CHECK(timings.prefill_ms > 0 && timings.decode_ms > 0 && timings.image_encode_ms == 0);
  n_past = glimpse_session_n_past(session);
  CHECK(n_past >= (int32_t)n_prompt && n_past <= (int32_t)(n_prompt + whole.n_tokens));

  /* Streamed, after a reset: the same. */
  CHECK_OK(glimpse_session_reset(session));
  CHECK(glimpse_session_n_past(session) == 0);
  CHECK(read_answer(session).n_tokens == 0);
  memset(&stream, 0, sizeof stream);
  params.on_text = on_text;
  params.on_text_user = &stream;
  params.progress = on_progress;
  params.progress_user = &progress;
  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  streamed = read_answer(session);
  CHECK(same_answer(&whole, &streamed));
  CHECK(stream.n_bytes == whole.n_bytes && memcmp(stream.text, whole.text, whole.n_bytes) == 0);
  CHECK(progress.n_calls > 1);

  /* In steps: the same. */
  CHECK_OK(glimpse_session_reset(session));
  progress.n_calls = 0;
  progress.last = 0;
  CHECK_OK(glimpse_prefill(session, &kWhatIs7, 1, on_progress, &progress));
  CHECK(progress.n_calls > 0);
  CHECK(glimpse_session_n_past(session) == (int32_t)n_prompt);
  params = tiny_generate_params();
  CHECK_OK(glimpse_begin_answer(session, &params));
  do {
    CHECK_OK(glimpse_get_logits(session, &logits, &n_logits));
    CHECK(n_logits == 320);
    for (i = 0; i < 320; ++i) CHECK(isfinite(logits[i]));
    begin_info(&result, sizeof result);
    if (!CHECK_OK(glimpse_step(session, &result))) break;
    CHECK(result.text != NULL && result.text[result.n_bytes] == '\0');
    CHECK(result.logprob <= 0);
    memcpy(collected + n_collected, result.text, result.n_bytes);
    n_collected += result.n_bytes;
    if (n_steps < whole.n_tokens) CHECK(result.token == whole.tokens[n_steps]);
    ++n_steps;
    CHECK((read_answer(session).finish_reason == GLIMPSE_FINISH_NONE) == (result.finish_reason == GLIMPSE_FINISH_NONE));
  } while (result.finish_reason == GLIMPSE_FINISH_NONE && n_steps < 100);
  stepped = read_answer(session);
  CHECK(same_answer(&whole, &stepped));
  CHECK(n_collected == whole.n_bytes && memcmp(collected, whole.text, n_collected) == 0);
  CHECK_FAILS(glimpse_step(session, &result), GLIMPSE_ERROR_INVALID_ARGUMENT); /* it is complete */
}

static void cancelling_keeps_what_was_said(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  const glimpse_part part = {"describe the cat", NULL, 0};
  const glimpse_message message = {"user", &part, 1};
  Stream stream;
  Progress progress = {"prefill", NULL, 0, 1, 0};
  Answer whole, cut;

  params.max_tokens = 40;
  params.logit_bias = kEndless;
  params.n_logit_bias = 2;
  params.temperature = 1; /* the greedy answer of random weights may be one token over and over */
  params.seed = 3;
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  whole = read_answer(session);
  CHECK_OK(glimpse_session_reset(session));
  memset(&stream, 0, sizeof stream);
  stream.stop_after = 2;
  params.on_text = on_text;
  params.on_text_user = &stream;
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  cut = read_answer(session);
  CHECK(cut.finish_reason == GLIMPSE_FINISH_CANCELLED);
  CHECK(stream.n_calls == 2);
  CHECK(cut.n_bytes == stream.n_bytes && cut.n_bytes < whole.n_bytes);
  CHECK(memcmp(cut.text, whole.text, cut.n_bytes) == 0);

  /* Cancelled during the prefill: an error, and the conversation is as it was. */
  {
    const int32_t before = glimpse_session_n_past(session);
    params = tiny_generate_params();
    params.progress = on_progress;
    params.progress_user = &progress;
    CHECK_FAILS(glimpse_generate(session, &message, 1, &params), GLIMPSE_ERROR_CANCELLED);
    CHECK(glimpse_session_n_past(session) == before);
    progress.n_calls = 0;
    progress.last = 0;
    CHECK_FAILS(glimpse_prefill(session, &message, 1, on_progress, &progress), GLIMPSE_ERROR_CANCELLED);
    CHECK(glimpse_session_n_past(session) == before);
    cut = read_answer(session);
    CHECK(cut.finish_reason == GLIMPSE_FINISH_CANCELLED); /* still the last answer that was made */
  }
}

static void gives_log_probabilities(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  int32_t ids[5];
  float logprobs[5];
  size_t i, k, n = 9;
  Answer answer;

  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  CHECK_FAILS(glimpse_get_top_logprobs(session, 0, ids, logprobs, 5, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(n == 0);

  CHECK_OK(glimpse_session_reset(session));
  params.n_top_logprobs = 5;
  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  answer = read_answer(session);
  for (i = 0; i < answer.n_tokens; ++i) {
    CHECK_OK(glimpse_get_top_logprobs(session, i, NULL, NULL, 0, &n));
    CHECK(n == 5);
    CHECK_OK(glimpse_get_top_logprobs(session, i, ids, logprobs, 5, &n));
    CHECK(n == 5);
    CHECK(ids[0] == answer.tokens[i]); /* greedy takes the first */
    CHECK(logprobs[0] <= 0);
    for (k = 1; k < n; ++k) CHECK(logprobs[k] <= logprobs[k - 1] && ids[k] != ids[k - 1]);
  }
  CHECK_FAILS(glimpse_get_top_logprobs(session, answer.n_tokens, ids, logprobs, 5, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ids[2] = -7;
  CHECK_OK(glimpse_get_top_logprobs(session, 0, ids, logprobs, 2, &n)); /* less room than there are */
  CHECK(n == 5 && ids[2] == -7);
}

static void samples_biases_and_stops(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_logit_bias bias;
  const char* stop[1];
  char needle[8];
  Answer greedy, other;

  /* A bias that forbids the greedy choice. */
  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  greedy = read_answer(session);
  bias.id = greedy.tokens[0];
  bias.bias = -INFINITY;
  params.logit_bias = &bias;
  params.n_logit_bias = 1;
  other = answer_anew(session, &kWhatIs7, &params);
  CHECK(other.n_tokens > 0 && other.tokens[0] != greedy.tokens[0]);
  bias.id = 320;
  CHECK_FAILS(glimpse_generate(session, &kWhatIs7, 1, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);

  /* The same seed draws the same, another seed does not. */
  params = tiny_generate_params();
  params.max_tokens = 30;
  params.temperature = 1;
  params.seed = 42;
  params.logit_bias = kEndless;
  params.n_logit_bias = 2;
  greedy = answer_anew(session, &kWhatIs7, &params);
  CHECK(greedy.n_tokens == 30 && greedy.finish_reason == GLIMPSE_FINISH_MAX_TOKENS);
  other = answer_anew(session, &kWhatIs7, &params);
  CHECK(same_answer(&greedy, &other));
  params.seed = 43;
  other = answer_anew(session, &kWhatIs7, &params);
  CHECK(!same_answer(&greedy, &other));

  /* A stop string is not part of the answer. */
  if (CHECK(greedy.n_bytes > 6)) {
    size_t at = greedy.n_bytes / 2;
    while (at > 0 && ((unsigned char)greedy.text[at] & 0xC0) == 0x80) --at; /* whole UTF-8 */
    {
      size_t n = 1;
      while (((unsigned char)greedy.text[at + n] & 0xC0) == 0x80) ++n;
      memcpy(needle, greedy.text + at, n);
      needle[n] = '\0';
    }
    stop[0] = needle;
    params.seed = 42;
    params.stop = stop;
    params.n_stop = 1;
    other = answer_anew(session, &kWhatIs7, &params);
    CHECK(other.finish_reason == GLIMPSE_FINISH_STOP_STRING);
    CHECK(strstr(other.text, needle) == NULL);
    CHECK(strncmp(other.text, greedy.text, other.n_bytes) == 0);
  }

  params = tiny_generate_params();
  params.temperature = -1;
  CHECK_FAILS(glimpse_generate(session, &kWhatIs7, 1, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params = tiny_generate_params();
  params.top_p = 2;
  CHECK_FAILS(glimpse_generate(session, &kWhatIs7, 1, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params = tiny_generate_params();
  params.max_tokens = -2;
  CHECK_FAILS(glimpse_generate(session, &kWhatIs7, 1, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
}

static void continues_a_conversation(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_part parts[3] = {{NULL, NULL, 0}};
  glimpse_message messages[2];
  int32_t before;
  glimpse_timings timings;

  params.max_tokens = 4;
  parts[0] = text_part("the cat");
  parts[1] = text_part(" and ");
  parts[2] = text_part("the dog");
  messages[0].role = "system";
  messages[0].parts = parts;
  messages[0].n_parts = 1;
  messages[1] = user_message(parts, 3);
  CHECK_OK(glimpse_generate(session, messages, 2, &params));
  before = glimpse_session_n_past(session);
  CHECK_OK(glimpse_generate(session, messages + 1, 1, &params));
  timings = read_timings(session);
  CHECK(glimpse_session_n_past(session) > before);
  CHECK(timings.n_cached_tokens >= before);

  /* A role nobody knows, a message after which there is nothing to say. */
  messages[1].role = "wizard";
  before = glimpse_session_n_past(session);
  CHECK_FAILS(glimpse_generate(session, messages + 1, 1, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(glimpse_session_n_past(session) == before);
}

static void says_when_the_context_is_full(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_part part = {NULL, NULL, 0};
  glimpse_message message;
  char* text = malloc(4001);
  int i;
  if (text == NULL) exit(1);
  for (i = 0; i < 4000; ++i) text[i] = (char)('0' + i % 10);
  text[4000] = '\0';
  part = text_part(text);
  message = user_message(&part, 1);
  CHECK_FAILS(glimpse_generate(session, &message, 1, &params), GLIMPSE_ERROR_CONTEXT_FULL);
  CHECK_ERROR_HAS("256");
  CHECK(glimpse_session_n_past(session) == 0);

  /* A prompt that fits, and an answer that fills what is left. */
  text[150] = '\0';
  params.max_tokens = -1;
  params.temperature = 1;
  params.logit_bias = kEndless;
  params.n_logit_bias = 2;
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  CHECK(read_answer(session).finish_reason == GLIMPSE_FINISH_CONTEXT_FULL);
  CHECK(glimpse_session_n_past(session) <= 256);
  CHECK_OK(glimpse_session_reset(session));
  CHECK(glimpse_session_n_past(session) == 0);
  free(text);
}

/* Drafts change no token, in generate and in steps; programs built before the field have none. */
static void speculates_without_a_difference(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session *plain = create_tiny(model), *speculating = NULL, *drafting = NULL, *older = NULL;
  glimpse_session_info info;
  glimpse_session_params session_params = tiny_session_params();
  glimpse_generate_params params = tiny_generate_params();
  const glimpse_part part = {"7777 is 7777", NULL, 0};
  const glimpse_message message = {"user", &part, 1};
  glimpse_step_result result;
  Answer want, got;
  glimpse_timings timings;

  params.max_tokens = 60;
  params.temperature = 0.3f;
  params.logit_bias = kEndless;
  params.n_logit_bias = 2;
  CHECK(session_params.n_speculate == 0);
  CHECK_OK(glimpse_generate(plain, &message, 1, &params));
  want = read_answer(plain);
  timings = read_timings(plain);
  CHECK(timings.n_drafted_tokens == 0 && timings.n_accepted_tokens == 0);

  session_params.n_speculate = 4;
  CHECK_OK(glimpse_session_create(model, &session_params, &speculating));
  CHECK_OK(glimpse_generate(speculating, &message, 1, &params));
  got = read_answer(speculating);
  CHECK(same_answer(&want, &got));
  CHECK(glimpse_session_n_past(plain) == glimpse_session_n_past(speculating));
  timings = read_timings(speculating);
  CHECK(timings.n_accepted_tokens > 0 && timings.n_accepted_tokens <= timings.n_drafted_tokens);

  CHECK_OK(glimpse_session_reset(speculating));
  CHECK_OK(glimpse_prefill(speculating, &message, 1, NULL, NULL));
  CHECK_OK(glimpse_begin_answer(speculating, &params));
  do {
    begin_info(&result, sizeof result);
    if (!CHECK_OK(glimpse_step(speculating, &result))) break;
  } while (result.finish_reason == GLIMPSE_FINISH_NONE);
  got = read_answer(speculating);
  CHECK(same_answer(&want, &got));

  session_params.n_speculate = 0;
  session_params.draft_model = model;
  session_params.draft_min_probability = 1e-9f;
  CHECK(session_params.n_draft == 8);
  CHECK_OK(glimpse_session_create(model, &session_params, &drafting));
  CHECK_OK(glimpse_generate(drafting, &message, 1, &params));
  got = read_answer(drafting);
  CHECK(same_answer(&want, &got));
  timings = read_timings(drafting); /* it drafts for itself */
  CHECK(timings.n_accepted_tokens >= 50 && timings.n_accepted_tokens == timings.n_drafted_tokens);
  info.struct_size = sizeof info;
  CHECK_OK(glimpse_session_get_info(drafting, &info));
  CHECK(info.n_draft == 8 && info.n_speculate == 0);

  session_params.n_speculate = 4;
  session_params.struct_size = offsetof(glimpse_session_params, n_speculate);
  CHECK_OK(glimpse_session_create(model, &session_params, &older));
  CHECK_OK(glimpse_generate(older, &message, 1, &params));
  got = read_answer(older);
  CHECK(same_answer(&want, &got));
  CHECK(read_timings(older).n_drafted_tokens == 0);
  timings.n_drafted_tokens = -7; /* beyond what an older program has room for */
  timings.struct_size = offsetof(glimpse_timings, n_drafted_tokens);
  CHECK_OK(glimpse_get_timings(speculating, &timings));
  CHECK(timings.n_drafted_tokens == -7 && timings.n_generated_tokens == 60);

  glimpse_session_free(older);
  glimpse_session_free(drafting);
  glimpse_session_free(speculating);
  glimpse_session_free(plain);
  glimpse_model_free(model);
}

static void tells_what_its_parameters_came_to(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_session_params params = tiny_session_params();
  glimpse_session* session = NULL;
  glimpse_session_info info;
  params.n_ctx = 100000; /* the model was trained for 512 */
  params.n_batch = 1000;
  params.n_speculate = 3;
  params.n_threads = 0;
  CHECK_OK(glimpse_session_create(model, &params, &session));
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_session_get_info(session, &info));
  CHECK(info.n_ctx == 512 && info.n_batch == 512 && info.n_speculate == 3);
  CHECK(info.n_threads >= 1 && info.max_image_tokens == 64);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

/* The text that is shown has the tokens that a prompt of the same messages runs. */
static void renders_the_chat_format(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_embedding* embedding = NULL;
  uint8_t* rgb = make_rgb(56, 28);
  glimpse_part parts[2] = {{NULL, NULL, 0}};
  glimpse_message message;
  char text[512];
  int32_t ids[256];
  size_t n = 0, n_ids = 0;
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 56, 28, 0, NULL, NULL, &embedding));
  parts[0] = picture_part(embedding);
  parts[1] = text_part("what is this picture");
  message = user_message(parts, 2);
  CHECK_OK(glimpse_render_chat(tiny->model, &message, 1, NULL, 0, &n));
  CHECK_FAILS(glimpse_render_chat(tiny->model, &message, 1, text, n - 1, &n), GLIMPSE_ERROR_TOO_LARGE);
  CHECK_OK(glimpse_render_chat(tiny->model, &message, 1, text, sizeof text - 1, &n));
  text[n] = '\0';
  CHECK_TEXT(text,
             "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
             "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>what is this picture<|im_end|>\n"
             "<|im_start|>assistant\n");
  CHECK_OK(glimpse_tokenize_with(tiny->model, text, n, GLIMPSE_TOKENIZE_SPECIAL, ids, 256, &n_ids));
  params.max_tokens = 0;
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  CHECK(read_timings(session).n_prompt_tokens == (int64_t)n_ids + 1); /* the picture has two tokens */
  message.role = "wizard";
  CHECK_FAILS(glimpse_render_chat(tiny->model, &message, 1, text, sizeof text, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  free(rgb);
  glimpse_embedding_free(embedding);
}

static void a_session_keeps_its_model(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session* session = create_tiny(model);
  glimpse_generate_params params = tiny_generate_params();
  glimpse_model_free(model);
  CHECK_OK(glimpse_generate(session, &kWhatIs7, 1, &params));
  CHECK(read_answer(session).n_tokens > 0);
  glimpse_session_free(session);
  glimpse_session_free(NULL);
}

static glimpse_part sized_part(const char* text, size_t n_bytes) {
  glimpse_part part = text_part(text);
  part.n_bytes = n_bytes;
  return part;
}

/* A text with a length need not end where it says, and must not contain a NUL: nothing is cut in silence. */
static void texts_may_have_a_length(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_part part = sized_part("the cat and more", 7);
  glimpse_message message = user_message(&part, 1);
  int32_t n_sized;
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  n_sized = glimpse_session_n_past(session);
  CHECK_OK(glimpse_session_reset(session));
  part = text_part("the cat");
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  CHECK(glimpse_session_n_past(session) == n_sized);
  CHECK_OK(glimpse_session_reset(session));

  part = sized_part("the\0cat", 7);
  CHECK_FAILS(glimpse_prefill(session, &message, 1, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("zero byte at byte 3");
  message.role = "system";
  CHECK_FAILS(glimpse_prefill(session, &message, 1, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("the system's text");
  part = sized_part(NULL, 7);
  CHECK_FAILS(glimpse_prefill(session, &message, 1, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  part = sized_part("the cat", (size_t)-1); /* a struct that was not cleared */
  CHECK_FAILS(glimpse_prefill(session, &message, 1, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("n_bytes");
  CHECK(glimpse_session_n_past(session) == 0);
}

/* Without a chat template: the tokens of the text and no others; a picture between its two marks. */
static void raw_messages_have_no_template(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_embedding* embedding = NULL;
  glimpse_embedding_info info;
  glimpse_part parts[2] = {{NULL, NULL, 0}};
  glimpse_message message = user_message(parts, 1);
  uint8_t* rgb = make_rgb(56, 28);
  size_t n_ids = 0;
  message.role = "raw";
  parts[0] = text_part("the cat");
  CHECK_OK(glimpse_tokenize(tiny->model, "the cat", 7, NULL, 0, &n_ids));
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  CHECK(glimpse_session_n_past(session) == (int32_t)n_ids);
  params.max_tokens = 3;
  CHECK_OK(glimpse_generate(session, NULL, 0, &params));
  CHECK(read_answer(session).n_tokens > 0);
  CHECK_OK(glimpse_session_reset(session));

  parts[0] = text_part("<|im_start|>"); /* one token, not the letters of it */
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  CHECK(glimpse_session_n_past(session) == 1);
  CHECK_OK(glimpse_session_reset(session));

  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 56, 28, 0, NULL, NULL, &embedding));
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_embedding_get_info(embedding, &info));
  parts[0] = text_part("the cat");
  parts[1].embedding = embedding;
  message.n_parts = 2;
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  CHECK(glimpse_session_n_past(session) == (int32_t)n_ids + info.n_tokens + 2);
  free(rgb);
  glimpse_embedding_free(embedding);
}

/* Answers that are bound: each kind of constraint, and what is refused. */
static void answers_may_be_constrained(const Tiny* tiny) {
  static const char* const kTexts[] = {"yes", "no", "maybe"};
  static const char kSchema[] =
      "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\", \"minimum\": 10, "
      "\"maximum\": 99}}, \"required\": [\"n\"]}";
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_part part = text_part("the cat");
  const glimpse_message message = user_message(&part, 1);
  glimpse_constraint *choice = NULL, *schema = NULL, *regex = NULL, *object = NULL, *grammar = NULL, *bad = NULL;
  Answer answer;
  int seed;
  CHECK_OK(glimpse_constraint_create_choice(tiny->model, kTexts, 3, &choice));
  CHECK_OK(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_JSON_SCHEMA, kSchema, 0, &schema));
  CHECK_OK(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_REGEX, "[ab]{3}...", 7,
                                     &regex)); /* the first 7 bytes */
  CHECK_OK(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_GBNF, "root ::= \"x\" | \"(\" root \")\"", 0,
                                     &grammar));
  CHECK_OK(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_JSON_OBJECT, NULL, 0, &object));
  params.max_tokens = 40;
  params.temperature = 1;
  for (seed = 0; seed < 4; ++seed) {
    params.seed = (uint64_t)seed;
    params.constraint = choice;
    answer = answer_anew(session, &message, &params);
    CHECK(answer.finish_reason == GLIMPSE_FINISH_STOP);
    CHECK(strcmp(answer.text, "yes") == 0 || strcmp(answer.text, "no") == 0 || strcmp(answer.text, "maybe") == 0);
    params.constraint = schema;
    answer = answer_anew(session, &message, &params);
    CHECK(strncmp(answer.text, "{\"n\": ", 6) == 0 && strlen(answer.text) == 9 && answer.text[8] == '}');
    params.constraint = regex;
    CHECK_OK(glimpse_session_reset(session));
    CHECK_OK(glimpse_generate(session, &message, 1, &params));
    CHECK(strspn(read_answer(session).text, "ab") == 3 && read_answer(session).n_bytes == 3);
  }
  /* The answer keeps it. */
  params.constraint = grammar;
  CHECK_OK(glimpse_session_reset(session));
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  CHECK_OK(glimpse_begin_answer(session, &params));
  glimpse_constraint_free(grammar);
  {
    glimpse_step_result step;
    begin_info(&step, sizeof step);
    step.finish_reason = GLIMPSE_FINISH_NONE;
    while (step.finish_reason == GLIMPSE_FINISH_NONE && glimpse_step(session, &step) == GLIMPSE_OK) continue;
    answer = read_answer(session);
    CHECK(answer.text[0] == '(' || answer.text[0] == 'x');
  }
  CHECK_FAILS(glimpse_constraint_create(NULL, GLIMPSE_CONSTRAINT_REGEX, "a", 0, &bad), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_REGEX, "a", 0, NULL),
              GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_REGEX, NULL, 0, &bad),
              GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_constraint_create(tiny->model, 17, "a", 0, &bad), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("constraint kind 17 is unknown");
  CHECK_FAILS(glimpse_constraint_create(tiny->model, GLIMPSE_CONSTRAINT_JSON_SCHEMA, "{\"not\": {}}", 0, &bad),
              GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("#/not: the keyword \"not\" is not supported");
  CHECK_FAILS(glimpse_constraint_create_choice(tiny->model, NULL, 1, &bad), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_constraint_create_choice(tiny->model, kTexts, 0, &bad), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(bad == NULL);
  glimpse_constraint_free(NULL);
  glimpse_constraint_free(choice);
  glimpse_constraint_free(schema);
  glimpse_constraint_free(regex);
  glimpse_constraint_free(object);
}

/* A whole answer, and byte by byte. */
static void splits_answers(void) {
  static const char kText[] =
      "a <b>\n</think>\n\nOne.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>\n<tool_call>no";
  glimpse_splitter_params params;
  glimpse_splitter* splitter = NULL;
  glimpse_answer_parts parts, delta;
  char reasoning[64] = "", content[64] = "";
  size_t n_calls = 0, i;
  begin_info(&parts, sizeof parts);
  delta = parts;
  glimpse_splitter_params_init(&params, sizeof params);
  params.thinking_open = 1;
  params.tool_calls = 1;
  if (!CHECK_OK(glimpse_splitter_create(&params, &splitter))) return;
  for (i = 0; i < sizeof kText - 1; ++i) {
    CHECK_OK(glimpse_splitter_push(splitter, kText + i, 1, &delta));
    strcat(reasoning, delta.reasoning);
    strcat(content, delta.content);
    if (delta.n_tool_calls > 0) CHECK_TEXT(delta.tool_calls[0].arguments, "{\"x\": 1}");
    n_calls += delta.n_tool_calls;
  }
  CHECK_OK(glimpse_splitter_finish(splitter, &delta));
  CHECK(delta.n_problems == 1);
  strcat(content, delta.content);
  CHECK(n_calls == 1);
  CHECK_TEXT(reasoning, "a <b>");
  CHECK_TEXT(content, "One.\n\n<tool_call>no");
  CHECK_OK(glimpse_splitter_get(splitter, &parts));
  CHECK_TEXT(parts.reasoning, reasoning);
  CHECK_TEXT(parts.content, content);
  CHECK(parts.n_reasoning_bytes == strlen(reasoning) && parts.n_content_bytes == strlen(content));
  CHECK(parts.n_tool_calls == 1 && parts.n_problems == 1);
  CHECK_TEXT(parts.tool_calls[0].name, "f");
  CHECK_TEXT(parts.problems[0], "tool call 2 has no end");
  parts.struct_size = 0;
  CHECK_FAILS(glimpse_splitter_get(splitter, &parts), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_splitter_push(splitter, "x", 1, &parts), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_splitter_push(splitter, NULL, 1, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_splitter_push(NULL, "x", 1, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_splitter_free(splitter);
  CHECK_FAILS(glimpse_splitter_create(NULL, &splitter), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(splitter == NULL);
  glimpse_splitter_free(NULL);
}

/* The tiny model's template knows no thinking: what came apart is left out. */
static void joins_answers(const Tiny* tiny) {
  static const char kWanted[] =
      "One.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": 2}}\n</tool_call>";
  glimpse_tool_call call;
  glimpse_answer_parts parts;
  char text[200];
  size_t n = 0, n_thinking = 1;
  begin_info(&parts, sizeof parts);
  parts.reasoning = "so";
  parts.n_reasoning_bytes = 2;
  parts.content = "One.";
  parts.n_content_bytes = 4;
  call.name = "f";
  call.arguments = "{\"z\":1,\"a\":2}";
  parts.tool_calls = &call;
  parts.n_tool_calls = 1;
  CHECK_OK(glimpse_join_answer(tiny->model, &parts, NULL, 0, &n, &n_thinking));
  CHECK(n == sizeof kWanted - 1 && n_thinking == 0);
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n - 1, &n, &n_thinking), GLIMPSE_ERROR_TOO_LARGE);
  CHECK_OK(glimpse_join_answer(tiny->model, &parts, text, n, &n, &n_thinking));
  CHECK(memcmp(text, kWanted, n) == 0);
  CHECK_FAILS(glimpse_join_answer(NULL, &parts, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_join_answer(tiny->model, NULL, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, &n, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, NULL, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  call.name = NULL;
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  parts.tool_calls = NULL;
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  parts.n_tool_calls = 0;
  parts.content = NULL;
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
  parts.n_content_bytes = 0;
  CHECK_OK(glimpse_join_answer(tiny->model, &parts, text, sizeof text, &n, &n_thinking));
  CHECK(n == 0);
  parts.struct_size = 0;
  CHECK_FAILS(glimpse_join_answer(tiny->model, &parts, text, n, &n, &n_thinking), GLIMPSE_ERROR_INVALID_ARGUMENT);
}

static void prompts_take_what_the_template_has(const Tiny* tiny) {
  static const char* const kTools[] = {"{\"name\": \"f\"}", NULL};
  glimpse_session* session = tiny->session;
  glimpse_generate_params generate = tiny_generate_params();
  glimpse_part part = text_part("the cat");
  glimpse_message message = user_message(&part, 1);
  glimpse_prompt_params params;
  glimpse_prompt_params_init(&params, sizeof params);
  CHECK(params.struct_size == sizeof params && params.tools == NULL && params.thinking == GLIMPSE_THINKING_DEFAULT);
  params.thinking = GLIMPSE_THINKING_OFF; /* the model never thinks */
  CHECK_OK(glimpse_session_set_prompt_params(session, &params));
  CHECK_OK(glimpse_generate(session, &message, 1, &generate));
  CHECK_OK(glimpse_session_reset(session));
  params.tools = kTools;
  params.n_tools = 1;
  CHECK_OK(glimpse_session_set_prompt_params(session, &params));
  CHECK_FAILS(glimpse_generate(session, &message, 1, &generate), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("has no place for them");
  params.n_tools = 2;
  CHECK_FAILS(glimpse_session_set_prompt_params(session, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("a tool is NULL");
  params.tools = NULL;
  CHECK_FAILS(glimpse_session_set_prompt_params(session, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.n_tools = 0;
  params.thinking = 3;
  CHECK_FAILS(glimpse_session_set_prompt_params(session, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_session_set_prompt_params(NULL, &params), GLIMPSE_ERROR_INVALID_ARGUMENT);
}

static void embeds(void) {
  glimpse_model* model = load_tiny(0); /* its file has no pooling_type */
  glimpse_session_params params = tiny_session_params();
  glimpse_embed_params embed;
  glimpse_embedder* embedder = NULL;
  glimpse_part parts[3];
  glimpse_input inputs[2];
  float vectors[128], alone[64], score;
  size_t n = 0, i;
  double length = 0;
  if (!CHECK_OK(glimpse_embedder_create(model, &params, &embedder))) return;
  parts[0] = text_part("the cat");
  parts[1] = text_part("what is");
  parts[2] = text_part(" this");
  inputs[0].parts = parts;
  inputs[0].n_parts = 1;
  inputs[1].parts = parts + 1;
  inputs[1].n_parts = 2;
  glimpse_embed_params_init(&embed, sizeof embed);
  CHECK(embed.struct_size == sizeof embed && embed.pooling == GLIMPSE_POOLING_FILE);
  CHECK_OK(glimpse_embedder_embed(embedder, inputs, 2, &embed, NULL, 0, &n));
  CHECK(n == 128);
  CHECK_FAILS(glimpse_embedder_embed(embedder, inputs, 2, &embed, vectors, 128, &n), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("pooling_type");
  embed.pooling = GLIMPSE_POOLING_LAST;
  CHECK_FAILS(glimpse_embedder_embed(embedder, inputs, 2, &embed, vectors, 127, &n), GLIMPSE_ERROR_TOO_LARGE);
  CHECK_OK(glimpse_embedder_embed(embedder, inputs, 2, &embed, vectors, 128, &n));
  for (i = 0; i < 64; ++i) length += (double)vectors[i] * vectors[i];
  CHECK(fabs(length - 1) < 1e-5);
  CHECK_OK(glimpse_embedder_embed(embedder, inputs + 1, 1, &embed, alone, 64, &n));
  CHECK(memcmp(alone, vectors + 64, sizeof alone) == 0);
  embed.pooling = 9;
  CHECK_FAILS(glimpse_embedder_embed(embedder, inputs, 2, &embed, vectors, 128, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_embedder_embed(embedder, NULL, 1, NULL, vectors, 128, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_embedder_embed(NULL, inputs, 1, NULL, vectors, 128, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_embedder_rank(embedder, inputs, inputs + 1, 1, NULL, &score), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("neither a classifier nor tokens for yes and no");
  CHECK_FAILS(glimpse_embedder_rank(embedder, inputs, inputs + 1, 1, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_embedder_free(embedder);
  glimpse_embedder_free(NULL);
  CHECK_FAILS(glimpse_embedder_create(NULL, &params, &embedder), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(embedder == NULL);
  glimpse_model_free(model);
}

int main(void) {
  plans_before_it_allocates();
  says_how_large_the_context_is();
  refuses_bad_sizes();
  with_tiny(0, generates_streams_and_steps_the_same);
  with_tiny(0, cancelling_keeps_what_was_said);
  with_tiny(0, gives_log_probabilities);
  with_tiny(0, samples_biases_and_stops);
  with_tiny(0, continues_a_conversation);
  with_tiny(0, says_when_the_context_is_full);
  speculates_without_a_difference();
  tells_what_its_parameters_came_to();
  with_tiny(1, renders_the_chat_format);
  a_session_keeps_its_model();
  with_tiny(0, texts_may_have_a_length);
  with_tiny(1, raw_messages_have_no_template);
  with_tiny(0, answers_may_be_constrained);
  splits_answers();
  with_tiny(0, joins_answers);
  embeds();
  with_tiny(0, prompts_take_what_the_template_has);
  return check_result("session_test");
}
