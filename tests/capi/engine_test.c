/* Many questions at once, through C: run by whoever waits, by steps, or by a thread of its own. */
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static glimpse_engine_params tiny_engine_params(void) {
  glimpse_engine_params params;
  glimpse_engine_params_init(&params, sizeof params);
  params.n_threads = 1;
  params.n_ctx = 256;
  params.n_batch = 32;
  return params;
}

static glimpse_engine* create_engine(const glimpse_model* model, int n_parallel) {
  glimpse_engine* engine = NULL;
  glimpse_engine_params params = tiny_engine_params();
  params.n_parallel = n_parallel;
  params.kv_type = GLIMPSE_KV_F32;
  if (!CHECK_OK(glimpse_engine_create(model, &params, &engine))) exit(1);
  return engine;
}

/* A request of one message: a text, and a picture before it where there is one. */
typedef struct Question {
  glimpse_request request;
  glimpse_request_message message;
  glimpse_request_part parts[2];
  glimpse_generate_params generate;
} Question;

static void ask(Question* q, const char* text, const glimpse_picture* picture) {
  memset(q, 0, sizeof *q);
  glimpse_request_init(&q->request, sizeof q->request);
  q->parts[0].picture = picture;
  q->parts[1].text = text;
  q->message.role = "user";
  q->message.parts = picture == NULL ? q->parts + 1 : q->parts;
  q->message.n_parts = picture == NULL ? 1 : 2;
  q->generate = tiny_generate_params();
  q->request.messages = &q->message;
  q->request.n_messages = 1;
  q->request.generate = &q->generate;
}

static glimpse_ticket* submit(glimpse_engine* engine, const Question* q) {
  glimpse_ticket* ticket = NULL;
  if (!CHECK_OK(glimpse_engine_submit(engine, &q->request, &ticket))) exit(1);
  return ticket;
}

static glimpse_request_result result_of(const glimpse_ticket* ticket, int64_t timeout_ms) {
  glimpse_request_result result;
  begin_info(&result, sizeof result);
  CHECK_OK(glimpse_ticket_wait(ticket, (size_t)-1, timeout_ms, &result));
  return result;
}

static glimpse_engine_stats stats_of(const glimpse_engine* engine) {
  glimpse_engine_stats stats;
  begin_info(&stats, sizeof stats);
  CHECK_OK(glimpse_engine_get_stats(engine, &stats));
  return stats;
}

/* What a session of its own says. */
static Answer alone(const glimpse_model* model, const char* text, const uint8_t* rgb, int width, int height) {
  glimpse_session* session = create_tiny(model);
  glimpse_embedding* embedding = NULL;
  glimpse_part parts[2];
  const glimpse_message message = rgb == NULL ? user_message(parts + 1, 1) : user_message(parts, 2);
  const glimpse_generate_params params = tiny_generate_params();
  Answer answer;
  if (rgb != NULL) CHECK_OK(glimpse_encode_image_rgb(session, rgb, width, height, 0, NULL, NULL, &embedding));
  parts[0] = picture_part(embedding);
  parts[1] = text_part(text);
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  answer = read_answer(session);
  glimpse_embedding_free(embedding);
  glimpse_session_free(session);
  return answer;
}

static int says(const glimpse_request_result* result, const Answer* want) {
  return result->n_tokens == want->n_tokens && result->n_bytes == want->n_bytes &&
         memcmp(result->tokens, want->tokens, want->n_tokens * sizeof(int32_t)) == 0 &&
         strcmp(result->text, want->text) == 0 && result->finish_reason == want->finish_reason;
}

enum { kQuestions = 6 };
static const char* const kTexts[kQuestions] = {"the cat", "7", "describe", "the dog", "what is it", "a"};

static void whoever_waits_runs_it(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_engine* engine = create_engine(model, 3);
  glimpse_ticket* tickets[kQuestions];
  uint8_t* rgb = make_rgb(112, 84);
  glimpse_picture picture;
  glimpse_engine_stats stats;
  int i;
  memset(&picture, 0, sizeof picture);
  picture.rgb = rgb;
  picture.width = 112;
  picture.height = 84;
  for (i = 0; i < kQuestions; ++i) {
    Question q;
    ask(&q, kTexts[i], i % 2 == 0 ? &picture : NULL);
    q.generate.n_top_logprobs = i == 1 ? 3 : 0;
    tickets[i] = submit(engine, &q);
  }
  for (i = kQuestions - 1; i >= 0; --i) {
    const glimpse_request_result result = result_of(tickets[i], -1);
    const Answer want = alone(model, kTexts[i], i % 2 == 0 ? rgb : NULL, 112, 84);
    CHECK(result.finished == 1 && result.status == GLIMPSE_OK);
    CHECK_TEXT(result.message, "");
    CHECK(says(&result, &want));
    CHECK(result.first_token_ms > 0 && result.total_ms >= result.first_token_ms);
    CHECK((result.logprobs != NULL) == (i == 1));
    CHECK(result.n_pictures == (i % 2 == 0 ? 1u : 0u) && (result.pictures != NULL) == (i % 2 == 0));
    if (result.n_pictures == 1) {
      CHECK(result.pictures->original_width == 112 && result.pictures->original_height == 84);
      CHECK(result.pictures->resized_width > 0 && result.pictures->resized_width % 28 == 0);
    }
  }
  {
    int32_t ids[3];
    float logprobs[3];
    size_t n = 0;
    glimpse_timings timings;
    const glimpse_request_result result = result_of(tickets[1], 0);
    begin_info(&timings, sizeof timings);
    CHECK_OK(glimpse_ticket_get_top_logprobs(tickets[1], 0, ids, logprobs, 3, &n));
    CHECK(n == 3 && ids[0] == result.tokens[0] && logprobs[0] == result.logprobs[0] && logprobs[1] <= logprobs[0]);
    CHECK_FAILS(glimpse_ticket_get_top_logprobs(tickets[1], 1000, ids, logprobs, 3, &n),
                GLIMPSE_ERROR_INVALID_ARGUMENT);
    CHECK_OK(glimpse_ticket_get_timings(tickets[1], &timings));
    CHECK(timings.n_generated_tokens == (int64_t)result.n_tokens && timings.n_prompt_tokens > 0);
  }
  stats = stats_of(engine);
  CHECK(stats.n_finished == kQuestions && stats.n_running == 0 && stats.n_waiting == 0);
  CHECK(stats.n_free_pages + stats.n_kept_pages == stats.n_pages && stats.n_images > 0);
  for (i = 0; i < kQuestions; ++i) glimpse_ticket_free(tickets[i]);
  glimpse_engine_free(engine);
  free(rgb);
  glimpse_model_free(model);
}

typedef struct Heard {
  int n_tokens, n_done, stop_after;
  char text[4096];
  int32_t status, finish_reason;
} Heard;

static int on_token(void* user, const glimpse_step_result* step) {
  Heard* heard = user;
  if (step->token >= 0) ++heard->n_tokens;
  strncat(heard->text, step->text, sizeof heard->text - strlen(heard->text) - 1);
  return heard->n_tokens != heard->stop_after;
}

static void on_done(void* user, const glimpse_ticket* ticket) {
  Heard* heard = user;
  const glimpse_request_result result = result_of(ticket, -1);
  ++heard->n_done;
  heard->status = result.status;
  heard->finish_reason = result.finish_reason;
  CHECK(result.finished == 1);
  CHECK_TEXT(result.text, heard->text);
}

static void hear(Question* q, Heard* heard) {
  memset(heard, 0, sizeof *heard);
  q->request.on_token = on_token;
  q->request.on_token_user = heard;
  q->request.on_done = on_done;
  q->request.on_done_user = heard;
}

static void callbacks_tell_of_every_token_and_of_the_end(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_engine* engine = create_engine(model, 2);
  Question q;
  Heard first, stopped, late;
  int32_t more = 1;
  const Answer want = alone(model, "the cat", NULL, 0, 0);
  ask(&q, "the cat", NULL);
  hear(&q, &first);
  CHECK_OK(glimpse_engine_submit(engine, &q.request, NULL));
  hear(&q, &stopped);
  stopped.stop_after = 2;
  CHECK_OK(glimpse_engine_submit(engine, &q.request, NULL));
  hear(&q, &late);
  q.request.deadline_ms = 1;
  CHECK_OK(glimpse_engine_submit(engine, &q.request, NULL));
  while (more != 0) CHECK_OK(glimpse_engine_step(engine, &more));
  CHECK(first.n_done == 1 && first.status == GLIMPSE_OK && first.n_tokens == (int)want.n_tokens);
  CHECK_TEXT(first.text, want.text);
  CHECK(stopped.n_done == 1 && stopped.status == GLIMPSE_ERROR_CANCELLED && stopped.n_tokens == 2);
  CHECK(stopped.finish_reason == GLIMPSE_FINISH_CANCELLED);
  CHECK(late.n_done == 1);
  CHECK(stats_of(engine).n_requests == 3);
  glimpse_engine_free(engine);
  glimpse_model_free(model);
}

static void a_thread_of_its_own_goes_on_alone(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_engine* engine = create_engine(model, 2);
  Question q;
  glimpse_ticket *ticket, *dropped, *unseen = NULL;
  glimpse_request_result result;
  const Answer want = alone(model, "the dog", NULL, 0, 0);
  size_t n_seen = 0;
  CHECK_OK(glimpse_engine_start(engine));
  CHECK_FAILS(glimpse_engine_start(engine), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ask(&q, "the dog", NULL);
  ticket = submit(engine, &q);
  dropped = submit(engine, &q);
  glimpse_ticket_free(dropped); /* nobody wants it any more */
  begin_info(&result, sizeof result);
  do { /* token by token */
    CHECK_OK(glimpse_ticket_wait(ticket, n_seen, -1, &result));
    CHECK(result.finished == 1 || result.n_tokens > n_seen);
    n_seen = result.n_tokens;
  } while (!result.finished);
  CHECK(says(&result, &want));
  q.generate.max_tokens = -1;
  unseen = submit(engine, &q);
  CHECK_OK(glimpse_engine_stop(engine, 0));
  result = result_of(unseen, 0);
  CHECK(result.finished == 1);
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &dropped), GLIMPSE_ERROR_CANCELLED);
  CHECK(dropped == NULL);
  glimpse_engine_free(engine);
  glimpse_ticket_cancel(ticket); /* it is over, and the engine gone */
  glimpse_ticket_free(ticket);
  glimpse_ticket_free(unseen);
  glimpse_model_free(model);
}

static void what_is_wrong_with_one_harms_no_other(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_engine* engine = create_engine(model, 4);
  glimpse_picture bad, missing;
  glimpse_ticket* tickets[4];
  Question q;
  glimpse_request_result result;
  const Answer want = alone(model, "7", NULL, 0, 0);
  int i;
  memset(&bad, 0, sizeof bad);
  bad.bytes = "no picture at all";
  bad.n_bytes = 17;
  memset(&missing, 0, sizeof missing);
  missing.path = "no-such-file.png";
  ask(&q, "7", NULL);
  tickets[0] = submit(engine, &q);
  ask(&q, "7", &bad);
  tickets[1] = submit(engine, &q);
  ask(&q, "7", &missing);
  tickets[2] = submit(engine, &q);
  ask(&q, "7", NULL);
  tickets[3] = submit(engine, &q);
  for (i = 0; i < 4; i += 3) {
    result = result_of(tickets[i], -1);
    CHECK(says(&result, &want));
  }
  result = result_of(tickets[1], -1);
  CHECK(result.status == GLIMPSE_ERROR_UNSUPPORTED && strstr(result.message, "picture 1") != NULL);
  CHECK(result.finish_reason == GLIMPSE_FINISH_NONE && result.n_tokens == 0);
  result = result_of(tickets[2], -1);
  CHECK(result.status == GLIMPSE_ERROR_NOT_FOUND && strstr(result.message, "no-such-file.png") != NULL);
  CHECK(result.n_pictures == 1 && result.pictures->original_width == 0);
  CHECK(stats_of(engine).n_failed == 2 && stats_of(engine).n_finished == 2);
  for (i = 0; i < 4; ++i) glimpse_ticket_free(tickets[i]);
  glimpse_engine_free(engine);
  glimpse_model_free(model);
}

/* Bytes of the files of a directory; `path` gets the name of the last of them. */
static int64_t bytes_below(const char* directory, int* n_files, char* path, size_t n) {
  DIR* const all = opendir(directory);
  int64_t sum = 0;
  struct dirent* one;
  *n_files = 0;
  while (all != NULL && (one = readdir(all)) != NULL) {
    char name[512];
    struct stat about;
    snprintf(name, sizeof name, "%s/%s", directory, one->d_name);
    if (stat(name, &about) != 0 || !S_ISREG(about.st_mode)) continue;
    sum += about.st_size;
    ++*n_files;
    snprintf(path, n, "%s", name);
  }
  if (all != NULL) closedir(all);
  return sum;
}

static void the_folder_of_embeddings_keeps_to_its_bytes(void) {
  glimpse_model* model = load_tiny(1);
  uint8_t* rgb = make_rgb(112, 84);
  char directory[] = GLIMPSE_SCRATCH_DIR "/embeddings-XXXXXX", path[512];
  int64_t n_bytes = 0, of_one = 0;
  int i, n_files = 0;
  if (!CHECK(mkdtemp(directory) != NULL)) exit(1);
  for (i = 0; i < 4; ++i) { /* the first says what a file has; the next may have two; the last as many as they like */
    glimpse_engine_params params = tiny_engine_params();
    glimpse_engine* engine = NULL;
    glimpse_picture picture;
    glimpse_ticket* ticket;
    Question q;
    params.image_cache_dir = directory;
    if (i > 0) params.image_cache_dir_bytes = i < 3 ? of_one + of_one / 2 : 0;
    if (!CHECK_OK(glimpse_engine_create(model, &params, &engine))) exit(1);
    memset(&picture, 0, sizeof picture);
    picture.rgb = rgb;
    picture.width = 112;
    picture.height = 84;
    rgb[0] = (uint8_t)i;
    ask(&q, "7", &picture);
    ticket = submit(engine, &q);
    CHECK(result_of(ticket, -1).status == GLIMPSE_OK);
    glimpse_ticket_free(ticket);
    glimpse_engine_free(engine);
    n_bytes = bytes_below(directory, &n_files, path, sizeof path);
    CHECK(n_files == (i < 3 ? 1 : 2));
    if (i == 0) of_one = n_bytes;
  }
  CHECK(of_one > 0 && n_bytes == 2 * of_one);
  while (bytes_below(directory, &n_files, path, sizeof path) > 0 && CHECK(unlink(path) == 0)) {
  }
  CHECK(rmdir(directory) == 0);
  free(rgb);
  glimpse_model_free(model);
}

static void nonsense_is_refused_at_once(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_engine *engine = create_engine(model, 1), *none = NULL;
  glimpse_engine_params params;
  glimpse_memory_plan plan;
  glimpse_ticket* ticket = NULL;
  glimpse_picture empty;
  Question q;
  glimpse_engine_params_init(&params, sizeof params);
  params.n_parallel = 0;
  CHECK_FAILS(glimpse_engine_create(model, &params, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("n_parallel");
  CHECK(none == NULL);
  glimpse_engine_params_init(&params, sizeof params);
  CHECK(params.image_cache_dir_bytes > 0);
  params.image_cache_dir_bytes = -1;
  CHECK_FAILS(glimpse_engine_create(model, &params, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("image_cache_dir_bytes");
  CHECK_FAILS(glimpse_engine_create(NULL, &params, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.image_cache_dir_bytes = 0;
  params.n_parallel = 2;
  params.n_ctx = 256;
  begin_info(&plan, sizeof plan);
  CHECK_OK(glimpse_plan_engine(model, &params, &plan));
  CHECK(plan.kv_cache > 0 && plan.total > plan.kv_cache);
  ask(&q, "7", NULL);
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_engine_submit(NULL, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_engine_submit(engine, NULL, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  q.request.n_messages = 0;
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ask(&q, "7", NULL);
  q.generate.temperature = -1;
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ask(&q, "7", NULL);
  q.request.deadline_ms = -1;
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ask(&q, "7", NULL);
  q.request.thinking = 7;
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  ask(&q, "7", NULL);
  q.request.n_tools = 1;
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  memset(&empty, 0, sizeof empty);
  ask(&q, "7", &empty);
  CHECK_FAILS(glimpse_engine_submit(engine, &q.request, &ticket), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(ticket == NULL);
  CHECK_FAILS(glimpse_ticket_wait(NULL, 0, 0, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_ticket_cancel(NULL);
  glimpse_ticket_free(NULL);
  glimpse_engine_free(NULL);
  glimpse_engine_free(engine);
  glimpse_model_free(model);
}

/* A request that goes on until somebody ends it, and who listens to it: its callback waits to be let go. */
typedef struct Endless {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  glimpse_ticket* ticket;
  int64_t timeout_ms; /* of one wait */
  int begun, go_on, n_done;
  int32_t status;
} Endless;

static int hold_up(void* user, const glimpse_step_result* step) {
  Endless* e = user;
  (void)step;
  pthread_mutex_lock(&e->mutex);
  e->begun = 1;
  pthread_cond_broadcast(&e->changed);
  while (!e->go_on) pthread_cond_wait(&e->changed, &e->mutex);
  pthread_mutex_unlock(&e->mutex);
  return 1;
}

static void count_end(void* user, const glimpse_ticket* ticket) {
  Endless* e = user;
  const glimpse_request_result result = result_of(ticket, 0);
  pthread_mutex_lock(&e->mutex);
  ++e->n_done;
  e->status = result.status;
  pthread_mutex_unlock(&e->mutex);
}

static void submit_endless(glimpse_engine* engine, Endless* e) {
  Question q;
  memset(e, 0, sizeof *e);
  pthread_mutex_init(&e->mutex, NULL);
  pthread_cond_init(&e->changed, NULL);
  ask(&q, "the cat", NULL);
  q.generate.max_tokens = -1;
  q.request.on_token = hold_up;
  q.request.on_token_user = e;
  q.request.on_done = count_end;
  q.request.on_done_user = e;
  e->ticket = submit(engine, &q);
  pthread_mutex_lock(&e->mutex);
  while (!e->begun) pthread_cond_wait(&e->changed, &e->mutex);
  pthread_mutex_unlock(&e->mutex);
}

static void* wait_for_end(void* user) {
  const Endless* e = user;
  glimpse_request_result result;
  do {
    result = result_of(e->ticket, e->timeout_ms);
  } while (!result.finished);
  return NULL;
}

static void* let_go(void* user) {
  Endless* e = user;
  pthread_mutex_lock(&e->mutex);
  e->go_on = 1;
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->mutex);
  return NULL;
}

/* Whoever frees an engine may free what its callbacks use, though another thread waits for a ticket. */
static void freeing_it_ends_what_others_wait_for(void) {
  glimpse_model* model = load_tiny(0);
  int64_t timeout_ms;
  for (timeout_ms = -1; timeout_ms <= 1; timeout_ms += 2) {
    glimpse_engine* engine = create_engine(model, 1);
    pthread_t waiter, helper;
    Endless e;
    CHECK_OK(glimpse_engine_start(engine));
    submit_endless(engine, &e);
    e.timeout_ms = timeout_ms;
    if (pthread_create(&waiter, NULL, wait_for_end, &e) != 0) exit(1);
    result_of(e.ticket, 20); /* the other is waiting by now */
    if (pthread_create(&helper, NULL, let_go, &e) != 0) exit(1);
    glimpse_engine_free(engine);
    CHECK(e.n_done == 1);
    pthread_join(helper, NULL);
    pthread_join(waiter, NULL);
    glimpse_ticket_free(e.ticket);
  }
  glimpse_model_free(model);
}

/* Of what has a thread of its own a child process has a part: it may be freed there. */
static void a_child_process_may_free_it(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_engine* engine = create_engine(model, 1);
  Endless e;
  int status = 1;
  pid_t child;
  CHECK_OK(glimpse_engine_start(engine));
  submit_endless(engine, &e);
  child = fork();
  if (child == 0) {
    Question q;
    glimpse_request_result result;
    int wrong = 0;
    alarm(20);
    begin_info(&result, sizeof result);
    ask(&q, "7", NULL);
    wrong += glimpse_ticket_wait(e.ticket, (size_t)-1, -1, &result) == GLIMPSE_OK;
    wrong += glimpse_engine_submit(engine, &q.request, &e.ticket) == GLIMPSE_OK;
    glimpse_ticket_free(e.ticket);
    glimpse_engine_free(engine);
    glimpse_model_free(model);
    _exit(wrong);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  let_go(&e);
  CHECK(result_of(e.ticket, -1).finished == 1); /* the parent's goes on */
  CHECK_OK(glimpse_engine_stop(engine, INT64_MAX));
  glimpse_ticket_free(e.ticket);
  glimpse_engine_free(engine);
  glimpse_model_free(model);
}

/* However long one is ready to wait, the answer under way is not cut off. */
static void stopping_waits_as_long_as_it_takes(void) {
  glimpse_model* model = load_tiny(0);
  const Answer want = alone(model, "the dog", NULL, 0, 0);
  int with_thread;
  for (with_thread = 0; with_thread < 2; ++with_thread) {
    glimpse_engine* engine = create_engine(model, 1);
    glimpse_request_result result;
    glimpse_ticket* ticket;
    Question q;
    ask(&q, "the dog", NULL);
    ticket = submit(engine, &q);
    if (with_thread) CHECK_OK(glimpse_engine_start(engine));
    CHECK_OK(glimpse_engine_stop(engine, INT64_MAX));
    result = result_of(ticket, 0);
    CHECK(result.finished == 1 && result.status == GLIMPSE_OK);
    CHECK(says(&result, &want));
    glimpse_ticket_free(ticket);
    glimpse_engine_free(engine);
  }
  glimpse_model_free(model);
}

int main(void) {
  whoever_waits_runs_it();
  callbacks_tell_of_every_token_and_of_the_end();
  a_thread_of_its_own_goes_on_alone();
  what_is_wrong_with_one_harms_no_other();
  nonsense_is_refused_at_once();
  the_folder_of_embeddings_keeps_to_its_bytes();
  stopping_waits_as_long_as_it_takes();
  freeing_it_ends_what_others_wait_for();
  a_child_process_may_free_it();
  return check_result("engine");
}
