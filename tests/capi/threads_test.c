/* Messages belong to threads; sessions in several threads share one model. */
#include <pthread.h>

#include "support.h"

enum { kRounds = 200, kThreads = 4 };

/* Checks count without locks, so threads report through their own structs. */
typedef struct Job {
  const glimpse_model* model;
  int number;
  int n_wrong;
  Answer answer;
} Job;

static void* fail_over_and_over(void* argument) {
  Job* job = argument;
  char path[64];
  int i;
  job->n_wrong += glimpse_last_error()[0] != '\0'; /* a new thread has no message */
  for (i = 0; i < kRounds; ++i) {
    glimpse_model_params params;
    glimpse_model* model = NULL;
    glimpse_model_params_init(&params, sizeof params);
    snprintf(path, sizeof path, "/no/such/file-%d-%d.gguf", job->number, i);
    params.model_path = path;
    job->n_wrong += glimpse_model_load(&params, &model) != GLIMPSE_ERROR_NOT_FOUND;
    job->n_wrong += strstr(glimpse_last_error(), path) == NULL;
  }
  return NULL;
}

static void* answer_once(void* argument) {
  Job* job = argument;
  glimpse_session_params session_params = tiny_session_params();
  glimpse_generate_params params = tiny_generate_params();
  glimpse_session* session = NULL;
  glimpse_answer_info info;
  const glimpse_part part = text_part("what is this picture");
  const glimpse_message message = user_message(&part, 1);
  begin_info(&info, sizeof info);
  if (glimpse_session_create(job->model, &session_params, &session) != GLIMPSE_OK ||
      glimpse_generate(session, &message, 1, &params) != GLIMPSE_OK ||
      glimpse_get_answer(session, &info) != GLIMPSE_OK || info.n_bytes >= sizeof job->answer.text) {
    ++job->n_wrong;
  } else {
    memcpy(job->answer.text, info.text, info.n_bytes);
    job->answer.n_bytes = info.n_bytes;
    memcpy(job->answer.tokens, info.tokens, info.n_tokens * sizeof info.tokens[0]);
    job->answer.n_tokens = info.n_tokens;
    job->answer.finish_reason = info.finish_reason;
  }
  glimpse_session_free(session);
  return NULL;
}

static void run_threads(Job* jobs, void* (*body)(void*), const glimpse_model* model) {
  pthread_t threads[kThreads];
  int i;
  memset(jobs, 0, kThreads * sizeof jobs[0]);
  for (i = 0; i < kThreads; ++i) {
    jobs[i].model = model;
    jobs[i].number = i;
    if (pthread_create(&threads[i], NULL, body, &jobs[i]) != 0) exit(1);
  }
  for (i = 0; i < kThreads; ++i) {
    pthread_join(threads[i], NULL);
    CHECK(jobs[i].n_wrong == 0);
  }
}

static void messages_belong_to_threads(void) {
  Job* jobs = calloc(kThreads, sizeof *jobs);
  glimpse_model* model = NULL;
  if (jobs == NULL) exit(1);
  CHECK_FAILS(glimpse_model_load(NULL, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("NULL");
  run_threads(jobs, fail_over_and_over, NULL);
  CHECK_ERROR_HAS("NULL"); /* untouched by what failed elsewhere */
  free(jobs);
}

static void sessions_share_a_model(void) {
  Job* jobs = calloc(kThreads, sizeof *jobs);
  glimpse_model* model = load_tiny(0);
  int i;
  if (jobs == NULL) exit(1);
  run_threads(jobs, answer_once, model);
  CHECK(jobs[0].answer.n_tokens > 0);
  for (i = 1; i < kThreads; ++i) CHECK(same_answer(&jobs[0].answer, &jobs[i].answer));
  glimpse_model_free(model);
  free(jobs);
}

int main(void) {
  messages_belong_to_threads();
  sessions_share_a_model();
  return check_result("threads_test");
}
