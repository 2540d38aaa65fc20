/* Forks, checkpoints, tokens of one's own choice, steps of several sessions, and sessions as bytes and files. */
#include "support.h"

static glimpse_session* create_with_pool(const glimpse_model* model, int n_pool) {
  glimpse_session* session = NULL;
  glimpse_session_params params = tiny_session_params();
  params.n_pool = n_pool;
  if (!CHECK_OK(glimpse_session_create(model, &params, &session))) exit(1);
  return session;
}

static void say(glimpse_session* session, const char* text) {
  const glimpse_part part = text_part(text);
  const glimpse_message message = user_message(&part, 1);
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
}

static Answer answer_of(glimpse_session* session) {
  const glimpse_generate_params params = tiny_generate_params();
  CHECK_OK(glimpse_generate(session, NULL, 0, &params));
  return read_answer(session);
}

static glimpse_session_info info_of(const glimpse_session* session) {
  glimpse_session_info info;
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_session_get_info(session, &info));
  return info;
}

static void begin(glimpse_session* session) {
  const glimpse_generate_params params = tiny_generate_params();
  CHECK_OK(glimpse_begin_answer(session, &params));
}

/* Five questions about one picture: the picture is in memory, and went through the model, once. */
static void forks_share_what_they_have_in_common(void) {
  static const char* const kQuestions[5] = {"what is it", "a cat", "7?", "describe", "the dog"};
  glimpse_model* model = load_tiny(1);
  glimpse_session* session = create_with_pool(model, 256 * 12);
  glimpse_embedding* picture = NULL;
  uint8_t* rgb = make_rgb(224, 224);
  glimpse_part part;
  const glimpse_message message = user_message(&part, 1);
  int i, n_free, n_past;
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 224, 224, 0, NULL, NULL, &picture));
  part = picture_part(picture);
  CHECK_OK(glimpse_prefill(session, &message, 1, NULL, NULL));
  n_past = glimpse_session_n_past(session);
  n_free = info_of(session).n_free_pages;
  CHECK(info_of(session).page_slots == 256 && info_of(session).n_pages == 12 && n_free == 11);
  for (i = 0; i < 5; ++i) {
    glimpse_session *fork = NULL, *alone = create_tiny(model);
    glimpse_timings timings;
    Answer of_fork, of_alone;
    begin_info(&timings, sizeof timings);
    CHECK_OK(glimpse_session_fork(session, &fork));
    CHECK(glimpse_session_n_past(fork) == n_past && info_of(fork).n_free_pages == n_free);
    say(fork, kQuestions[i]);
    CHECK_OK(glimpse_get_timings(fork, &timings));
    CHECK(timings.n_prompt_tokens < 30 && timings.n_cached_tokens > 60);
    of_fork = answer_of(fork);
    CHECK_OK(glimpse_prefill(alone, &message, 1, NULL, NULL));
    say(alone, kQuestions[i]);
    of_alone = answer_of(alone);
    CHECK(same_answer(&of_fork, &of_alone));
    glimpse_session_free(fork);
    glimpse_session_free(alone);
  }
  CHECK(info_of(session).n_free_pages == n_free);
  glimpse_embedding_free(picture);
  free(rgb);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

static void comes_back_to_a_checkpoint(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session *session = create_with_pool(model, 1024), *fork = NULL, *stranger = create_tiny(model);
  glimpse_checkpoint* checkpoint = NULL;
  Answer first, again;
  say(session, "the cat");
  CHECK_OK(glimpse_session_checkpoint(session, &checkpoint));
  first = answer_of(session);
  say(session, "the dog");
  CHECK_OK(glimpse_session_rewind(session, checkpoint));
  again = answer_of(session);
  CHECK(same_answer(&first, &again));
  CHECK_OK(glimpse_session_reset(session));
  CHECK_OK(glimpse_session_fork(session, &fork));
  CHECK(glimpse_session_n_past(fork) == 0);
  glimpse_session_free(session); /* the parent goes first */
  CHECK_OK(glimpse_session_rewind(fork, checkpoint));
  again = answer_of(fork);
  CHECK(same_answer(&first, &again));
  CHECK_FAILS(glimpse_session_rewind(stranger, checkpoint), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_session_rewind(fork, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_checkpoint_free(checkpoint);
  CHECK_FAILS(glimpse_session_checkpoint(NULL, &checkpoint), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(checkpoint == NULL);
  CHECK_FAILS(glimpse_session_fork(NULL, &session), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(session == NULL);
  glimpse_checkpoint_free(NULL);
  glimpse_session_free(fork);
  glimpse_session_free(stranger);
  glimpse_model_free(model);
}

enum { kSessions = 4 };

static void steps_of_several_are_those_of_each(void) {
  static const char* const kTexts[kSessions] = {"the cat", "7", "describe the image", "the dog"};
  glimpse_model* model = load_tiny(0);
  glimpse_session *sessions[kSessions], *running[kSessions], *root = create_with_pool(model, 256 * 8);
  glimpse_step_result results[kSessions];
  size_t n = kSessions, i, k;
  memset(results, 0, sizeof results);
  for (i = 0; i < kSessions; ++i) {
    results[i].struct_size = sizeof results[0];
    CHECK_OK(glimpse_session_fork(root, &sessions[i]));
    say(sessions[i], kTexts[i]);
    begin(sessions[i]);
    running[i] = sessions[i];
  }
  CHECK_FAILS(glimpse_step_many(running, 0, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_step_many(NULL, 1, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_step_many(running, 1, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  results[1].struct_size -= 8;
  CHECK_FAILS(glimpse_step_many(running, 2, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  results[1].struct_size += 8;
  while (n > 0) {
    size_t left = 0;
    if (!CHECK_OK(glimpse_step_many(running, n, results))) break;
    for (i = 0; i < n; ++i) {
      CHECK(results[i].status == GLIMPSE_OK && results[i].token >= 0 && results[i].text != NULL);
      if (results[i].finish_reason == GLIMPSE_FINISH_NONE) running[left++] = running[i];
    }
    n = left;
  }
  for (i = 0; i < kSessions; ++i) {
    glimpse_session* alone = create_tiny(model);
    const Answer got = read_answer(sessions[i]);
    Answer want;
    say(alone, kTexts[i]);
    want = answer_of(alone);
    CHECK(same_answer(&got, &want));
    glimpse_session_free(alone);
  }
  /* One that cannot step is told of, the others step. */
  for (k = 0; k < 3; ++k) say(sessions[k], "and now"), running[k] = sessions[k];
  begin(sessions[0]);
  begin(sessions[2]);
  CHECK_FAILS(glimpse_step_many(running, 3, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("session 2 of 3: ");
  CHECK(results[0].status == GLIMPSE_OK && results[2].status == GLIMPSE_OK);
  CHECK(results[1].status == GLIMPSE_ERROR_INVALID_ARGUMENT && results[1].token == -1);
  CHECK(results[1].finish_reason == GLIMPSE_FINISH_NONE);
  running[1] = running[0];
  CHECK_FAILS(glimpse_step_many(running, 3, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  running[1] = create_tiny(model);
  CHECK_FAILS(glimpse_step_many(running, 3, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_session_free(running[1]);
  running[1] = NULL;
  CHECK_FAILS(glimpse_step_many(running, 3, results), GLIMPSE_ERROR_INVALID_ARGUMENT);
  for (i = 0; i < kSessions; ++i) glimpse_session_free(sessions[i]);
  glimpse_session_free(root);
  glimpse_model_free(model);
}

/* A host that draws for itself: the likeliest token, as greedy sampling does. */
static void a_host_may_draw_for_itself(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session *own = create_tiny(model), *ours = create_tiny(model);
  glimpse_step_result result;
  Answer got, want;
  begin_info(&result, sizeof result);
  say(own, "the cat");
  say(ours, "the cat");
  want = answer_of(ours);
  CHECK_FAILS(glimpse_feed(own, 5, &result), GLIMPSE_ERROR_INVALID_ARGUMENT);
  begin(own);
  do {
    const float* logits = NULL;
    size_t n = 0, i;
    int32_t best = 0;
    CHECK_OK(glimpse_forward(own));
    if (!CHECK_OK(glimpse_get_logits(own, &logits, &n))) break;
    for (i = 1; i < n; ++i) {
      if (logits[i] > logits[best]) best = (int32_t)i;
    }
    if (!CHECK_OK(glimpse_feed(own, best, &result))) break;
    CHECK(result.token == best && result.status == GLIMPSE_OK);
  } while (result.finish_reason == GLIMPSE_FINISH_NONE);
  got = read_answer(own);
  CHECK(same_answer(&got, &want));
  begin(own);
  CHECK_FAILS(glimpse_feed(own, 320, &result), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_feed(own, 5, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_forward(NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_session_free(own);
  glimpse_session_free(ours);
  glimpse_model_free(model);
}

static void goes_on_from_bytes_and_from_a_file(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session *session = create_tiny(model), *other = create_tiny(model), *wide = NULL;
  glimpse_session_params params = tiny_session_params();
  unsigned char *bytes, *more;
  size_t n = 0, written = 0;
  char path[1100];
  Answer want, got;
  FILE* file;
  snprintf(path, sizeof path, "%s/capi_family_test.glis", GLIMPSE_SCRATCH_DIR);
  remove(path);
  say(session, "the cat");
  CHECK_OK(glimpse_session_save(session, NULL, 0, &n));
  CHECK(n > 1000);
  bytes = malloc(n);
  more = malloc(n + 1);
  if (bytes == NULL || more == NULL) exit(1);
  CHECK_FAILS(glimpse_session_save(session, bytes, n - 1, &written), GLIMPSE_ERROR_TOO_LARGE);
  CHECK_OK(glimpse_session_save(session, bytes, n, &written));
  CHECK(written == n);
  CHECK_OK(glimpse_session_save_file(session, path));
  want = answer_of(session);

  CHECK_OK(glimpse_session_load(other, bytes, n));
  got = answer_of(other);
  CHECK(same_answer(&got, &want));
  CHECK_OK(glimpse_session_load_file(other, path));
  got = answer_of(other);
  CHECK(same_answer(&got, &want));

  /* What is not whole, or of another kind, changes nothing. */
  memcpy(more, bytes, n);
  more[n - 20] ^= 1;
  CHECK_FAILS(glimpse_session_load(other, more, n), GLIMPSE_ERROR_CORRUPT);
  CHECK_FAILS(glimpse_session_load(other, bytes, n - 1), GLIMPSE_ERROR_TRUNCATED);
  CHECK_FAILS(glimpse_session_load(other, bytes, 0), GLIMPSE_ERROR_TRUNCATED);
  CHECK_FAILS(glimpse_session_load(other, NULL, 0), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.kv_type = GLIMPSE_KV_Q8_0;
  CHECK_OK(glimpse_session_create(model, &params, &wide));
  CHECK_FAILS(glimpse_session_load(wide, bytes, n), GLIMPSE_ERROR_MISMATCH);
  CHECK_FAILS(glimpse_session_load_file(wide, path), GLIMPSE_ERROR_MISMATCH);
  CHECK_ERROR_HAS(path);
  CHECK_FAILS(glimpse_session_load_file(other, "/no/such/file"), GLIMPSE_ERROR_NOT_FOUND);
  CHECK_FAILS(glimpse_session_save_file(other, "/no/such/folder/file"), GLIMPSE_ERROR_NOT_FOUND);
  CHECK_FAILS(glimpse_session_load_file(other, "/dev/zero"), GLIMPSE_ERROR_INVALID_ARGUMENT);
  got = read_answer(other);
  CHECK(same_answer(&got, &want));
  file = fopen(path, "ab");
  if (CHECK(file != NULL)) {
    fputc('x', file);
    fclose(file);
    CHECK_FAILS(glimpse_session_load_file(other, path), GLIMPSE_ERROR_CORRUPT);
  }
  CHECK_OK(glimpse_session_save_file(other, path)); /* replaces it */
  CHECK_OK(glimpse_session_load_file(session, path));
  CHECK(glimpse_session_n_past(session) == glimpse_session_n_past(other));
  remove(path);
  free(bytes);
  free(more);
  glimpse_session_free(session);
  glimpse_session_free(other);
  glimpse_session_free(wide);
  glimpse_model_free(model);
}

typedef struct Reentry {
  glimpse_session *fork, *stranger;
  int n_calls;
} Reentry;

static int on_text(void* user, const char* text, size_t n_bytes) {
  Reentry* reentry = user;
  glimpse_session* out = NULL;
  glimpse_answer_info info;
  (void)text, (void)n_bytes;
  begin_info(&info, sizeof info);
  /* Its sibling has no threads now, but may be asked what it knows; another family is free. */
  CHECK_FAILS(glimpse_forward(reentry->fork), GLIMPSE_ERROR_BUSY);
  CHECK_FAILS(glimpse_session_fork(reentry->fork, &out), GLIMPSE_ERROR_BUSY);
  CHECK_OK(glimpse_get_answer(reentry->fork, &info));
  CHECK_OK(glimpse_session_reset(reentry->stranger));
  if (++reentry->n_calls == 2) {
    glimpse_session_free(reentry->fork);
    reentry->fork = reentry->stranger;
    return 0;
  }
  return 1;
}

static void one_of_a_family_works_at_a_time(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session* session = create_with_pool(model, 1024);
  glimpse_generate_params params = tiny_generate_params();
  Reentry reentry = {NULL, NULL, 0};
  reentry.stranger = create_tiny(model);
  say(session, "the cat");
  CHECK_OK(glimpse_session_fork(session, &reentry.fork));
  params.on_text = on_text;
  params.on_text_user = &reentry;
  CHECK_OK(glimpse_generate(session, NULL, 0, &params));
  CHECK(reentry.n_calls == 2);
  CHECK(info_of(session).n_free_pages == 3);
  glimpse_session_free(session);
  glimpse_session_free(reentry.stranger);
  glimpse_model_free(model);
}

static void a_pool_that_is_full_says_so(void) {
  glimpse_model* model = load_tiny(0);
  glimpse_session *session = create_tiny(model), *fork = NULL;
  glimpse_part part = {"the dog", NULL, 0};
  glimpse_message message = {"user", &part, 1};
  Answer alone, of_session;
  CHECK(info_of(session).n_pages == 1);
  say(session, "the cat");
  CHECK_OK(glimpse_session_fork(session, &fork));
  CHECK_FAILS(glimpse_prefill(fork, &message, 1, NULL, NULL), GLIMPSE_ERROR_CONTEXT_FULL);
  CHECK_ERROR_HAS("page");
  glimpse_session_free(fork);
  of_session = answer_of(session);
  fork = create_tiny(model);
  say(fork, "the cat");
  alone = answer_of(fork);
  CHECK(same_answer(&of_session, &alone));
  glimpse_session_free(fork);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

int main(void) {
  forks_share_what_they_have_in_common();
  comes_back_to_a_checkpoint();
  steps_of_several_are_those_of_each();
  a_host_may_draw_for_itself();
  goes_on_from_bytes_and_from_a_file();
  one_of_a_family_works_at_a_time();
  a_pool_that_is_full_says_so();
  return check_result("family_test");
}
