/* NULL everywhere, and parameter structs of other sizes: of an older program, of a newer one, and not set at all. */
#include "support.h"

#define INVALID GLIMPSE_ERROR_INVALID_ARGUMENT

/* Any address that is not NULL: what *out holds before a call that fails. */
static char g_marker;
#define MARKED(type) ((type*)(void*)&g_marker)

typedef struct Fixture {
  glimpse_model* model;
  glimpse_session* session;
  glimpse_embedding* embedding;
  glimpse_part part;
  glimpse_message message;
  glimpse_generate_params params;
} Fixture;

static void model_calls_refuse_null(const Fixture* f) {
  glimpse_model_params params;
  glimpse_model* model = MARKED(glimpse_model);
  glimpse_model_info info;
  int32_t ids[4];
  size_t n = 9;
  const char* bytes = "kept";

  glimpse_model_params_init(NULL, sizeof(size_t));
  glimpse_session_params_init(NULL, sizeof(size_t));
  glimpse_generate_params_init(NULL, sizeof(size_t));
  CHECK_FAILS(glimpse_model_load(NULL, &model), INVALID);
  CHECK(model == NULL);
  glimpse_model_params_init(&params, sizeof params);
  model = MARKED(glimpse_model);
  CHECK_FAILS(glimpse_model_load(&params, &model), INVALID); /* no path */
  CHECK(model == NULL);
  params.model_path = test_path("golden/tied/model.gguf");
  CHECK_FAILS(glimpse_model_load(&params, NULL), INVALID);

  info.struct_size = sizeof info;
  CHECK_FAILS(glimpse_model_get_info(NULL, &info), INVALID);
  CHECK_FAILS(glimpse_model_get_info(f->model, NULL), INVALID);
  CHECK_FAILS(glimpse_tokenize(NULL, "a", 1, ids, 4, &n), INVALID);
  CHECK_FAILS(glimpse_tokenize(f->model, NULL, 1, ids, 4, &n), INVALID);
  CHECK_FAILS(glimpse_tokenize(f->model, "a", 1, NULL, 4, &n), INVALID);
  CHECK_FAILS(glimpse_tokenize(f->model, "a", 1, ids, 4, NULL), INVALID);
  CHECK_FAILS(glimpse_token_bytes(NULL, 0, &bytes, &n), INVALID);
  CHECK_FAILS(glimpse_token_bytes(f->model, 0, NULL, &n), INVALID);
  CHECK_FAILS(glimpse_token_bytes(f->model, 0, &bytes, NULL), INVALID);
}

static void session_calls_refuse_null(const Fixture* f) {
  glimpse_session_params params = tiny_session_params();
  glimpse_session* session = MARKED(glimpse_session);
  glimpse_memory_plan plan;
  glimpse_message message = f->message;
  glimpse_part part = f->part;
  glimpse_generate_params generate;
  glimpse_answer_info answer;
  glimpse_timings timings;
  glimpse_step_result step;
  const char* stop[1] = {NULL};
  const float* logits = NULL;
  float logprob;
  int32_t id, before = glimpse_session_n_past(f->session);
  size_t n;
  plan.struct_size = sizeof plan;
  answer.struct_size = sizeof answer;
  timings.struct_size = sizeof timings;
  step.struct_size = sizeof step;

  CHECK_FAILS(glimpse_session_create(NULL, &params, &session), INVALID);
  CHECK(session == NULL);
  session = MARKED(glimpse_session);
  CHECK_FAILS(glimpse_session_create(f->model, NULL, &session), INVALID);
  CHECK(session == NULL);
  CHECK_FAILS(glimpse_session_create(f->model, &params, NULL), INVALID);
  CHECK_FAILS(glimpse_plan_session(NULL, &params, &plan), INVALID);
  CHECK_FAILS(glimpse_plan_session(f->model, NULL, &plan), INVALID);
  CHECK_FAILS(glimpse_plan_session(f->model, &params, NULL), INVALID);
  CHECK_FAILS(glimpse_session_reset(NULL), INVALID);
  CHECK(glimpse_session_n_past(NULL) == 0);
  CHECK(glimpse_session_n_ctx(NULL) == 0);

  CHECK_FAILS(glimpse_generate(NULL, &message, 1, &f->params), INVALID);
  CHECK_FAILS(glimpse_generate(f->session, NULL, 1, &f->params), INVALID);
  CHECK_FAILS(glimpse_generate(f->session, &message, 1, NULL), INVALID);
  CHECK_FAILS(glimpse_prefill(NULL, &message, 1, NULL, NULL), INVALID);
  CHECK_FAILS(glimpse_prefill(f->session, NULL, 1, NULL, NULL), INVALID);
  CHECK_FAILS(glimpse_prefill(f->session, NULL, 0, NULL, NULL), INVALID);
  message.role = NULL;
  CHECK_FAILS(glimpse_generate(f->session, &message, 1, &f->params), INVALID);
  message = f->message;
  message.parts = NULL;
  CHECK_FAILS(glimpse_prefill(f->session, &message, 1, NULL, NULL), INVALID);
  message = f->message;
  part.text = NULL;
  message.parts = &part;
  CHECK_FAILS(glimpse_prefill(f->session, &message, 1, NULL, NULL), INVALID);
  generate = f->params;
  generate.n_stop = 1;
  CHECK_FAILS(glimpse_generate(f->session, &f->message, 1, &generate), INVALID);
  generate.stop = stop;
  CHECK_FAILS(glimpse_generate(f->session, &f->message, 1, &generate), INVALID);
  generate = f->params;
  generate.n_logit_bias = 1;
  CHECK_FAILS(glimpse_generate(f->session, &f->message, 1, &generate), INVALID);

  CHECK_FAILS(glimpse_begin_answer(NULL, &f->params), INVALID);
  CHECK_FAILS(glimpse_begin_answer(f->session, NULL), INVALID);
  CHECK_FAILS(glimpse_begin_answer(f->session, &f->params), INVALID); /* nothing was asked */
  CHECK_FAILS(glimpse_step(NULL, &step), INVALID);
  CHECK_FAILS(glimpse_step(f->session, &step), INVALID); /* nothing has begun */
  CHECK_FAILS(glimpse_get_answer(NULL, &answer), INVALID);
  CHECK_FAILS(glimpse_get_answer(f->session, NULL), INVALID);
  CHECK_FAILS(glimpse_get_top_logprobs(NULL, 0, &id, &logprob, 1, &n), INVALID);
  CHECK_FAILS(glimpse_get_top_logprobs(f->session, 0, &id, &logprob, 1, NULL), INVALID);
  CHECK_FAILS(glimpse_get_logits(NULL, &logits, &n), INVALID);
  CHECK_FAILS(glimpse_get_logits(f->session, NULL, &n), INVALID);
  CHECK_FAILS(glimpse_get_logits(f->session, &logits, NULL), INVALID);
  CHECK_FAILS(glimpse_get_timings(NULL, &timings), INVALID);
  CHECK_FAILS(glimpse_get_timings(f->session, NULL), INVALID);
  CHECK(glimpse_session_n_past(f->session) == before);
}

static void embedding_calls_refuse_null(const Fixture* f) {
  glimpse_embedding* out = MARKED(glimpse_embedding);
  glimpse_embedding_info info;
  const uint8_t rgb[3] = {1, 2, 3};
  char byte;
  size_t n;
  info.struct_size = sizeof info;

  CHECK_FAILS(glimpse_encode_image_bytes(NULL, "x", 1, NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_encode_image_bytes(f->session, NULL, 1, NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  CHECK_FAILS(glimpse_encode_image_bytes(f->session, "x", 1, NULL, NULL, NULL), INVALID);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_encode_image_file(NULL, "x", NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_encode_image_file(f->session, NULL, NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  CHECK_FAILS(glimpse_encode_image_file(f->session, "x", NULL, NULL, NULL), INVALID);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_encode_image_rgb(NULL, rgb, 1, 1, 0, NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_encode_image_rgb(f->session, NULL, 1, 1, 0, NULL, NULL, &out), INVALID);
  CHECK(out == NULL);
  CHECK_FAILS(glimpse_encode_image_rgb(f->session, rgb, 1, 1, 0, NULL, NULL, NULL), INVALID);

  CHECK_FAILS(glimpse_embedding_get_info(NULL, &info), INVALID);
  CHECK_FAILS(glimpse_embedding_get_info(f->embedding, NULL), INVALID);
  CHECK_FAILS(glimpse_embedding_save(NULL, NULL, 0, &n), INVALID);
  CHECK_FAILS(glimpse_embedding_save(f->embedding, NULL, 0, NULL), INVALID);
  CHECK_FAILS(glimpse_embedding_save(f->embedding, NULL, 1 << 20, &n), INVALID);
  out = MARKED(glimpse_embedding);
  CHECK_FAILS(glimpse_embedding_load(NULL, 1, &out), INVALID);
  CHECK(out == NULL);
  CHECK_FAILS(glimpse_embedding_load(&byte, 0, NULL), INVALID);
}

/* struct_size not set (0, or what happened to lie there). */
static void unset_sizes_are_refused(const Fixture* f) {
  static const size_t kSizes[] = {0, 1, sizeof(size_t) - 1, ((size_t)1 << 16) + 1, (size_t)-1};
  size_t i;
  for (i = 0; i < sizeof kSizes / sizeof kSizes[0]; ++i) {
    glimpse_model_params model_params;
    glimpse_session_params session_params = tiny_session_params();
    glimpse_generate_params generate_params = f->params;
    glimpse_model* model = MARKED(glimpse_model);
    glimpse_session* session = MARKED(glimpse_session);
    glimpse_model_info model_info;
    glimpse_memory_plan plan;
    glimpse_embedding_info embedding_info;
    glimpse_answer_info answer;
    glimpse_timings timings;
    glimpse_step_result step;
    glimpse_model_params_init(&model_params, sizeof model_params);
    model_params.model_path = test_path("golden/tied/model.gguf");
    model_params.struct_size = session_params.struct_size = generate_params.struct_size = kSizes[i];
    model_info.struct_size = plan.struct_size = embedding_info.struct_size = kSizes[i];
    answer.struct_size = timings.struct_size = step.struct_size = kSizes[i];
    CHECK_FAILS(glimpse_model_load(&model_params, &model), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK(model == NULL);
    CHECK_FAILS(glimpse_session_create(f->model, &session_params, &session), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK(session == NULL);
    CHECK_FAILS(glimpse_generate(f->session, &f->message, 1, &generate_params), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_begin_answer(f->session, &generate_params), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_model_get_info(f->model, &model_info), INVALID);
    CHECK_ERROR_HAS("struct_size");
    session_params = tiny_session_params();
    CHECK_FAILS(glimpse_plan_session(f->model, &session_params, &plan), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_embedding_get_info(f->embedding, &embedding_info), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_get_answer(f->session, &answer), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_get_timings(f->session, &timings), INVALID);
    CHECK_ERROR_HAS("struct_size");
    CHECK_FAILS(glimpse_step(f->session, &step), INVALID);
    CHECK_ERROR_HAS("struct_size");
  }
}

/* The structs as a program knew them before they grew. On the heap, so that reading too far is seen. */
typedef struct OldModelParams {
  size_t struct_size;
  const char* model_path;
  const char* mmproj_path;
} OldModelParams;
typedef struct OldSessionParams {
  size_t struct_size;
  int32_t n_threads;
  int32_t n_ctx;
} OldSessionParams;
typedef struct OldGenerateParams {
  size_t struct_size;
  int32_t max_tokens;
  float temperature;
} OldGenerateParams;
typedef struct OldModelInfo {
  size_t struct_size;
  const char* architecture;
} OldModelInfo;
typedef struct OldTimings {
  size_t struct_size;
  double image_decode_ms, image_resize_ms;
} OldTimings;

static void older_programs_still_work(const Fixture* f) {
  OldModelParams* model_params = malloc(sizeof *model_params);
  OldSessionParams* session_params = malloc(sizeof *session_params);
  OldGenerateParams* generate_params = malloc(sizeof *generate_params);
  OldModelInfo* info = malloc(sizeof *info);
  OldTimings* timings = malloc(sizeof *timings);
  glimpse_model* model = NULL;
  glimpse_session* session = NULL;
  glimpse_step_result step;
  if (!model_params || !session_params || !generate_params || !info || !timings) exit(1);
  glimpse_model_params_init((glimpse_model_params*)(void*)model_params, sizeof *model_params);
  model_params->model_path = test_path("golden/tied/model.gguf");
  model_params->mmproj_path = NULL;
  if (CHECK_OK(glimpse_model_load((const glimpse_model_params*)(void*)model_params, &model))) {
    info->struct_size = sizeof *info;
    info->architecture = NULL;
    CHECK_OK(glimpse_model_get_info(model, (glimpse_model_info*)(void*)info));
    CHECK_TEXT(info->architecture, "qwen2vl");
    CHECK(info->struct_size == sizeof *info);

    glimpse_session_params_init((glimpse_session_params*)(void*)session_params, sizeof *session_params);
    session_params->n_threads = 1;
    session_params->n_ctx = 256;
    CHECK_OK(glimpse_session_create(model, (const glimpse_session_params*)(void*)session_params, &session));
    glimpse_generate_params_init((glimpse_generate_params*)(void*)generate_params, sizeof *generate_params);
    generate_params->max_tokens = 3;
    generate_params->temperature = 0;
    CHECK_OK(glimpse_generate(session, &f->message, 1, (const glimpse_generate_params*)(void*)generate_params));
    CHECK(read_answer(session).n_tokens >= 1 && read_answer(session).n_tokens <= 3);
    timings->struct_size = sizeof *timings;
    CHECK_OK(glimpse_get_timings(session, (glimpse_timings*)(void*)timings));
    CHECK(timings->struct_size == sizeof *timings && timings->image_decode_ms == 0);

    /* A step of which only the token is wanted. */
    CHECK_OK(glimpse_session_reset(session));
    CHECK_OK(glimpse_prefill(session, &f->message, 1, NULL, NULL));
    CHECK_OK(glimpse_begin_answer(session, (const glimpse_generate_params*)(void*)generate_params));
    memset(&step, 0x55, sizeof step);
    step.struct_size = offsetof(glimpse_step_result, logprob);
    CHECK_OK(glimpse_step(session, &step));
    CHECK(step.token >= 0 && step.token < 320);
    CHECK(step.finish_reason == 0x55555555);
  }
  free(model_params);
  free(session_params);
  free(generate_params);
  free(info);
  free(timings);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

/* Nothing is written behind the struct of an older program, nothing is left as it lay there in that of a newer one. */
static void parameters_begin_in_the_callers_size(void) {
  const size_t known = glimpse_session_params_init(NULL, 0);
  const size_t sizes[] = {sizeof(OldSessionParams), known, known + 32};
  size_t i, k;
  CHECK(known == sizeof(glimpse_session_params));
  for (i = 0; i < 3; ++i) {
    glimpse_session_params whole;
    unsigned char* params = malloc(sizes[i]);
    if (params == NULL) exit(1);
    memset(params, 0x55, sizes[i]);
    memset(&whole, 0x55, sizeof whole);
    CHECK(glimpse_session_params_init((glimpse_session_params*)(void*)params, sizeof(size_t) - 1) == known);
    CHECK(glimpse_session_params_init((glimpse_session_params*)(void*)params, ((size_t)1 << 16) + 1) == known);
    for (k = 0; k < sizes[i]; ++k) CHECK(params[k] == 0x55);
    CHECK(glimpse_session_params_init((glimpse_session_params*)(void*)params, sizes[i]) == known);
    glimpse_session_params_init(&whole, sizeof whole);
    whole.struct_size = sizes[i];
    CHECK(memcmp(params, &whole, sizes[i] < known ? sizes[i] : known) == 0);
    for (k = known; k < sizes[i]; ++k) CHECK(params[k] == 0);
    free(params);
  }
}

/* A program built with a later header: results that this library does not know are left alone, parameters are refused
 * where they ask for something. */
static void newer_programs_work(const Fixture* f) {
  struct {
    glimpse_model_info known;
    uint64_t unknown[4];
  } info;
  struct {
    glimpse_session_params known;
    uint64_t unknown[4];
  } params;
  glimpse_session* session = NULL;
  memset(&info, 0x55, sizeof info);
  info.known.struct_size = sizeof info;
  CHECK_OK(glimpse_model_get_info(f->model, &info.known));
  CHECK(info.known.vocab_size == 320);
  CHECK(info.unknown[0] == UINT64_C(0x5555555555555555) && info.unknown[3] == UINT64_C(0x5555555555555555));
  memset(&params, 0, sizeof params);
  params.known = tiny_session_params();
  params.known.struct_size = sizeof params;
  CHECK_OK(glimpse_session_create(f->model, &params.known, &session));
  glimpse_session_free(session);
  params.unknown[3] = UINT64_C(1) << 40;
  CHECK_FAILS(glimpse_session_create(f->model, &params.known, &session), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("newer");
  CHECK(session == NULL);
}

/* A step whose result has no place must not advance the answer. */
static void a_refused_step_takes_no_token(const Fixture* f) {
  glimpse_step_result step;
  glimpse_generate_params params = f->params;
  Answer whole, stepped;
  CHECK_OK(glimpse_session_reset(f->session));
  CHECK_OK(glimpse_generate(f->session, &f->message, 1, &params));
  whole = read_answer(f->session);
  CHECK_OK(glimpse_session_reset(f->session));
  CHECK_OK(glimpse_prefill(f->session, &f->message, 1, NULL, NULL));
  CHECK_OK(glimpse_begin_answer(f->session, &params));
  do {
    CHECK_FAILS(glimpse_step(f->session, NULL), INVALID);
    step.struct_size = 0;
    CHECK_FAILS(glimpse_step(f->session, &step), INVALID);
    step.struct_size = sizeof step;
    if (!CHECK_OK(glimpse_step(f->session, &step))) break;
  } while (step.finish_reason == GLIMPSE_FINISH_NONE);
  stepped = read_answer(f->session);
  CHECK(same_answer(&whole, &stepped));
}

int main(void) {
  Fixture f;
  uint8_t* rgb = make_rgb(28, 28);
  memset(&f, 0, sizeof f);
  f.model = load_tiny(1);
  f.session = create_tiny(f.model);
  CHECK_OK(glimpse_encode_image_rgb(f.session, rgb, 28, 28, 0, NULL, NULL, &f.embedding));
  f.part = text_part("what is 7?");
  f.message = user_message(&f.part, 1);
  f.params = tiny_generate_params();

  model_calls_refuse_null(&f);
  session_calls_refuse_null(&f);
  embedding_calls_refuse_null(&f);
  unset_sizes_are_refused(&f);
  older_programs_still_work(&f);
  parameters_begin_in_the_callers_size();
  newer_programs_work(&f);
  a_refused_step_takes_no_token(&f);

  free(rgb);
  glimpse_embedding_free(f.embedding);
  glimpse_session_free(f.session);
  glimpse_model_free(f.model);
  return check_result("arguments_test");
}
