/* What a host does to a session in use: cancels it, calls it from its own callback or from another thread, frees it. */
#include <pthread.h>
#include <signal.h>

#include "support.h"

/* The tokens that end an answer are forbidden, <|vision_start|> (which shows no text) is all that is drawn. */
enum { kInvisible = 297 };
static const glimpse_logit_bias kSilent[3] = {{288, -INFINITY}, {290, -INFINITY}, {kInvisible, 1000.0f}};

typedef struct Host {
  glimpse_model* model;
  glimpse_session* session;
  glimpse_embedding* embedding;
  volatile sig_atomic_t cancel;
  int n_calls, n_empty, stop_after, set_after, n_wrong, from_thread;
  pthread_t thread;
  int has_thread;
} Host;

static const glimpse_part kPart = {"the cat", NULL, 0};
static const glimpse_message kMessage = {"user", &kPart, 1};

static void open_host(Host* host) {
  glimpse_session_params params = tiny_session_params();
  memset(host, 0, sizeof *host);
  host->model = load_tiny(1);
  params.cancel = &host->cancel;
  CHECK_OK(glimpse_session_create(host->model, &params, &host->session));
}

static void close_host(Host* host) {
  glimpse_session_free(host->session);
  glimpse_model_free(host->model);
}

/* What the session says of the message; it is forgotten again. */
static Answer said_at_first(Host* host, const glimpse_generate_params* params) {
  Answer answer;
  CHECK_OK(glimpse_generate(host->session, &kMessage, 1, params));
  answer = read_answer(host->session);
  CHECK_OK(glimpse_session_reset(host->session));
  return answer;
}

typedef int (*OnText)(void* user, const char* text, size_t n_bytes);

static glimpse_generate_params silent_params(OnText on_text, Host* host) {
  glimpse_generate_params params = tiny_generate_params();
  params.max_tokens = -1;
  params.logit_bias = kSilent;
  params.n_logit_bias = 3;
  params.on_text = on_text;
  params.on_text_user = host;
  return params;
}

static int count_and_stop(void* user, const char* text, size_t n_bytes) {
  Host* host = user;
  ++host->n_calls;
  host->n_empty += n_bytes == 0;
  host->n_wrong += text == NULL || text[n_bytes] != '\0';
  if (host->n_calls == host->set_after) host->cancel = 1;
  return host->n_calls != host->stop_after;
}

static void tokens_without_text_can_be_cancelled(void) {
  Host host;
  glimpse_generate_params params = silent_params(count_and_stop, &host);
  Answer answer;
  open_host(&host);

  host.stop_after = 5; /* by the callback, which hears of every token */
  CHECK_OK(glimpse_generate(host.session, &kMessage, 1, &params));
  answer = read_answer(host.session);
  CHECK(host.n_calls == 5 && host.n_empty == 5 && host.n_wrong == 0);
  CHECK(answer.finish_reason == GLIMPSE_FINISH_CANCELLED && answer.n_tokens == 5 && answer.n_bytes == 0);

  host.n_calls = host.stop_after = 0; /* by the flag */
  host.set_after = 7;
  CHECK_OK(glimpse_generate(host.session, NULL, 0, &params));
  answer = read_answer(host.session);
  CHECK(answer.finish_reason == GLIMPSE_FINISH_CANCELLED && answer.n_tokens == 7);
  close_host(&host);
}

static int set_flag(void* user, const char* stage, double fraction) {
  Host* host = user;
  (void)stage;
  (void)fraction;
  if (++host->n_calls == 2) host->cancel = 1;
  return 1;
}

static void the_flag_ends_every_call(void) {
  Host host;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_step_result step;
  uint8_t* rgb = make_rgb(60, 60);
  Answer want, got;
  open_host(&host);
  want = said_at_first(&host, &params);

  params.progress = set_flag;
  params.progress_user = &host;
  CHECK_FAILS(glimpse_generate(host.session, &kMessage, 1, &params), GLIMPSE_ERROR_CANCELLED);
  CHECK(glimpse_session_n_past(host.session) == 0);
  CHECK_FAILS(glimpse_prefill(host.session, &kMessage, 1, NULL, NULL), GLIMPSE_ERROR_CANCELLED);
  CHECK_FAILS(glimpse_encode_image_rgb(host.session, rgb, 60, 60, 0, NULL, NULL, &host.embedding),
              GLIMPSE_ERROR_CANCELLED);
  CHECK(host.embedding == NULL);

  /* Not set any more: as if nothing had been. A step that was cancelled may be tried again. */
  host.cancel = 0;
  params = tiny_generate_params();
  CHECK_OK(glimpse_prefill(host.session, &kMessage, 1, NULL, NULL));
  CHECK_OK(glimpse_begin_answer(host.session, &params));
  do {
    begin_info(&step, sizeof step);
    host.cancel = 1;
    CHECK_FAILS(glimpse_step(host.session, &step), GLIMPSE_ERROR_CANCELLED);
    host.cancel = 0;
    if (!CHECK_OK(glimpse_step(host.session, &step))) break;
  } while (step.finish_reason == GLIMPSE_FINISH_NONE);
  got = read_answer(host.session);
  CHECK(same_answer(&want, &got));
  free(rgb);
  close_host(&host);
}

static void* set_flag_from_outside(void* user) {
  Host* host = user;
  __atomic_store_n(&host->cancel, 1, __ATOMIC_RELAXED);
  return NULL;
}

static int start_thread_once(void* user, const char* text, size_t n_bytes) {
  Host* host = user;
  (void)text;
  (void)n_bytes;
  if (++host->n_calls == 3) host->has_thread = pthread_create(&host->thread, NULL, set_flag_from_outside, host) == 0;
  if (host->n_calls == 6) host->n_wrong += !host->has_thread || pthread_join(host->thread, NULL) != 0;
  return 1;
}

static void another_thread_cancels(void) {
  Host host;
  glimpse_generate_params params = silent_params(start_thread_once, &host);
  Answer answer;
  open_host(&host);
  CHECK_OK(glimpse_generate(host.session, &kMessage, 1, &params));
  if (host.n_calls < 6) CHECK(host.has_thread && pthread_join(host.thread, NULL) == 0);
  answer = read_answer(host.session);
  CHECK(host.n_wrong == 0 && answer.finish_reason == GLIMPSE_FINISH_CANCELLED);
  CHECK(answer.n_tokens >= 3 && answer.n_tokens <= 6); /* begun at the third, seen at the sixth at the latest */
  host.cancel = 0;
  params = tiny_generate_params();
  CHECK_OK(glimpse_session_reset(host.session));
  CHECK_OK(glimpse_generate(host.session, &kMessage, 1, &params));
  answer = read_answer(host.session);
  CHECK(answer.n_tokens > 0);
  close_host(&host);
}

/* Every call that takes a session. */
static void* call_everything(void* user) {
  Host* host = user;
  const glimpse_generate_params params = tiny_generate_params();
  glimpse_session* s = host->session;
  glimpse_embedding* embedding = (glimpse_embedding*)host;
  uint8_t rgb[3 * 28 * 28] = {0};
  glimpse_answer_info info;
  glimpse_step_result result;
  glimpse_timings timings;
  const float* logits = NULL;
  int32_t id;
  float logprob;
  size_t n;
  memset(&info, 0, sizeof info);
  memset(&result, 0, sizeof result);
  memset(&timings, 0, sizeof timings);
  info.struct_size = sizeof info;
  result.struct_size = sizeof result;
  timings.struct_size = sizeof timings;
  host->n_wrong += glimpse_generate(s, &kMessage, 1, &params) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += strstr(glimpse_last_error(), "callback") == NULL;
  host->n_wrong += glimpse_prefill(s, &kMessage, 1, NULL, NULL) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_begin_answer(s, &params) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_step(s, &result) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_session_reset(s) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_get_answer(s, &info) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_get_top_logprobs(s, 0, &id, &logprob, 1, &n) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_get_logits(s, &logits, &n) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_get_timings(s, &timings) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += glimpse_encode_image_rgb(s, rgb, 28, 28, 0, NULL, NULL, &embedding) != GLIMPSE_ERROR_BUSY;
  host->n_wrong += embedding != NULL;
  host->n_wrong += glimpse_session_n_past(s) != 0; /* as of the last call that ended */
  return NULL;
}

static void use_while_busy(Host* host) {
  pthread_t thread;
  if (!host->from_thread) {
    call_everything(host);
    return;
  }
  if (pthread_create(&thread, NULL, call_everything, host) != 0 || pthread_join(thread, NULL) != 0) ++host->n_wrong;
}

static int busy_on_text(void* user, const char* text, size_t n_bytes) {
  Host* host = user;
  (void)text;
  (void)n_bytes;
  ++host->n_calls;
  use_while_busy(host);
  return 1;
}
static int busy_progress(void* user, const char* stage, double fraction) {
  (void)stage;
  (void)fraction;
  use_while_busy(user);
  return 1;
}

static void a_busy_session_refuses_calls(void) {
  int from_thread;
  for (from_thread = 0; from_thread <= 1; ++from_thread) {
    Host host;
    glimpse_generate_params params = tiny_generate_params();
    Answer want, got;
    open_host(&host);
    want = said_at_first(&host, &params);
    host.from_thread = from_thread;
    params.on_text = busy_on_text;
    params.on_text_user = &host;
    params.progress = busy_progress;
    params.progress_user = &host;
    CHECK_OK(glimpse_generate(host.session, &kMessage, 1, &params));
    CHECK(host.n_wrong == 0 && host.n_calls > 3);
    got = read_answer(host.session);
    CHECK(same_answer(&want, &got));
    CHECK(glimpse_session_n_past(host.session) > 0);
    close_host(&host);
  }
}

static int free_it(void* user, const char* text, size_t n_bytes) {
  Host* host = user;
  (void)text;
  (void)n_bytes;
  if (++host->n_calls == 2) glimpse_session_free(host->session);
  return 1;
}

static void a_session_freed_by_its_callback_ends_after_the_call(void) {
  Host host;
  glimpse_generate_params params = tiny_generate_params();
  open_host(&host);
  params.on_text = free_it;
  params.on_text_user = &host;
  CHECK_OK(glimpse_generate(host.session, &kMessage, 1, &params));
  CHECK(host.n_calls > 2);
  host.session = NULL;
  close_host(&host);
}

int main(void) {
  tokens_without_text_can_be_cancelled();
  the_flag_ends_every_call();
  another_thread_cancels();
  a_busy_session_refuses_calls();
  a_session_freed_by_its_callback_ends_after_the_call();
  return check_result("host_test");
}
