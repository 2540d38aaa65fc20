#include "support.h"

static int n_checks, n_failures;

/* Checks are made in callbacks too, which other threads run. */
static void count(int* n) {
  __atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

int check_true(int holds, const char* condition, const char* file, int line) {
  count(&n_checks);
  if (!holds) {
    count(&n_failures);
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
  }
  return holds;
}

int check_status(glimpse_status got, glimpse_status want, const char* call, const char* file, int line) {
  count(&n_checks);
  if (got != want) {
    count(&n_failures);
    fprintf(stderr, "%s:%d: %s\n  returned %d (%s), want %d (%s); message: %s\n", file, line, call, (int)got,
            glimpse_status_name(got), (int)want, glimpse_status_name(want), glimpse_last_error());
    return 0;
  }
  if (want != GLIMPSE_OK && glimpse_last_error()[0] == '\0') {
    count(&n_failures);
    fprintf(stderr, "%s:%d: %s\n  failed without a message\n", file, line, call);
    return 0;
  }
  return 1;
}

int check_error_has(const char* text, const char* file, int line) {
  count(&n_checks);
  if (strstr(glimpse_last_error(), text) == NULL) {
    count(&n_failures);
    fprintf(stderr, "%s:%d: the message lacks '%s': %s\n", file, line, text, glimpse_last_error());
    return 0;
  }
  return 1;
}

int check_text(const char* got, const char* want, const char* expression, const char* file, int line) {
  count(&n_checks);
  if (got == NULL || strcmp(got, want) != 0) {
    count(&n_failures);
    fprintf(stderr, "%s:%d: %s is '%s', want '%s'\n", file, line, expression, got == NULL ? "(null)" : got, want);
    return 0;
  }
  return 1;
}

int check_result(const char* program) {
  printf("%s: %d checks, %d failed\n", program, n_checks, n_failures);
  return n_failures == 0 && n_checks > 0 ? 0 : 1;
}

const char* test_path(const char* name) {
  static char paths[8][1024];
  static int next;
  char* path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", GLIMPSE_TEST_DIR, name);
  return path;
}

static void must(glimpse_status status, const char* what) {
  if (status == GLIMPSE_OK) return;
  fprintf(stderr, "cannot %s: %s\n", what, glimpse_last_error());
  exit(1);
}

glimpse_model* load_tiny(int with_vision) {
  glimpse_model* model = NULL;
  glimpse_model_params params;
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = test_path("golden/tied/model.gguf");
  if (with_vision) params.mmproj_path = test_path("golden/tied/mmproj.gguf");
  params.n_threads = 1;
  must(glimpse_model_load(&params, &model), "load the golden model");
  return model;
}

glimpse_session_params tiny_session_params(void) {
  glimpse_session_params params;
  glimpse_session_params_init(&params, sizeof params);
  params.n_threads = 1;
  params.n_ctx = 256;
  params.n_batch = 32;
  params.image_min_tokens = 1;
  params.image_max_tokens = 64;
  return params;
}

glimpse_session* create_tiny(const glimpse_model* model) {
  glimpse_session* session = NULL;
  const glimpse_session_params params = tiny_session_params();
  must(glimpse_session_create(model, &params, &session), "create a session");
  return session;
}

glimpse_generate_params tiny_generate_params(void) {
  glimpse_generate_params params;
  glimpse_generate_params_init(&params, sizeof params);
  params.max_tokens = 12;
  params.temperature = 0;
  return params;
}

void with_tiny(int with_vision, void (*test)(const Tiny* tiny)) {
  Tiny tiny;
  tiny.model = load_tiny(with_vision);
  tiny.session = create_tiny(tiny.model);
  test(&tiny);
  glimpse_session_free(tiny.session);
  glimpse_model_free(tiny.model);
}

glimpse_part text_part(const char* text) {
  glimpse_part part = {NULL, NULL, 0};
  part.text = text;
  return part;
}

glimpse_part picture_part(const glimpse_embedding* picture) {
  glimpse_part part = {NULL, NULL, 0};
  part.embedding = picture;
  return part;
}

glimpse_message user_message(const glimpse_part* parts, size_t n_parts) {
  glimpse_message message = {"user", NULL, 0};
  message.parts = parts;
  message.n_parts = n_parts;
  return message;
}

uint8_t* make_rgb(int width, int height) {
  const size_t n = 3 * (size_t)width * (size_t)height;
  uint8_t* pixels = malloc(n);
  size_t i;
  if (pixels == NULL) exit(1);
  for (i = 0; i < n; ++i) pixels[i] = (uint8_t)((i * 37 + i / 101 * 11) & 255);
  return pixels;
}

unsigned char* make_ppm(int width, int height, size_t* n_bytes) {
  char header[64];
  const size_t n_header = (size_t)snprintf(header, sizeof header, "P6\n%d %d\n255\n", width, height);
  const size_t n_pixels = 3 * (size_t)width * (size_t)height;
  unsigned char* bytes = malloc(n_header + n_pixels);
  uint8_t* pixels = make_rgb(width, height);
  if (bytes == NULL) exit(1);
  memcpy(bytes, header, n_header);
  memcpy(bytes + n_header, pixels, n_pixels);
  free(pixels);
  *n_bytes = n_header + n_pixels;
  return bytes;
}

Answer read_answer(const glimpse_session* session) {
  Answer answer;
  glimpse_answer_info info;
  memset(&answer, 0, sizeof answer);
  begin_info(&info, sizeof info);
  if (!CHECK_OK(glimpse_get_answer(session, &info))) return answer;
  CHECK(info.text != NULL);
  CHECK(info.text[info.n_bytes] == '\0');
  if (!CHECK(info.n_bytes < sizeof answer.text && info.n_tokens <= sizeof answer.tokens / sizeof answer.tokens[0])) {
    return answer;
  }
  memcpy(answer.text, info.text, info.n_bytes);
  answer.n_bytes = info.n_bytes;
  if (info.n_tokens > 0) memcpy(answer.tokens, info.tokens, info.n_tokens * sizeof info.tokens[0]);
  answer.n_tokens = info.n_tokens;
  answer.finish_reason = info.finish_reason;
  return answer;
}

int same_answer(const Answer* a, const Answer* b) {
  return a->n_bytes == b->n_bytes && memcmp(a->text, b->text, a->n_bytes) == 0 && a->n_tokens == b->n_tokens &&
         memcmp(a->tokens, b->tokens, a->n_tokens * sizeof a->tokens[0]) == 0 && a->finish_reason == b->finish_reason;
}

void begin_info(void* info, size_t size) {
  memset(info, 0, size);
  memcpy(info, &size, sizeof size); /* struct_size is the first member of each */
}

glimpse_embedding_info read_info(const glimpse_embedding* embedding) {
  glimpse_embedding_info info;
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_embedding_get_info(embedding, &info));
  return info;
}

glimpse_timings read_timings(const glimpse_session* session) {
  glimpse_timings timings;
  begin_info(&timings, sizeof timings);
  CHECK_OK(glimpse_get_timings(session, &timings));
  return timings;
}

int on_progress(void* user, const char* stage, double fraction) {
  Progress* progress = user;
  ++progress->n_calls;
  if (progress->before == NULL || strcmp(stage, progress->before) != 0) {
    CHECK_TEXT(stage, progress->stage);
    CHECK(fraction >= progress->last && fraction <= 1);
    progress->last = fraction;
  }
  return progress->n_calls != progress->cancel_at;
}

int same_embedding(const glimpse_embedding* a, const glimpse_embedding* b) {
  const glimpse_embedding_info x = read_info(a), y = read_info(b);
  return x.n_tokens == y.n_tokens && x.width == y.width && x.original_width == y.original_width &&
         x.original_height == y.original_height && x.resized_width == y.resized_width &&
         x.resized_height == y.resized_height &&
         memcmp(x.values, y.values, sizeof(float) * (size_t)x.n_tokens * (size_t)x.width) == 0;
}
