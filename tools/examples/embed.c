/* Pictures to files of embeddings, in C99 on glimpse.h alone: embed MODEL.gguf MMPROJ.gguf PICTURE...
 * Each becomes PICTURE.glie in the current directory; all pictures go through the encoder together. */
#include <glimpse/glimpse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMostPictures = 16 };

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, glimpse_last_error());
  return 1;
}

static int save(const glimpse_embedding* embedding, const char* picture) {
  const char* const name = strrchr(picture, '/') == NULL ? picture : strrchr(picture, '/') + 1;
  glimpse_embedding_info info;
  char path[1024];
  size_t n_bytes = 0;
  void* bytes;
  FILE* file;
  int written;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  if (glimpse_embedding_get_info(embedding, &info) != GLIMPSE_OK ||
      glimpse_embedding_save(embedding, NULL, 0, &n_bytes) != GLIMPSE_OK) {
    return failed(picture);
  }
  bytes = malloc(n_bytes);
  if (bytes == NULL || glimpse_embedding_save(embedding, bytes, n_bytes, &n_bytes) != GLIMPSE_OK) {
    free(bytes);
    return failed(picture);
  }
  snprintf(path, sizeof path, "%s.glie", name);
  file = fopen(path, "wb");
  written = file != NULL && fwrite(bytes, 1, n_bytes, file) == n_bytes;
  if (file != NULL) written = fclose(file) == 0 && written;
  free(bytes);
  if (!written) {
    perror(path);
    return 1;
  }
  printf("%s: %d tokens of %d numbers\n", path, (int)info.n_tokens, (int)info.width);
  return 0;
}

static int embed(const char* const* argv, size_t n, glimpse_model** model, glimpse_encoder** encoder) {
  glimpse_model_params model_params;
  glimpse_encoder_params encoder_params;
  glimpse_picture pictures[kMostPictures];
  glimpse_embedding* embeddings[kMostPictures];
  size_t i;
  int status = 0;

  glimpse_model_params_init(&model_params, sizeof model_params);
  model_params.model_path = argv[1];
  model_params.mmproj_path = argv[2];
  if (glimpse_model_load(&model_params, model) != GLIMPSE_OK) return failed("loading");
  glimpse_encoder_params_init(&encoder_params, sizeof encoder_params);
  if (glimpse_encoder_create(*model, &encoder_params, encoder) != GLIMPSE_OK) return failed("encoder");

  memset(pictures, 0, sizeof pictures);
  for (i = 0; i < n; ++i) pictures[i].path = argv[3 + i];
  if (glimpse_encoder_encode(*encoder, pictures, n, NULL, NULL, embeddings) != GLIMPSE_OK) return failed("encoding");
  for (i = 0; i < n; ++i) {
    status |= save(embeddings[i], argv[3 + i]);
    glimpse_embedding_free(embeddings[i]);
  }
  return status;
}

int main(int argc, char** argv) {
  glimpse_model* model = NULL;
  glimpse_encoder* encoder = NULL;
  int status;
  if (argc < 4 || argc > 3 + kMostPictures) {
    fprintf(stderr, "usage: %s MODEL.gguf MMPROJ.gguf PICTURE... (at most %d)\n", argv[0], kMostPictures);
    return 2;
  }
  status = embed((const char* const*)argv, (size_t)(argc - 3), &model, &encoder);
  glimpse_encoder_free(encoder);
  glimpse_model_free(model);
  return status;
}
