/* One question about one picture, in C99 on glimpse.h alone:
 *   describe MODEL.gguf MMPROJ.gguf PICTURE "What is this?"
 * The answer goes to stdout as it is made; Ctrl-C ends it. */
#include <glimpse/glimpse.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t g_cancel;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  g_cancel = 1;
}

static int on_text(void* user, const char* text, size_t n_bytes) {
  (void)user;
  fwrite(text, 1, n_bytes, stdout);
  fflush(stdout);
  return 1;
}

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, glimpse_last_error());
  return 1;
}

/* Each step needs those before it; what was made is freed by main. */
static int describe(const char* const* argv, glimpse_model** model, glimpse_session** session,
                    glimpse_embedding** embedding) {
  glimpse_model_params model_params;
  glimpse_session_params session_params;
  glimpse_generate_params generate_params;
  glimpse_part parts[2] = {{NULL, NULL, 0}, {NULL, NULL, 0}};
  glimpse_message message;

  glimpse_model_params_init(&model_params, sizeof model_params);
  model_params.model_path = argv[1];
  model_params.mmproj_path = argv[2];
  if (glimpse_model_load(&model_params, model) != GLIMPSE_OK) return failed("loading");

  glimpse_session_params_init(&session_params, sizeof session_params);
  session_params.cancel = &g_cancel;
  if (glimpse_session_create(*model, &session_params, session) != GLIMPSE_OK) return failed("session");

  if (glimpse_encode_image_file(*session, argv[3], NULL, NULL, embedding) != GLIMPSE_OK) return failed("picture");

  parts[0].embedding = *embedding;
  parts[1].text = argv[4];
  message.role = "user";
  message.parts = parts;
  message.n_parts = 2;
  glimpse_generate_params_init(&generate_params, sizeof generate_params);
  generate_params.max_tokens = 200;
  generate_params.on_text = on_text;
  if (glimpse_generate(*session, &message, 1, &generate_params) != GLIMPSE_OK) return failed("answer");
  putchar('\n');
  return 0;
}

int main(int argc, char** argv) {
  glimpse_model* model = NULL;
  glimpse_session* session = NULL;
  glimpse_embedding* embedding = NULL;
  int status;
  if (argc != 5) {
    fprintf(stderr, "usage: %s MODEL.gguf MMPROJ.gguf PICTURE QUESTION\n", argv[0]);
    return 2;
  }
  signal(SIGINT, on_interrupt);
  status = describe((const char* const*)argv, &model, &session, &embedding);
  glimpse_embedding_free(embedding);
  glimpse_session_free(session);
  glimpse_model_free(model);
  return status;
}
