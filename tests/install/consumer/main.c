/* A program of somebody else: C99, the installed header, the installed library. */
#include <glimpse/glimpse.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  glimpse_model_params params;
  glimpse_model* model = NULL;
  glimpse_model_info info;
  glimpse_status status;
  if (argc != 2) return 2;

  glimpse_model_params_init(&params, sizeof params);
  params.model_path = "/no/such/model.gguf";
  status = glimpse_model_load(&params, &model);
  if (status != GLIMPSE_ERROR_NOT_FOUND || model != NULL || strstr(glimpse_last_error(), "no/such") == NULL) {
    fprintf(stderr, "a missing file: %s, '%s'\n", glimpse_status_name(status), glimpse_last_error());
    return 1;
  }

  params.model_path = argv[1];
  if (glimpse_model_load(&params, &model) != GLIMPSE_OK) {
    fprintf(stderr, "%s\n", glimpse_last_error());
    return 1;
  }
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  if (glimpse_model_get_info(model, &info) != GLIMPSE_OK) return 1;
  printf("glimpse %s: %s, %d layers\n", glimpse_version(), info.architecture, (int)info.n_layers);
  glimpse_model_free(model);
  return 0;
}
