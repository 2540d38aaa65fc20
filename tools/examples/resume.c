/* A conversation that is taken up again in another run, in C99 on glimpse.h alone:
 *   resume MODEL.gguf STATE "What is the capital of France?"
 * STATE is read when it is there, and holds the conversation with the answer afterwards. */
#include <glimpse/glimpse.h>
#include <stdio.h>

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

static int go_on(const char* const* argv, glimpse_model** model, glimpse_session** session) {
  glimpse_model_params model_params;
  glimpse_session_params session_params;
  glimpse_generate_params generate_params;
  glimpse_part part = {NULL, NULL, 0};
  glimpse_message message;
  glimpse_status status;

  glimpse_model_params_init(&model_params, sizeof model_params);
  model_params.model_path = argv[1];
  if (glimpse_model_load(&model_params, model) != GLIMPSE_OK) return failed("loading");
  glimpse_session_params_init(&session_params, sizeof session_params);
  session_params.n_ctx = 2048;
  if (glimpse_session_create(*model, &session_params, session) != GLIMPSE_OK) return failed("session");

  status = glimpse_session_load_file(*session, argv[2]);
  if (status != GLIMPSE_OK && status != GLIMPSE_ERROR_NOT_FOUND) return failed("taking up");
  fprintf(stderr, "%d tokens were said before\n", (int)glimpse_session_n_past(*session));

  part.text = argv[3];
  message.role = "user";
  message.parts = &part;
  message.n_parts = 1;
  glimpse_generate_params_init(&generate_params, sizeof generate_params);
  generate_params.max_tokens = 200;
  generate_params.on_text = on_text;
  if (glimpse_generate(*session, &message, 1, &generate_params) != GLIMPSE_OK) return failed("answer");
  putchar('\n');
  if (glimpse_session_save_file(*session, argv[2]) != GLIMPSE_OK) return failed("saving");
  return 0;
}

int main(int argc, char** argv) {
  glimpse_model* model = NULL;
  glimpse_session* session = NULL;
  int status;
  if (argc != 4) {
    fprintf(stderr, "usage: %s MODEL.gguf STATE QUESTION\n", argv[0]);
    return 2;
  }
  status = go_on((const char* const*)argv, &model, &session);
  glimpse_session_free(session);
  glimpse_model_free(model);
  return status;
}
