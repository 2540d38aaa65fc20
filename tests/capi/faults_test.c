/* A host whose memory runs out at any point: every allocation of every call fails once, alone and with all after it.
 * Every call is then an error value, leaves its objects as they were, and works when it is tried again. */
#include "allocation_faults.h"
#include "support.h"

/* Out of memory or, where the library could do without, not failed at all. */
static int check_outcome(glimpse_status status, const char* call, long number, int sticky) {
  if (status == GLIMPSE_OK || status == GLIMPSE_ERROR_OUT_OF_MEMORY) return 1;
  fprintf(stderr, "%s, allocation %ld%s fails: ", call, number, sticky ? " and all after it" : "");
  return check_status(status, GLIMPSE_ERROR_OUT_OF_MEMORY, call, __FILE__, __LINE__);
}

static glimpse_model_params model_params(int n_threads) {
  glimpse_model_params params;
  glimpse_model_params_init(&params, sizeof params);
  params.model_path = test_path("golden/tied/model.gguf");
  params.mmproj_path = test_path("golden/tied/mmproj.gguf");
  params.n_threads = n_threads;
  return params;
}

static void a_load(int n_threads, int sticky) {
  const glimpse_model_params params = model_params(n_threads);
  glimpse_model* model = NULL;
  long number, total;
  arm_allocation_faults(0, 0);
  CHECK_OK(glimpse_model_load(&params, &model));
  total = disarm_allocation_faults();
  glimpse_model_free(model);
  CHECK(total > 100);
  for (number = 1; number <= total; ++number) {
    glimpse_status status;
    arm_allocation_faults(number, sticky);
    status = glimpse_model_load(&params, &model);
    disarm_allocation_faults();
    if (!check_outcome(status, "a load", number, sticky)) return;
    CHECK((status == GLIMPSE_OK) == (model != NULL));
    glimpse_model_free(model);
  }
  CHECK_OK(glimpse_model_load(&params, &model));
  glimpse_model_free(model);
}

/* What a host does with a loaded model. Every function below makes one call, which may fail. */
typedef struct Host {
  const glimpse_model* model;
  glimpse_session* session;
  glimpse_session* fork;
  glimpse_checkpoint* checkpoint;
  unsigned char* state;
  size_t n_state;
  const char* file;
  glimpse_encoder* encoder;
  glimpse_embedding* embedding;
  const char* picture;
  int n_threads;
  glimpse_step_result step;
} Host;

static glimpse_status create(Host* host) {
  glimpse_session_params params = tiny_session_params();
  params.n_threads = host->n_threads;
  params.n_speculate = 2;
  params.draft_model = host->model; /* where prompt lookup has nothing */
  params.n_draft = 3;
  params.draft_min_probability = 1e-9f;
  return glimpse_session_create(host->model, &params, &host->session);
}

static glimpse_status encode(Host* host) {
  return glimpse_encode_image_file(host->session, host->picture, NULL, NULL, &host->embedding);
}

static glimpse_status create_encoder(Host* host) {
  glimpse_encoder_params params;
  glimpse_encoder_params_init(&params, sizeof params);
  params.n_threads = host->n_threads;
  params.image_min_tokens = 1;
  params.image_max_tokens = 64;
  return glimpse_encoder_create(host->model, &params, &host->encoder);
}

/* Two small pictures that share a pass, and one more; what they become is thrown away. */
static glimpse_status encode_three(Host* host) {
  static uint8_t rgb[3 * 84 * 56];
  glimpse_picture pictures[3];
  glimpse_embedding* out[3];
  glimpse_status status;
  int i;
  memset(pictures, 0, sizeof pictures);
  for (i = 0; i < 2; ++i) {
    pictures[i].rgb = rgb;
    pictures[i].width = 84;
    pictures[i].height = 28 + 28 * i;
  }
  pictures[2].path = host->picture;
  status = glimpse_encoder_encode(host->encoder, pictures, 3, NULL, NULL, out);
  for (i = 0; i < 3; ++i) {
    CHECK((out[i] != NULL) == (status == GLIMPSE_OK));
    glimpse_embedding_free(out[i]);
  }
  return status;
}

static glimpse_generate_params answer_params(void) {
  static const char* const stop[] = {"zzz"};
  static const glimpse_logit_bias endless[2] = {{288, -INFINITY}, {290, -INFINITY}};
  glimpse_generate_params params = tiny_generate_params();
  params.max_tokens = 6;
  params.temperature = 1;
  params.seed = 5;
  params.repetition_penalty = 1.1f;
  params.penalty_last_n = 4;
  params.n_top_logprobs = 2;
  params.stop = stop;
  params.n_stop = 1;
  params.logit_bias = endless;
  params.n_logit_bias = 2;
  return params;
}

static glimpse_status ask(Host* host, const char* text, int with_picture) {
  const glimpse_generate_params params = answer_params();
  glimpse_part parts[2];
  const glimpse_message message = user_message(parts, with_picture ? 2 : 1);
  parts[0] = text_part(text);
  parts[1] = picture_part(host->embedding);
  return glimpse_generate(host->session, &message, 1, &params);
}

static glimpse_status ask_first(Host* host) {
  return ask(host, "what is this", 1);
}
static glimpse_status ask_second(Host* host) {
  return ask(host, "and the cat 7?", 0);
}
static glimpse_status go_on(Host* host) {
  const glimpse_generate_params params = answer_params();
  return glimpse_generate(host->session, NULL, 0, &params);
}

static glimpse_status prefill(Host* host) {
  const glimpse_part part = text_part("and the dog?");
  const glimpse_message message = user_message(&part, 1);
  return glimpse_prefill(host->session, &message, 1, NULL, NULL);
}
static glimpse_status begin(Host* host) {
  const glimpse_generate_params params = answer_params();
  return glimpse_begin_answer(host->session, &params);
}
static glimpse_status step(Host* host) {
  memset(&host->step, 0, sizeof host->step);
  host->step.struct_size = sizeof host->step;
  return glimpse_step(host->session, &host->step);
}

static glimpse_status fork_it(Host* host) {
  return glimpse_session_fork(host->session, &host->fork);
}
static glimpse_status keep(Host* host) {
  return glimpse_session_checkpoint(host->session, &host->checkpoint);
}
static glimpse_status back(Host* host) {
  return glimpse_session_rewind(host->session, host->checkpoint);
}
static glimpse_status feed(Host* host) {
  memset(&host->step, 0, sizeof host->step);
  host->step.struct_size = sizeof host->step;
  return glimpse_feed(host->session, 20, &host->step);
}
static glimpse_status forward(Host* host) {
  return glimpse_forward(host->session);
}
/* Both from where the checkpoint was: a try that failed in one has made the step of the other. */
static glimpse_status step_both(Host* host) {
  const glimpse_generate_params params = answer_params();
  glimpse_session* both[2];
  glimpse_step_result results[2];
  glimpse_status status = GLIMPSE_OK;
  int i;
  both[0] = host->session;
  both[1] = host->fork;
  memset(results, 0, sizeof results);
  results[0].struct_size = results[1].struct_size = sizeof results[0];
  for (i = 0; i < 2 && status == GLIMPSE_OK; ++i) {
    status = glimpse_session_rewind(both[i], host->checkpoint);
    if (status == GLIMPSE_OK) status = glimpse_begin_answer(both[i], &params);
  }
  if (status != GLIMPSE_OK) return status;
  status = glimpse_step_many(both, 2, results);
  if (status == GLIMPSE_OK) {
    CHECK(results[0].status == GLIMPSE_OK && results[1].status == GLIMPSE_OK);
    CHECK(results[0].token == results[1].token);
  }
  return status;
}
static glimpse_status save(Host* host) {
  return glimpse_session_save(host->session, host->state, host->n_state, &host->n_state);
}
static glimpse_status load(Host* host) {
  return glimpse_session_load(host->session, host->state, host->n_state);
}
static glimpse_status save_file(Host* host) {
  return glimpse_session_save_file(host->session, host->file);
}
static glimpse_status load_file(Host* host) {
  return glimpse_session_load_file(host->session, host->file);
}

typedef glimpse_status (*Call)(Host*);

/* What a call of those that make something has made, away again. Returns 0 for the others. */
static int take_back(Host* host, Call call) {
  if (call == create)
    glimpse_session_free(host->session), host->session = NULL;
  else if (call == fork_it)
    glimpse_session_free(host->fork), host->fork = NULL;
  else if (call == keep)
    glimpse_checkpoint_free(host->checkpoint), host->checkpoint = NULL;
  else if (call == create_encoder)
    glimpse_encoder_free(host->encoder), host->encoder = NULL;
  else if (call == encode)
    glimpse_embedding_free(host->embedding), host->embedding = NULL;
  else
    return 0;
  return 1;
}

/* The call with its first allocation failing, its second, ... until none is left to fail: each time as if it had not
 * been made. The next try is made at once, on the same session. */
static void make_it_fail(Host* host, Call call, const char* name, int sticky) {
  const int32_t before = host->session == NULL ? 0 : glimpse_session_n_past(host->session);
  long number;
  for (number = 1;; ++number) {
    glimpse_status status;
    int hit;
    arm_allocation_faults(number, sticky);
    status = call(host);
    hit = disarm_allocation_faults() >= number;
    if (!check_outcome(status, name, number, sticky) || !hit) return;
    if (status != GLIMPSE_OK) {
      /* The pass of a step need not be undone: the token that it was made for has its slot, and the next try goes on.
       */
      if (host->session != NULL && call != step_both) {
        CHECK(glimpse_session_n_past(host->session) <= before + (call == step));
      }
    } else if (!take_back(host, call)) { /* it could do without that allocation */
      return;
    }
  }
}

/* One conversation. faulty: every call is made to fail first. */
static void talk(Host* host, int faulty, int sticky, Answer answers[4]) {
  static const struct {
    Call call;
    const char* name;
    int answer; /* the number of the answer that is there afterwards, or -1 */
  } kCalls[] = {{create, "create", -1},         {encode, "encode", -1},   {ask_first, "ask", 0},
                {ask_second, "ask again", 1},   {go_on, "go on", 2},      {prefill, "prefill", -1},
                {begin, "begin an answer", -1}, {step, "first step", -1}, {step, "second step", -1}};
  size_t i;
  for (i = 0; i < sizeof kCalls / sizeof kCalls[0]; ++i) {
    if (faulty) {
      make_it_fail(host, kCalls[i].call, kCalls[i].name, sticky);
    } else {
      CHECK_OK(kCalls[i].call(host));
    }
    if (kCalls[i].answer >= 0) answers[kCalls[i].answer] = read_answer(host->session);
  }
  do {
    if (faulty) {
      make_it_fail(host, step, "a step", sticky);
    } else {
      CHECK_OK(step(host));
    }
  } while (host->step.finish_reason == GLIMPSE_FINISH_NONE);
  answers[3] = read_answer(host->session);
  glimpse_embedding_free(host->embedding);
  glimpse_session_free(host->session);
  host->embedding = NULL;
  host->session = NULL;
}

static void a_conversation(int n_threads) {
  glimpse_model* model = load_tiny(1);
  Host host;
  Answer* want = calloc(4, sizeof *want);
  Answer* got = calloc(4, sizeof *got);
  int sticky, i;
  if (want == NULL || got == NULL) exit(1);
  memset(&host, 0, sizeof host);
  host.model = model;
  host.picture = test_path("../models/sample.png");
  host.n_threads = n_threads;
  talk(&host, 0, 0, want);
  CHECK(want[0].n_tokens == 6 && want[3].n_tokens == 6);
  for (sticky = 0; sticky <= 1; ++sticky) {
    talk(&host, 1, sticky, got);
    for (i = 0; i < 4; ++i) CHECK(same_answer(&want[i], &got[i]));
  }
  free(got);
  free(want);
  glimpse_model_free(model);
}

/* Decoders have ways of their own to run out of memory. */
static void a_picture(const char* path) {
  glimpse_model* model = load_tiny(1);
  Host host;
  memset(&host, 0, sizeof host);
  host.model = model;
  host.n_threads = 1;
  host.picture = path;
  CHECK_OK(create(&host));
  make_it_fail(&host, encode, path, 0);
  CHECK(host.embedding != NULL);
  glimpse_embedding_free(host.embedding);
  host.embedding = NULL;
  make_it_fail(&host, encode, path, 1);
  glimpse_embedding_free(host.embedding);
  glimpse_session_free(host.session);
  glimpse_model_free(model);
}

/* Forks, checkpoints and bytes: what a conversation says with every call failing first is what it says anyhow. */
static void a_family(int n_threads) {
  glimpse_model* model = load_tiny(1);
  glimpse_session_params params = tiny_session_params();
  Answer want, got;
  char path[1100];
  int faulty, sticky;
  snprintf(path, sizeof path, "%s/capi_faults_test.glis", GLIMPSE_SCRATCH_DIR);
  memset(&want, 0, sizeof want);
  params.n_pool = 256 * 8;
  params.n_threads = n_threads;
  for (faulty = 0; faulty <= 2; ++faulty) {
    Host host;
    memset(&host, 0, sizeof host);
    host.model = model;
    host.file = path;
    sticky = faulty == 2;
#define CALL(name) (faulty ? make_it_fail(&host, name, #name, sticky) : (void)CHECK_OK(name(&host)))
    CHECK_OK(glimpse_session_create(model, &params, &host.session));
    CHECK_OK(prefill(&host));
    CALL(keep);
    CALL(fork_it);
    if (host.fork == NULL || host.checkpoint == NULL) exit(1);
    CALL(step_both);
    CALL(back);
    CHECK_OK(begin(&host));
    CALL(feed);
    CALL(feed);
    CALL(forward);
    CHECK_OK(glimpse_session_save(host.session, NULL, 0, &host.n_state));
    host.state = malloc(host.n_state);
    if (host.state == NULL) exit(1);
    CALL(save);
    CALL(save_file);
    CALL(load);
    CALL(load_file);
    CHECK_OK(go_on(&host));
    got = read_answer(host.session);
    if (faulty == 0) want = got;
    CHECK(same_answer(&got, &want) && got.n_tokens > 0);
    glimpse_session_free(host.session);
    glimpse_session_free(host.fork);
    glimpse_checkpoint_free(host.checkpoint);
    free(host.state);
#undef CALL
  }
  remove(path);
  glimpse_model_free(model);
}

static void an_encoder(int n_threads) {
  glimpse_model* model = load_tiny(1);
  int sticky;
  for (sticky = 0; sticky <= 1; ++sticky) {
    Host host;
    memset(&host, 0, sizeof host);
    host.model = model;
    host.n_threads = n_threads;
    host.picture = test_path("../models/sample.png");
    make_it_fail(&host, create_encoder, "create an encoder", sticky);
    if (!CHECK(host.encoder != NULL)) break;
    make_it_fail(&host, encode_three, "encode three", sticky);
    CHECK_OK(encode_three(&host));
    glimpse_encoder_free(host.encoder);
  }
  glimpse_model_free(model);
}

/* One question about a picture, to an engine whose memory runs out somewhere: an error of the request or of a call, and
 * the next one is answered as if nothing had been. */
static glimpse_status ask_engine(glimpse_engine* engine, const glimpse_picture* picture, long number, int sticky,
                                 int* hit, Answer* answer) {
  const glimpse_generate_params params = answer_params();
  glimpse_request_part parts[2];
  glimpse_request_message message;
  glimpse_request request;
  glimpse_request_result result;
  glimpse_ticket* ticket = NULL;
  glimpse_status status;
  memset(parts, 0, sizeof parts);
  parts[0].picture = picture;
  parts[1].text = "what is this";
  message.role = "user";
  message.parts = parts;
  message.n_parts = 2;
  glimpse_request_init(&request, sizeof request);
  request.messages = &message;
  request.n_messages = 1;
  request.generate = &params;
  begin_info(&result, sizeof result);
  arm_allocation_faults(number, sticky);
  status = glimpse_engine_submit(engine, &request, &ticket);
  if (status == GLIMPSE_OK) status = glimpse_ticket_wait(ticket, (size_t)-1, -1, &result);
  *hit = disarm_allocation_faults() >= number;
  if (ticket != NULL && status != GLIMPSE_OK) status = glimpse_ticket_wait(ticket, (size_t)-1, -1, &result);
  if (ticket != NULL) CHECK(status == GLIMPSE_OK && result.finished == 1);
  if (status == GLIMPSE_OK) status = (glimpse_status)result.status;
  if (status == GLIMPSE_OK) {
    memset(answer, 0, sizeof *answer);
    memcpy(answer->text, result.text, result.n_bytes);
    memcpy(answer->tokens, result.tokens, result.n_tokens * sizeof(int32_t));
    answer->n_bytes = result.n_bytes;
    answer->n_tokens = result.n_tokens;
    answer->finish_reason = result.finish_reason;
  }
  glimpse_ticket_free(ticket);
  return status;
}

static void an_engine(int n_threads) {
  glimpse_model* model = load_tiny(1);
  uint8_t* rgb = make_rgb(84, 56);
  int sticky, caches;
  for (caches = 0; caches <= 1; ++caches) {
    for (sticky = 0; sticky <= 1; ++sticky) {
      glimpse_engine* engine = NULL;
      glimpse_engine_params params;
      glimpse_picture picture;
      Answer want, got;
      int hit = 1;
      long number;
      glimpse_engine_params_init(&params, sizeof params);
      params.n_threads = n_threads;
      params.n_ctx = 256;
      params.n_parallel = 2;
      params.prompt_cache = caches;
      params.image_cache_bytes = caches * 100000;
      for (number = 1; engine == NULL; ++number) {
        glimpse_status status;
        arm_allocation_faults(number, sticky);
        status = glimpse_engine_create(model, &params, &engine);
        disarm_allocation_faults();
        if (!check_outcome(status, "create an engine", number, sticky)) break;
      }
      if (!CHECK(engine != NULL)) break;
      memset(&picture, 0, sizeof picture);
      picture.rgb = rgb;
      picture.width = 84;
      picture.height = 56;
      CHECK_OK(ask_engine(engine, &picture, 0, 0, &hit, &want));
      for (number = 1, hit = 1; hit; number += 1 + number / 64) {
        const glimpse_status status = ask_engine(engine, &picture, number, sticky, &hit, &got);
        if (!check_outcome(status, "ask an engine", number, sticky)) break;
        if (status == GLIMPSE_OK) CHECK(same_answer(&got, &want));
      }
      CHECK(number > 100);
      CHECK_OK(ask_engine(engine, &picture, 0, 0, &hit, &got));
      CHECK(same_answer(&got, &want));
      glimpse_engine_free(engine);
    }
  }
  free(rgb);
  glimpse_model_free(model);
}

/* The first failure of a thread, when there is no memory: its message has a place. */
static void the_first_error_of_a_host(void) {
  glimpse_model* model = NULL;
  const glimpse_model_params params = model_params(1);
  glimpse_status status;
  arm_allocation_faults(1, 1);
  status = glimpse_model_load(&params, &model);
  disarm_allocation_faults();
  CHECK_FAILS(status, GLIMPSE_ERROR_OUT_OF_MEMORY);
  CHECK_TEXT(glimpse_last_error(), "out of memory");
}

static void a_split_answer(int sticky) {
  static const char kText[] =
      "<think>long enough to leave the small buffers of strings</think>\n\nlong enough to leave the small buffers too\n"
      "<tool_call>{\"name\": \"a name that is not short at all\", \"arguments\": {\"x\": [1, 2.5, "
      "\"three\"]}}</tool_call>";
  glimpse_splitter_params params;
  glimpse_answer_parts parts;
  long number;
  int over = 0;
  glimpse_splitter_params_init(&params, sizeof params);
  params.tool_calls = 1;
  begin_info(&parts, sizeof parts);
  for (number = 1; !over; ++number) {
    glimpse_splitter* splitter = NULL;
    glimpse_status status;
    CHECK_OK(glimpse_splitter_create(&params, &splitter));
    arm_allocation_faults(number, sticky);
    status = glimpse_splitter_push(splitter, kText, sizeof kText - 1, &parts);
    over = disarm_allocation_faults() < number;
    if (!check_outcome(status, "a split answer", number, sticky)) return;
    if (status != GLIMPSE_OK) CHECK_OK(glimpse_splitter_push(splitter, kText, sizeof kText - 1, NULL));
    CHECK_OK(glimpse_splitter_finish(splitter, NULL));
    CHECK_OK(glimpse_splitter_get(splitter, &parts));
    CHECK_TEXT(parts.content, "long enough to leave the small buffers too");
    CHECK(parts.n_tool_calls == 1 && parts.n_problems == 0);
    glimpse_splitter_free(splitter);
  }
  CHECK(number > 10);
}

int main(void) {
  int n_threads, sticky;
  the_first_error_of_a_host();
  for (n_threads = 1; n_threads <= GLIMPSE_TEST_MAX_THREADS; ++n_threads) {
    for (sticky = 0; sticky <= 1; ++sticky) a_load(n_threads, sticky);
    a_conversation(n_threads);
    an_encoder(n_threads);
    a_family(n_threads);
    an_engine(n_threads);
  }
  a_picture(test_path("data/chelsea.jpg"));
  for (sticky = 0; sticky <= 1; ++sticky) a_split_answer(sticky);
  return check_result("faults_test");
}
