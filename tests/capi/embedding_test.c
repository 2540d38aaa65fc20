/* Pictures: from bytes, a file and pixels; saved and loaded; in a conversation. */
#include "support.h"

static void every_way_in_gives_the_same(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_embedding *from_bytes = NULL, *from_file = NULL, *from_rgb = NULL, *from_rows = NULL;
  glimpse_embedding_info info;
  size_t n_bytes = 0, y, i;
  unsigned char* ppm = make_ppm(84, 56, &n_bytes);
  uint8_t* rgb = make_rgb(84, 56);
  uint8_t* rows = malloc(56 * 300);
  Progress progress = {"encode image", "read image", 0, 0, 0};
  char path[1100];
  FILE* file;
  if (rows == NULL) exit(1);

  CHECK_OK(glimpse_encode_image_bytes(session, ppm, n_bytes, on_progress, &progress, &from_bytes));
  CHECK(progress.n_calls > 0);
  info = read_info(from_bytes);
  CHECK(info.n_tokens == 6 && info.width == 64);
  CHECK(info.original_width == 84 && info.original_height == 56);
  CHECK(info.resized_width == 84 && info.resized_height == 56);
  for (i = 0; i < 6 * 64; ++i) CHECK(isfinite(info.values[i]));

  snprintf(path, sizeof path, "%s/capi_embedding_test.ppm", GLIMPSE_SCRATCH_DIR);
  file = fopen(path, "wb");
  if (CHECK(file != NULL)) {
    CHECK(fwrite(ppm, 1, n_bytes, file) == n_bytes);
    CHECK(fclose(file) == 0);
    CHECK_OK(glimpse_encode_image_file(session, path, NULL, NULL, &from_file));
    CHECK(same_embedding(from_bytes, from_file));
    remove(path);
  }

  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 84, 56, 0, NULL, NULL, &from_rgb));
  CHECK(same_embedding(from_bytes, from_rgb));

  /* Rows further apart than they are long; what lies between is not looked at. */
  memset(rows, 0xAA, 56 * 300);
  for (y = 0; y < 56; ++y) memcpy(rows + y * 300, rgb + y * 3 * 84, 3 * 84);
  CHECK_OK(glimpse_encode_image_rgb(session, rows, 84, 56, 300, NULL, NULL, &from_rows));
  CHECK(same_embedding(from_bytes, from_rows));

  glimpse_embedding_free(from_bytes);
  glimpse_embedding_free(from_file);
  glimpse_embedding_free(from_rgb);
  glimpse_embedding_free(from_rows);
  glimpse_embedding_free(NULL);

  /* Limits on the tokens. */
  {
    glimpse_session_params params = tiny_session_params();
    glimpse_session* limited = NULL;
    params.image_max_tokens = 2;
    CHECK_OK(glimpse_session_create(tiny->model, &params, &limited));
    CHECK_OK(glimpse_encode_image_rgb(limited, rgb, 84, 56, 0, NULL, NULL, &from_rgb));
    info = read_info(from_rgb);
    CHECK(info.n_tokens >= 1 && info.n_tokens <= 2);
    CHECK(info.original_width == 84 && info.resized_width < 84 && info.resized_width % 28 == 0);
    glimpse_embedding_free(from_rgb);
    glimpse_session_free(limited);
  }
  free(ppm);
  free(rgb);
  free(rows);
}

static void refuses_what_is_no_picture(const Tiny* tiny) {
  glimpse_model* blind = load_tiny(0);
  glimpse_session* session = tiny->session;
  glimpse_session* blind_session = create_tiny(blind);
  glimpse_embedding* out = (glimpse_embedding*)1;
  uint8_t* rgb = make_rgb(28, 28);
  Progress progress = {"encode image", "read image", 0, 1, 0};
  size_t n_bytes = 0;
  unsigned char* ppm = make_ppm(28, 28, &n_bytes);

  CHECK_FAILS(glimpse_encode_image_bytes(session, "this is not a picture", 21, NULL, NULL, &out),
              GLIMPSE_ERROR_UNSUPPORTED);
  CHECK(out == NULL);
  out = (glimpse_embedding*)1;
  CHECK(glimpse_encode_image_bytes(session, ppm, n_bytes - 100, NULL, NULL, &out) == GLIMPSE_ERROR_TRUNCATED);
  CHECK(out == NULL);
  out = (glimpse_embedding*)1;
  CHECK(glimpse_encode_image_bytes(session, ppm, 0, NULL, NULL, &out) != GLIMPSE_OK);
  CHECK(out == NULL);
  out = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_encode_image_file(session, "/no/such/cat.jpg", NULL, NULL, &out), GLIMPSE_ERROR_NOT_FOUND);
  CHECK_ERROR_HAS("/no/such/cat.jpg");
  CHECK(out == NULL);
  out = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 0, 28, 0, NULL, NULL, &out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(out == NULL);
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 28, -1, 0, NULL, NULL, &out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 65000, 65000, 0, NULL, NULL, &out),
              GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 28, 28, 83, NULL, NULL, &out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  out = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 28, 28, 0, on_progress, &progress, &out), GLIMPSE_ERROR_CANCELLED);
  CHECK(out == NULL && progress.n_calls == 1);
  out = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_encode_image_rgb(session, rgb, 1, 201, 0, NULL, NULL, &out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(out == NULL);
  out = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_encode_image_rgb(blind_session, rgb, 28, 28, 0, NULL, NULL, &out), GLIMPSE_ERROR_MISMATCH);
  CHECK(out == NULL);
  free(rgb);
  free(ppm);
  glimpse_session_free(blind_session);
  glimpse_model_free(blind);
}

static void saves_and_loads(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_session* session = create_tiny(model);
  uint8_t* rgb = make_rgb(84, 56);
  glimpse_embedding *made = NULL, *loaded = NULL;
  unsigned char* bytes;
  size_t n = 0, written = 0, cut;
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 84, 56, 0, NULL, NULL, &made));
  CHECK_OK(glimpse_embedding_save(made, NULL, 0, &n));
  CHECK(n > 6 * 64 * sizeof(float));
  bytes = malloc(n);
  if (bytes == NULL) exit(1);
  CHECK_FAILS(glimpse_embedding_save(made, bytes, n - 1, &written), GLIMPSE_ERROR_TOO_LARGE);
  CHECK(written == n);
  CHECK_OK(glimpse_embedding_save(made, bytes, n, &written));
  CHECK(written == n);

  /* The session and the model may be gone: an embedding stands alone. */
  glimpse_session_free(session);
  glimpse_model_free(model);
  CHECK_OK(glimpse_embedding_load(bytes, n, &loaded));
  CHECK(same_embedding(made, loaded));
  glimpse_embedding_free(loaded);

  for (cut = 0; cut < n; cut += cut < 120 ? 1 : 97) {
    loaded = (glimpse_embedding*)1;
    CHECK(glimpse_embedding_load(bytes, cut, &loaded) != GLIMPSE_OK);
    CHECK(loaded == NULL);
  }
  bytes[0] ^= 1;
  loaded = (glimpse_embedding*)1;
  CHECK_FAILS(glimpse_embedding_load(bytes, n, &loaded), GLIMPSE_ERROR_CORRUPT);
  CHECK(loaded == NULL);
  free(bytes);
  free(rgb);
  glimpse_embedding_free(made);
}

static void answers_about_pictures(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_embedding *first = NULL, *second = NULL;
  glimpse_part parts[4] = {{NULL, NULL, 0}};
  const glimpse_message message = user_message(parts, 4);
  glimpse_timings timings;
  uint8_t* rgb = make_rgb(84, 56);
  Answer one, again;
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 84, 56, 0, NULL, NULL, &first));
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 28, 56, 0, NULL, NULL, &second));
  parts[0] = text_part("describe");
  parts[1] = picture_part(first);
  parts[2] = text_part("and");
  parts[3] = picture_part(second);
  CHECK_OK(glimpse_generate(session, &message, 1, &params));
  one = read_answer(session);
  timings = read_timings(session);
  CHECK(timings.n_image_tokens == 6 + 2);
  CHECK(timings.n_prompt_tokens > timings.n_image_tokens);
  CHECK(timings.image_encode_ms > 0 && timings.image_resize_ms > 0);

  /* The same embeddings in a session of its own; freed as soon as the call is done. */
  {
    glimpse_session* other = create_tiny(tiny->model);
    CHECK_OK(glimpse_prefill(other, &message, 1, NULL, NULL));
    glimpse_embedding_free(first);
    glimpse_embedding_free(second);
    CHECK_OK(glimpse_generate(other, NULL, 0, &params));
    again = read_answer(other);
    CHECK(same_answer(&one, &again));
    glimpse_session_free(other);
  }
  free(rgb);
}

static void refuses_embeddings_of_another_model(void) {
  glimpse_model_params model_params;
  glimpse_model *tied = load_tiny(1), *untied = NULL;
  glimpse_session *session = create_tiny(tied), *other;
  glimpse_generate_params params = tiny_generate_params();
  glimpse_embedding* embedding = NULL;
  glimpse_part part;
  uint8_t* rgb = make_rgb(28, 28);
  CHECK_OK(glimpse_encode_image_rgb(session, rgb, 28, 28, 0, NULL, NULL, &embedding));
  glimpse_model_params_init(&model_params, sizeof model_params);
  model_params.model_path = test_path("golden/untied/model.gguf");
  if (CHECK_OK(glimpse_model_load(&model_params, &untied))) {
    glimpse_message message;
    other = create_tiny(untied);
    part = picture_part(embedding);
    message = user_message(&part, 1);
    CHECK_FAILS(glimpse_generate(other, &message, 1, &params), GLIMPSE_ERROR_MISMATCH);
    CHECK_ERROR_HAS("64");
    CHECK_ERROR_HAS("80");
    glimpse_session_free(other);
  }
  free(rgb);
  glimpse_embedding_free(embedding);
  glimpse_session_free(session);
  glimpse_model_free(tied);
  glimpse_model_free(untied);
}

int main(void) {
  with_tiny(1, every_way_in_gives_the_same);
  with_tiny(1, refuses_what_is_no_picture);
  saves_and_loads();
  with_tiny(1, answers_about_pictures);
  refuses_embeddings_of_another_model();
  return check_result("embedding_test");
}
