/* What a host and its system may do to the library inside it: no threads to be had, no address space for them, memory
 * that runs out, dlclose, fork, a cancel from another thread, calls from its own callback.
 *
 *   test_host CASE libglimpse.so model.gguf
 *
 * The library is loaded at run time; pthread_create is ours, so that it can fail at will (a process limit does not bind
 * the superuser, as whom tests often run). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <glimpse/glimpse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef GLIMPSE_TEST_ALLOCATION_FAULTS
#include "tests/capi/allocation_faults.h"
#endif

enum { kThreads = 4, kMaxTokens = 12 };

static int n_failed = 0;

static int check(int holds, const char* what, int line) {
  if (!holds) {
    ++n_failed;
    printf("host_test.c:%d: %s\n", line, what);
    fflush(stdout);
  }
  return holds;
}
#define CHECK(condition) check((condition) != 0, #condition, __LINE__)

/* ---- pthread_create ---------------------------------------------------------------------------------------------- */

static int threads_left = -1; /* that may be created; -1: any number */
static int n_refused = 0;

__attribute__((visibility("default"))) int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                                          void* (*body)(void*), void* argument) {
  static int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = NULL;
  if (create == NULL) *(void**)&create = dlsym(RTLD_NEXT, "pthread_create");
  if (threads_left == 0) {
    ++n_refused;
    return EAGAIN;
  }
  if (threads_left > 0) --threads_left;
  return create(thread, attributes, body, argument);
}

/* ---- the library ------------------------------------------------------------------------------------------------- */

#define FUNCTIONS(X)              \
  X(glimpse_model_params_init)    \
  X(glimpse_model_load)           \
  X(glimpse_model_free)           \
  X(glimpse_session_params_init)  \
  X(glimpse_session_create)       \
  X(glimpse_session_free)         \
  X(glimpse_session_reset)        \
  X(glimpse_generate_params_init) \
  X(glimpse_generate)             \
  X(glimpse_get_answer)           \
  X(glimpse_last_error)
#define DECLARE(name) __typeof__(&name) name##_;
static struct {
  void* handle;
  FUNCTIONS(DECLARE)
} lib;

static volatile int cancel_flag;
static glimpse_text_callback on_text;
static void* on_text_user;

static const char* library_path;
static const char* model_path;

static void open_library(void) {
  lib.handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
  if (lib.handle == NULL) {
    printf("%s\n", dlerror());
    exit(1);
  }
#define LOOK_UP(name) *(void**)&lib.name##_ = dlsym(lib.handle, #name);
  FUNCTIONS(LOOK_UP)
}

static char warnings[4096];

static void keep_warnings(void* user, glimpse_log_level level, const char* message) {
  (void)user;
  if (level < GLIMPSE_LOG_WARNING || strlen(warnings) + strlen(message) + 2 > sizeof warnings) return;
  strcat(strcat(warnings, message), "\n");
}

static glimpse_status load(int n_threads, glimpse_model** model) {
  glimpse_model_params params;
  lib.glimpse_model_params_init_(&params, sizeof params);
  params.model_path = model_path;
  params.n_threads = n_threads;
  params.log = keep_warnings;
  return lib.glimpse_model_load_(&params, model);
}

static glimpse_status create_session(const glimpse_model* model, int n_threads, glimpse_session** session) {
  glimpse_session_params params;
  lib.glimpse_session_params_init_(&params, sizeof params);
  params.n_threads = n_threads;
  params.n_ctx = 256;
  params.n_batch = 32;
  params.log = keep_warnings;
  params.cancel = &cancel_flag;
  return lib.glimpse_session_create_(model, &params, session);
}

typedef struct Tokens {
  size_t n;
  int32_t ids[kMaxTokens];
} Tokens;

/* The answer to a fixed question in an empty conversation. */
static glimpse_status ask(glimpse_session* session, Tokens* tokens) {
  glimpse_part part;
  glimpse_message message;
  glimpse_generate_params params;
  glimpse_answer_info info;
  glimpse_status status;
  memset(&part, 0, sizeof part);
  part.text = "what is this picture";
  memset(&message, 0, sizeof message);
  message.role = "user";
  message.parts = &part;
  message.n_parts = 1;
  memset(tokens, 0, sizeof *tokens);
  lib.glimpse_generate_params_init_(&params, sizeof params);
  params.max_tokens = kMaxTokens;
  params.on_text = on_text;
  params.on_text_user = on_text_user;
  status = lib.glimpse_session_reset_(session);
  if (status == GLIMPSE_OK) status = lib.glimpse_generate_(session, &message, 1, &params);
  if (status != GLIMPSE_OK) return status;
  info.struct_size = sizeof info;
  status = lib.glimpse_get_answer_(session, &info);
  if (status != GLIMPSE_OK || info.n_tokens > kMaxTokens) return status;
  tokens->n = info.n_tokens;
  if (tokens->n > 0) memcpy(tokens->ids, info.tokens, tokens->n * sizeof tokens->ids[0]);
  return GLIMPSE_OK;
}

static int same(const Tokens* a, const Tokens* b) {
  return a->n > 0 && a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof a->ids[0]) == 0;
}

/* Load, session, answer, free: the whole road with n_threads. */
static glimpse_status whole_road(int n_threads, Tokens* tokens) {
  glimpse_model* model = NULL;
  glimpse_session* session = NULL;
  glimpse_status status = load(n_threads, &model);
  if (status == GLIMPSE_OK) status = create_session(model, n_threads, &session);
  if (status == GLIMPSE_OK) status = ask(session, tokens);
  lib.glimpse_session_free_(session);
  lib.glimpse_model_free_(model);
  return status;
}

/* ---- cases ------------------------------------------------------------------------------------------------------- */

/* Each number of threads that can be had, from none to all. */
static void no_threads(void) {
  Tokens alone, answer;
  int n;
  CHECK(whole_road(1, &alone) == GLIMPSE_OK);
  CHECK(warnings[0] == '\0');
  for (n = 0; n < 2 * (kThreads - 1); ++n) { /* a load and a session want kThreads - 1 each */
    char fewer[80];
    threads_left = n;
    n_refused = 0;
    warnings[0] = '\0';
    CHECK(whole_road(kThreads, &answer) == GLIMPSE_OK);
    CHECK(same(&alone, &answer));
    /* Those of the load are back when the session wants some. */
    CHECK(n_refused > 0);
    snprintf(fewer, sizeof fewer, "%d threads were asked for, %d could be had (%s)", kThreads,
             n < kThreads - 1 ? 1 + n : 1 + n - (kThreads - 1), strerror(EAGAIN));
    CHECK(strstr(warnings, fewer) != NULL);
  }
  threads_left = -1;
  warnings[0] = '\0';
  CHECK(whole_road(kThreads, &answer) == GLIMPSE_OK);
  CHECK(same(&alone, &answer));
  CHECK(warnings[0] == '\0');
}

static size_t address_space_in_use(void) {
  unsigned long pages = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu", &pages) != 1) exit(1);
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Room for everything but the stacks of threads. */
static void no_address_space(void) {
  const size_t stack = (size_t)1 << 30;
  Tokens alone, answer;
  struct rlimit limit;
  pthread_attr_t attributes;
  CHECK(whole_road(1, &alone) == GLIMPSE_OK);
  CHECK(pthread_attr_init(&attributes) == 0);
  CHECK(pthread_attr_setstacksize(&attributes, stack) == 0);
  CHECK(pthread_setattr_default_np(&attributes) == 0);
  if (!CHECK(getrlimit(RLIMIT_AS, &limit) == 0)) return;
  limit.rlim_cur = address_space_in_use() + stack / 2;
  if (!CHECK(setrlimit(RLIMIT_AS, &limit) == 0)) return;
  CHECK(whole_road(kThreads, &answer) == GLIMPSE_OK);
  CHECK(same(&alone, &answer));
  CHECK(strstr(warnings, "the calling thread alone") != NULL);
}

/* Ten times over; each time the library is really unloaded, so that a thread left behind would run unmapped code. */
static void close_library(void) {
  Tokens first, answer;
  int round;
  for (round = 0; round < 10; ++round) {
    if (round > 0) open_library();
    CHECK(whole_road(2, round == 0 ? &first : &answer) == GLIMPSE_OK);
    CHECK(round == 0 || same(&first, &answer));
    CHECK(dlclose(lib.handle) == 0);
    lib.handle = dlopen(library_path, RTLD_NOW | RTLD_NOLOAD);
    if (lib.handle != NULL) printf("note: the library stays loaded after dlclose\n");
    if (lib.handle != NULL) dlclose(lib.handle);
    usleep(1000);
  }
}

/* Ends with the number of failed checks in the child; -1: it did not end by itself within 20 seconds. */
static int in_child(void (*body)(void)) {
  int status = 0;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    alarm(20);
    n_failed = 0;
    body();
    _exit(n_failed > 100 ? 100 : n_failed);
  }
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

static glimpse_model* shared_model;
static glimpse_session* shared_session;
static Tokens expected;

static void use_session(void) {
  Tokens answer;
  CHECK(ask(shared_session, &answer) == GLIMPSE_OK);
  CHECK(same(&expected, &answer));
}

static void use_model(void) {
  glimpse_session* session = NULL;
  Tokens answer;
  CHECK(create_session(shared_model, 2, &session) == GLIMPSE_OK);
  CHECK(session != NULL && ask(session, &answer) == GLIMPSE_OK);
  CHECK(same(&expected, &answer));
  lib.glimpse_session_free_(session);
}

static void load_anew(void) {
  Tokens answer;
  CHECK(whole_road(2, &answer) == GLIMPSE_OK);
  CHECK(same(&expected, &answer));
}

static void free_everything(void) {
  lib.glimpse_session_free_(shared_session);
  lib.glimpse_model_free_(shared_model);
}

static void use_session_in_grandchild(void) {
  use_session();
  CHECK(in_child(use_session) == 0);
}

static void fork_and_use(void) {
  CHECK(whole_road(1, &expected) == GLIMPSE_OK);
  CHECK(load(2, &shared_model) == GLIMPSE_OK);
  CHECK(create_session(shared_model, 2, &shared_session) == GLIMPSE_OK);
  CHECK(in_child(use_session) == 0);
  use_session();
  CHECK(in_child(use_session) == 0);
  CHECK(in_child(use_model) == 0);
  CHECK(in_child(load_anew) == 0);
  CHECK(in_child(free_everything) == 0);
  CHECK(in_child(use_session_in_grandchild) == 0);
  use_session(); /* the parent's is as it was */
  free_everything();
}

static int n_texts;

static void* set_cancel_flag(void* unused) {
  cancel_flag = 1;
  return unused;
}

/* At the first text another thread sets the flag, and is done with it when this returns. */
static int cancel_from_thread(void* user, const char* text, size_t n_bytes) {
  pthread_t thread;
  (void)user;
  (void)text;
  (void)n_bytes;
  if (++n_texts == 1) {
    CHECK(pthread_create(&thread, NULL, set_cancel_flag, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
  return 1;
}

static void cancel_from_outside(void) {
  Tokens whole, cut, again;
  CHECK(load(2, &shared_model) == GLIMPSE_OK);
  CHECK(create_session(shared_model, 2, &shared_session) == GLIMPSE_OK);
  CHECK(ask(shared_session, &whole) == GLIMPSE_OK);
  CHECK(whole.n > 2);
  on_text = cancel_from_thread;
  CHECK(ask(shared_session, &cut) == GLIMPSE_OK);
  CHECK(n_texts == 1 && cut.n < whole.n);
  CHECK(ask(shared_session, &cut) == GLIMPSE_ERROR_CANCELLED); /* the flag is still set */
  cancel_flag = 0;
  on_text = NULL;
  CHECK(ask(shared_session, &again) == GLIMPSE_OK);
  CHECK(same(&whole, &again));
  free_everything();
}

static int call_again(void* user, const char* text, size_t n_bytes) {
  Tokens none;
  (void)text;
  (void)n_bytes;
  ++n_texts;
  CHECK(ask(user, &none) == GLIMPSE_ERROR_BUSY);
  CHECK(strstr(lib.glimpse_last_error_(), "callback") != NULL);
  return 1;
}

static void call_from_callback(void) {
  Tokens whole, answer;
  CHECK(load(2, &shared_model) == GLIMPSE_OK);
  CHECK(create_session(shared_model, 2, &shared_session) == GLIMPSE_OK);
  CHECK(ask(shared_session, &whole) == GLIMPSE_OK);
  on_text = call_again;
  on_text_user = shared_session;
  CHECK(ask(shared_session, &answer) == GLIMPSE_OK);
  CHECK(n_texts > 0 && same(&whole, &answer));
  free_everything();
}

#ifdef GLIMPSE_TEST_ALLOCATION_FAULTS
/* The whole road with every n-th allocation failing, once and from then on; every call of it is in test_capi_faults. */
static void no_memory(void) {
  Tokens want, answer;
  long n, n_allocations;
  int sticky, n_errors = 0;
  CHECK(whole_road(2, &want) == GLIMPSE_OK);
  arm_allocation_faults(0, 0);
  CHECK(whole_road(2, &answer) == GLIMPSE_OK);
  n_allocations = disarm_allocation_faults();
  CHECK(n_allocations > 100);
  for (sticky = 0; sticky <= 1; ++sticky) {
    for (n = 1; n <= n_allocations; n += 1 + n / 16) {
      glimpse_status status;
      arm_allocation_faults(n, sticky);
      status = whole_road(2, &answer);
      disarm_allocation_faults();
      CHECK(status == GLIMPSE_OK ? same(&want, &answer) : status == GLIMPSE_ERROR_OUT_OF_MEMORY);
      n_errors += status != GLIMPSE_OK;
    }
  }
  CHECK(n_errors > 50);
  CHECK(whole_road(2, &answer) == GLIMPSE_OK);
  CHECK(same(&want, &answer));
}
#endif

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  library_path = argv[2];
  model_path = argv[3];
  open_library();
  if (strcmp(argv[1], "no_threads") == 0)
    no_threads();
  else if (strcmp(argv[1], "no_address_space") == 0)
    no_address_space();
  else if (strcmp(argv[1], "close") == 0)
    close_library();
  else if (strcmp(argv[1], "fork") == 0)
    fork_and_use();
  else if (strcmp(argv[1], "cancel") == 0)
    cancel_from_outside();
  else if (strcmp(argv[1], "reentry") == 0)
    call_from_callback();
#ifdef GLIMPSE_TEST_ALLOCATION_FAULTS
  else if (strcmp(argv[1], "no_memory") == 0)
    no_memory();
#endif
  else
    return 2;
  if (n_failed == 0) printf("host_test %s: ok\n", argv[1]);
  return n_failed == 0 ? 0 : 1;
}
