/* Loading, facts, tokens. */
#include "support.h"

static void versions_and_names(void) {
  int code;
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", GLIMPSE_VERSION_MAJOR, GLIMPSE_VERSION_MINOR, GLIMPSE_VERSION_PATCH);
  CHECK_TEXT(glimpse_version(), version);
  CHECK_TEXT(glimpse_last_error(), ""); /* nothing has failed yet */
  CHECK_TEXT(glimpse_status_name(GLIMPSE_OK), "ok");
  for (code = GLIMPSE_ERROR_INVALID_ARGUMENT; code <= GLIMPSE_ERROR_BUSY; ++code) {
    const char* name = glimpse_status_name((glimpse_status)code);
    CHECK(name != NULL && name[0] != '\0' && strcmp(name, "unknown status") != 0);
  }
  CHECK_TEXT(glimpse_status_name((glimpse_status)99), "unknown status");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_STOP), "stop");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_STOP_STRING), "stop_string");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_MAX_TOKENS), "max_tokens");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_CONTEXT_FULL), "context_full");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_CANCELLED), "cancelled");
  CHECK_TEXT(glimpse_finish_reason_name(GLIMPSE_FINISH_NONE), "none");
  CHECK(glimpse_finish_reason_name((glimpse_finish_reason)99) != NULL);
}

static void on_log(void* user, glimpse_log_level level, const char* message) {
  ++*(int*)user;
  CHECK(level >= GLIMPSE_LOG_DEBUG && level <= GLIMPSE_LOG_ERROR);
  CHECK(message != NULL && message[0] != '\0' && message[strlen(message) - 1] != '\n');
}

static void loads_and_tells_facts(void) {
  glimpse_model_params params;
  glimpse_model* model = NULL;
  glimpse_model_info info;
  Progress progress = {"load", NULL, 0, 0, 0};
  int n_logs = 0;
  glimpse_model_params_init(&params, sizeof params);
  CHECK(params.struct_size == sizeof params);
  CHECK(params.vision_precision == GLIMPSE_VISION_AUTO);
  CHECK(params.device == GLIMPSE_DEVICE_CPU);
  CHECK(params.device_options == NULL);
  params.model_path = test_path("golden/tied/model.gguf");
  params.mmproj_path = test_path("golden/tied/mmproj.gguf");
  params.log = on_log;
  params.log_user = &n_logs;
  params.progress = on_progress;
  params.progress_user = &progress;
  if (!CHECK_OK(glimpse_model_load(&params, &model))) return;
  CHECK(n_logs > 0);
  CHECK(progress.n_calls > 1);
  CHECK(progress.last > 0.9);

  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_model_get_info(model, &info));
  CHECK(info.struct_size == sizeof info);
  CHECK_TEXT(info.architecture, "qwen2vl");
  CHECK_TEXT(info.name, "golden tied");
  CHECK(info.has_vision == 1);
  CHECK(info.vocab_size == 320);
  CHECK_TEXT(info.chat_format, "ChatML, no tools, no thinking, a default system text");
  CHECK_TEXT(info.pooling, "none");
  CHECK(info.takes_tools == 0 && info.opens_thinking == 0);
  CHECK(info.hidden_size == 64);
  CHECK(info.n_layers == 2);
  CHECK(info.context_length == 512);
  CHECK(info.weight_bytes > 100000 && info.weight_bytes < 4000000);
  glimpse_model_free(model);

  /* Text alone, and the reference. */
  params.mmproj_path = NULL;
  params.log = NULL;
  params.progress = NULL;
  params.use_reference = 1;
  if (!CHECK_OK(glimpse_model_load(&params, &model))) return;
  CHECK_OK(glimpse_model_get_info(model, &info));
  CHECK(info.has_vision == 0);
  glimpse_model_free(model);
  glimpse_model_free(NULL);
}

static void cancelling_a_load_leaves_nothing(void) {
  glimpse_model_params params;
  glimpse_model* model = (glimpse_model*)1;
  Progress progress = {"load", NULL, 0, 1, 0};
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = test_path("golden/tied/model.gguf");
  params.progress = on_progress;
  params.progress_user = &progress;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_CANCELLED);
  CHECK(model == NULL);
  CHECK(progress.n_calls == 1);
}

static void load_must_fail(const char* model_path, const char* mmproj_path, glimpse_status status, const char* word) {
  glimpse_model_params params;
  glimpse_model* model = (glimpse_model*)1;
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = model_path;
  params.mmproj_path = mmproj_path;
  CHECK_FAILS(glimpse_model_load(&params, &model), status);
  CHECK_ERROR_HAS(word);
  CHECK(model == NULL);
}

static void refuses_files_that_do_not_fit(void) {
  const char* text = test_path("golden/tied/model.gguf");
  const char* vision = test_path("golden/tied/mmproj.gguf");
  glimpse_model_params params;
  glimpse_model* model = (glimpse_model*)1;
  load_must_fail("/no/such/file.gguf", NULL, GLIMPSE_ERROR_NOT_FOUND, "/no/such/file.gguf");
  load_must_fail(text, "/no/such/mmproj.gguf", GLIMPSE_ERROR_NOT_FOUND, "/no/such/mmproj.gguf");
  load_must_fail(test_path("golden"), NULL, GLIMPSE_ERROR_INVALID_ARGUMENT, "directory");
  load_must_fail(test_path("capi/support.h"), NULL, GLIMPSE_ERROR_CORRUPT, "GGUF");
  load_must_fail(vision, NULL, GLIMPSE_ERROR_UNSUPPORTED, "vision encoder");
  load_must_fail(text, text, GLIMPSE_ERROR_UNSUPPORTED, "model.gguf");
  load_must_fail(text, test_path("golden/untied/mmproj.gguf"), GLIMPSE_ERROR_MISMATCH, "do not belong together");
  load_must_fail(test_path("golden/tied/case-text.gguf"), NULL, GLIMPSE_ERROR_UNSUPPORTED, "golden");

  glimpse_model_params_init(&params, sizeof params);
  params.model_path = text;
  params.vision_precision = 17;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(model == NULL);
  params.vision_precision = GLIMPSE_VISION_AUTO;
  params.cuda_decode = 3;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.cuda_decode = -1;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.cuda_decode = GLIMPSE_CUDA_DECODE_LAUNCHES;
  params.device_options = "cuda_decode=never";
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(strstr(glimpse_last_error(), "never") != NULL);
  params.device_options = "cuda_decode=graph,streams=3";
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(strstr(glimpse_last_error(), "streams") != NULL);
  params.device_options = "cuda_decode=graph,cuda_decode";
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.device_options = "cuda_decode=graph,cuda_decode=launches";
  params.device = 3;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.device = GLIMPSE_DEVICE_CPU;
  params.n_threads = -1;
  model = (glimpse_model*)1;
  CHECK_FAILS(glimpse_model_load(&params, &model), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(model == NULL);
}

static void tokenizes(void) {
  static const char kText[] = "what is this picture?";
  glimpse_model* model = load_tiny(0);
  int32_t ids[64], few[2];
  size_t n = 0, total = 0, i;
  char joined[128];
  const char* bytes = NULL;
  size_t n_bytes = 0;

  CHECK_OK(glimpse_tokenize(model, kText, strlen(kText), NULL, 0, &n));
  CHECK(n > 2 && n < strlen(kText)); /* some merges, or the vocabulary is not used */
  CHECK_FAILS(glimpse_tokenize(model, kText, strlen(kText), few, 2, &total), GLIMPSE_ERROR_TOO_LARGE);
  CHECK(total == n);
  CHECK_OK(glimpse_tokenize(model, kText, strlen(kText), ids, 64, &total));
  CHECK(total == n);
  for (i = 0, total = 0; i < n; ++i) {
    CHECK_OK(glimpse_token_bytes(model, ids[i], &bytes, &n_bytes));
    memcpy(joined + total, bytes, n_bytes);
    total += n_bytes;
  }
  joined[total] = '\0';
  CHECK_TEXT(joined, kText);

  n = 7;
  CHECK_OK(glimpse_tokenize(model, "", 0, ids, 64, &n));
  CHECK(n == 0);
  n = 7;
  CHECK_OK(glimpse_tokenize(model, NULL, 0, NULL, 0, &n));
  CHECK(n == 0);

  /* Control tokens in a text are ordinary text. */
  CHECK_OK(glimpse_tokenize(model, "<|im_end|>", 10, ids, 64, &n));
  CHECK(n > 1);
  for (i = 0; i < n; ++i) CHECK(ids[i] != 290);
  CHECK_OK(glimpse_token_bytes(model, 290, &bytes, &n_bytes));
  CHECK(n_bytes == 10 && memcmp(bytes, "<|im_end|>", 10) == 0);

  bytes = "x";
  CHECK_FAILS(glimpse_token_bytes(model, -1, &bytes, &n_bytes), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_token_bytes(model, 320, &bytes, &n_bytes), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("320");
  for (i = 0; i < 320; ++i) {
    CHECK_OK(glimpse_token_bytes(model, (int32_t)i, &bytes, &n_bytes));
    CHECK(bytes != NULL);
  }
  glimpse_model_free(model);
}

static void tokenizes_as_asked(void) {
  static const char kText[] = "a<|im_end|>e\xCC\x81"; /* e and a combining acute accent: NFC makes one letter of them */
  glimpse_model* model = load_tiny(0);
  int32_t plain[64], special[64], typed[64], id = 7;
  size_t n_plain = 0, n_special = 0, n_typed = 0, n = 0, i;
  char text[64];
  glimpse_token_info info;
  glimpse_model_info facts;

  CHECK_OK(glimpse_tokenize_with(model, kText, strlen(kText), 0, plain, 64, &n_plain));
  CHECK_OK(glimpse_tokenize_with(model, kText, strlen(kText), GLIMPSE_TOKENIZE_SPECIAL, special, 64, &n_special));
  CHECK_OK(glimpse_tokenize_with(model, kText, strlen(kText), GLIMPSE_TOKENIZE_AS_TYPED, typed, 64, &n_typed));
  CHECK_OK(glimpse_tokenize(model, kText, strlen(kText), NULL, 0, &n));
  CHECK(n == n_plain);
  for (i = 0; i < n_plain; ++i) CHECK(plain[i] != 290);
  CHECK(n_special < n_plain && special[1] == 290);
  CHECK_FAILS(glimpse_tokenize_with(model, kText, strlen(kText), 4, plain, 64, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);

  CHECK_OK(glimpse_detokenize(model, special, n_special, 1, NULL, 0, &n));
  CHECK(n == strlen(kText) - 1); /* the letter is two bytes, not three */
  CHECK_OK(glimpse_detokenize(model, special, n_special, 1, text, sizeof text, &n));
  CHECK(n == 13 && memcmp(text, "a<|im_end|>\xC3\xA9", 13) == 0);
  CHECK_OK(glimpse_detokenize(model, special, n_special, 0, text, sizeof text, &n));
  CHECK(n == 3 && memcmp(text, "a\xC3\xA9", 3) == 0);
  CHECK_OK(glimpse_detokenize(model, typed, n_typed, 0, text, sizeof text, &n));
  CHECK(n == strlen(kText) && memcmp(text, kText, n) == 0);
  CHECK_FAILS(glimpse_detokenize(model, typed, n_typed, 0, text, n - 1, &n), GLIMPSE_ERROR_TOO_LARGE);
  CHECK(n == strlen(kText));
  CHECK_OK(glimpse_detokenize(model, NULL, 0, 0, text, sizeof text, &n));
  CHECK(n == 0);
  typed[0] = 320;
  CHECK_FAILS(glimpse_detokenize(model, typed, 1, 0, text, sizeof text, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);

  CHECK_OK(glimpse_find_token(model, "<|im_end|>", &id));
  CHECK(id == 290);
  CHECK_FAILS(glimpse_find_token(model, "<|no such|>", &id), GLIMPSE_ERROR_NOT_FOUND);
  CHECK_ERROR_HAS("<|no such|>");
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_token_get_info(model, 290, &info));
  CHECK(info.type == GLIMPSE_TOKEN_CONTROL && info.ends_answer == 1);
  CHECK_OK(glimpse_token_get_info(model, 297, &info));
  CHECK(info.type == GLIMPSE_TOKEN_CONTROL && info.ends_answer == 0);
  CHECK_OK(glimpse_token_get_info(model, 65, &info));
  CHECK(info.type == GLIMPSE_TOKEN_NORMAL && info.ends_answer == 0);
  CHECK_FAILS(glimpse_token_get_info(model, 320, &info), GLIMPSE_ERROR_INVALID_ARGUMENT);
  begin_info(&facts, sizeof facts);
  CHECK_OK(glimpse_model_get_info(model, &facts));
  CHECK(facts.eos_token == 290 || facts.eos_token == 288);
  glimpse_model_free(model);
}

static void tells_every_key_of_its_files(void) {
  glimpse_model* model = load_tiny(1);
  const char *text = NULL, *key = NULL, *last = "";
  size_t n = 0, i;
  CHECK_OK(glimpse_model_metadata(model, GLIMPSE_FILE_MODEL, "general.architecture", &text, &n));
  CHECK_TEXT(text, "qwen2vl");
  CHECK(n == 7);
  CHECK_OK(glimpse_model_metadata(model, GLIMPSE_FILE_MODEL, "qwen2vl.context_length", &text, &n));
  CHECK_TEXT(text, "512");
  CHECK_OK(glimpse_model_metadata(model, GLIMPSE_FILE_MODEL, "tokenizer.ggml.tokens", &text, &n));
  CHECK(n > 320 && text[0] == '[' && text[1] == '"' && strstr(text, "\"<|im_end|>\", ") != NULL);
  CHECK_OK(glimpse_model_metadata(model, GLIMPSE_FILE_MMPROJ, "clip.has_vision_encoder", &text, &n));
  CHECK_TEXT(text, "true");
  CHECK_FAILS(glimpse_model_metadata(model, GLIMPSE_FILE_MODEL, "no.such.key", &text, &n), GLIMPSE_ERROR_NOT_FOUND);
  CHECK(text == NULL);
  CHECK_FAILS(glimpse_model_metadata(model, 2, "general.architecture", &text, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  for (i = 0; glimpse_model_metadata_key(model, GLIMPSE_FILE_MODEL, i, &key) == GLIMPSE_OK; ++i) {
    CHECK(strcmp(last, key) < 0);
    CHECK_OK(glimpse_model_metadata(model, GLIMPSE_FILE_MODEL, key, &text, &n));
    CHECK(strlen(text) == n || strstr(key, "tokens") != NULL);
    last = key;
  }
  CHECK(i > 10 && key == NULL);
  glimpse_model_free(model);

  model = load_tiny(0);
  CHECK_FAILS(glimpse_model_metadata_key(model, GLIMPSE_FILE_MMPROJ, 0, &key), GLIMPSE_ERROR_NOT_FOUND);
  glimpse_model_free(model);
}

static glimpse_shape shape_at(const glimpse_shapes* shapes, size_t i) {
  glimpse_shape shape;
  begin_info(&shape, sizeof shape);
  CHECK_OK(glimpse_shapes_get(shapes, i, &shape));
  return shape;
}

static glimpse_shapes* read_text(const glimpse_model* model, const char* text, const glimpse_picture_size* pictures,
                                 size_t n, glimpse_shapes_info* info) {
  glimpse_shapes* shapes = NULL;
  CHECK_OK(glimpse_read_shapes(model, text, strlen(text), pictures, n, &shapes));
  memset(info, 0, sizeof *info);
  info->struct_size = sizeof *info;
  CHECK_OK(glimpse_shapes_get_info(shapes, info));
  return shapes;
}

static void reads_shapes_in_thousandths(void) {
  glimpse_model* model = load_tiny(1);
  const glimpse_picture_size pictures[2] = {{640, 480, 644, 476}, {100, 50, 112, 56}};
  glimpse_shapes_info info;
  glimpse_shape shape;
  glimpse_shapes* shapes = read_text(model,
                                     "<|object_ref_start|>star<|object_ref_end|><|box_start|>(100,250),(500,1000)"
                                     "<|box_end|> Picture 2: {\"point_2d\": [500, 500]} <|box_start|>(1,",
                                     pictures, 2, &info);
  CHECK(info.n_shapes == 2 && info.n_unreadable == 0 && info.cut == 1);
  CHECK(strstr(info.problem, "in the middle") != NULL);
  shape = shape_at(shapes, 0);
  CHECK(shape.kind == GLIMPSE_SHAPE_BOX && shape.unit == GLIMPSE_UNIT_THOUSANDTHS && shape.picture == 0);
  CHECK(shape.n_points == 2 && shape.said[0] == 100 && shape.said[3] == 1000 && shape.pixels == NULL);
  CHECK_TEXT(shape.label, "star");
  CHECK(shape.n_label_bytes == 4);
  shape = shape_at(shapes, 1);
  CHECK(shape.kind == GLIMPSE_SHAPE_POINT && shape.picture == 2 && shape.n_points == 1);
  CHECK(shape.pixels != NULL && shape.pixels[0] == 50 && shape.pixels[1] == 25);
  CHECK_TEXT(shape.label, "");
  CHECK_FAILS(glimpse_shapes_get(shapes, 2, &shape), GLIMPSE_ERROR_NOT_FOUND);
  glimpse_shapes_free(shapes);

  shapes = read_text(model, "<|box_start|>(100,250),(500,1000)<|box_end|>", pictures, 1, &info);
  CHECK(info.n_shapes == 1 && info.cut == 0);
  CHECK_TEXT(info.problem, "");
  shape = shape_at(shapes, 0);
  CHECK(shape.picture == 1 && shape.pixels != NULL && shape.pixels[0] == 64 && shape.pixels[3] == 480);
  glimpse_shapes_free(shapes);
  shapes = read_text(model, "<|box_start|>(100,250),(500,1000)<|box_end|>", NULL, 1, &info);
  CHECK(shape_at(shapes, 0).picture == 1 && shape_at(shapes, 0).pixels == NULL);
  glimpse_shapes_free(shapes);
  shapes = read_text(model, "", pictures, 1, &info);
  CHECK(info.n_shapes == 0);
  glimpse_shapes_free(shapes);
  glimpse_model_free(model);
}

/* Qwen2.5-VL means pixels of the resized picture. */
static void reads_shapes_in_pixels(void) {
  glimpse_model_params params;
  glimpse_model* model = NULL;
  const glimpse_picture_size picture = {1000, 500, 500, 250};
  glimpse_shapes_info info;
  glimpse_shapes* shapes;
  glimpse_shape shape;
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = test_path("golden/qwen25vl/model.gguf");
  params.mmproj_path = test_path("golden/qwen25vl/mmproj.gguf");
  if (!CHECK_OK(glimpse_model_load(&params, &model))) return;
  shapes = read_text(model, "[{\"bbox_2d\": [10, 20, 500, 250], \"label\": \"x\"}]", &picture, 1, &info);
  shape = shape_at(shapes, 0);
  CHECK(shape.unit == GLIMPSE_UNIT_RESIZED_PIXELS && shape.said[0] == 10);
  CHECK(shape.pixels[0] == 20 && shape.pixels[1] == 40 && shape.pixels[2] == 1000 && shape.pixels[3] == 500);
  glimpse_shapes_free(shapes);
  glimpse_model_free(model);
}

static void shape_calls_refuse_nonsense(void) {
  glimpse_model* model = load_tiny(0);
  const glimpse_picture_size none = {0, 0, 0, 0};
  glimpse_shapes* shapes = NULL;
  glimpse_shapes_info info;
  glimpse_shape shape;
  CHECK_FAILS(glimpse_read_shapes(NULL, "a", 1, NULL, 0, &shapes), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_read_shapes(model, NULL, 1, NULL, 0, &shapes), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_read_shapes(model, "a", 1, NULL, 0, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_read_shapes(model, "a", 1, &none, 1, &shapes), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK(shapes == NULL);
  CHECK_OK(glimpse_read_shapes(model, NULL, 0, NULL, 0, &shapes));
  info.struct_size = 0;
  CHECK_FAILS(glimpse_shapes_get_info(shapes, &info), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_shapes_get_info(NULL, &info), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_shapes_get(NULL, 0, &shape), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_shapes_get(shapes, 0, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_shapes_free(shapes);
  glimpse_shapes_free(NULL);
  glimpse_model_free(model);
}

int main(void) {
  versions_and_names();
  loads_and_tells_facts();
  cancelling_a_load_leaves_nothing();
  refuses_files_that_do_not_fit();
  tokenizes();
  tokenizes_as_asked();
  tells_every_key_of_its_files();
  reads_shapes_in_thousandths();
  reads_shapes_in_pixels();
  shape_calls_refuse_nonsense();
  return check_result("model_test");
}
