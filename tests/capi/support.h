/* Checks and fixtures of the C API's tests. Strict C99, on the public header alone: these files also show that a C
 * program needs nothing else. */
#ifndef GLIMPSE_TESTS_CAPI_SUPPORT_H_
#define GLIMPSE_TESTS_CAPI_SUPPORT_H_

#include <glimpse/glimpse.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each prints file:line and what was wrong, and counts; the program goes on. */
#define CHECK(condition) check_true((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_OK(call) check_status((call), GLIMPSE_OK, #call, __FILE__, __LINE__)
#define CHECK_FAILS(call, status) check_status((call), (status), #call, __FILE__, __LINE__)
#define CHECK_ERROR_HAS(text) check_error_has((text), __FILE__, __LINE__)
#define CHECK_TEXT(got, want) check_text((got), (want), #got, __FILE__, __LINE__)

int check_true(int holds, const char* condition, const char* file, int line);
/* A failed call must also leave a message. */
int check_status(glimpse_status got, glimpse_status want, const char* call, const char* file, int line);
int check_error_has(const char* text, const char* file, int line);
int check_text(const char* got, const char* want, const char* expression, const char* file, int line);
/* main's result: 0 when every check held. */
int check_result(const char* program);

/* Path of a file below tests/. Valid until the eighth call after it. */
const char* test_path(const char* name);
/* The golden pair "tied" (320 tokens, width 64, 28 pixels per token side); ends the program when it does not load. */
glimpse_model* load_tiny(int with_vision);
/* One thread, 256 positions, batches of 32. */
glimpse_session_params tiny_session_params(void);
glimpse_session* create_tiny(const glimpse_model* model);
/* Greedy, at most 12 tokens. */
glimpse_generate_params tiny_generate_params(void);
/* The golden model and a session of it, for one test; both are freed after it. */
typedef struct Tiny {
  glimpse_model* model;
  glimpse_session* session;
} Tiny;
void with_tiny(int with_vision, void (*test)(const Tiny* tiny));

glimpse_part text_part(const char* text);
glimpse_part picture_part(const glimpse_embedding* picture);
/* The parts are not copied. */
glimpse_message user_message(const glimpse_part* parts, size_t n_parts);

/* A picture of width x height RGB bytes, not uniform; free() it. */
uint8_t* make_rgb(int width, int height);
/* The same picture as a binary PPM; free() it. */
unsigned char* make_ppm(int width, int height, size_t* n_bytes);

/* A result struct as a call wants it: zeros, and its size. */
void begin_info(void* info, size_t size);
glimpse_embedding_info read_info(const glimpse_embedding* embedding);
glimpse_timings read_timings(const glimpse_session* session);
/* Whether sizes and values are the same. */
int same_embedding(const glimpse_embedding* a, const glimpse_embedding* b);

/* What a progress callback was told: fractions of a stage, which never fall; calls of the stage before it, if there may
 * be one, only count. Returns 0 to the call cancel_at. */
typedef struct Progress {
  const char *stage, *before;
  int n_calls, cancel_at;
  double last;
} Progress;
int on_progress(void* progress, const char* stage, double fraction);

/* What an answer was, copied. */
typedef struct Answer {
  char text[4096];
  size_t n_bytes;
  int32_t tokens[512];
  size_t n_tokens;
  int32_t finish_reason;
} Answer;
Answer read_answer(const glimpse_session* session);
int same_answer(const Answer* a, const Answer* b);

#endif /* GLIMPSE_TESTS_CAPI_SUPPORT_H_ */
