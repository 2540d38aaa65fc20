/* Pictures to embeddings without a session. */
#include "support.h"

static glimpse_embedding_info read_info(const glimpse_embedding* embedding) {
  glimpse_embedding_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  CHECK_OK(glimpse_embedding_get_info(embedding, &info));
  return info;
}

static int same_embedding(const glimpse_embedding* a, const glimpse_embedding* b) {
  const glimpse_embedding_info x = read_info(a), y = read_info(b);
  return x.n_tokens == y.n_tokens && x.original_width == y.original_width && x.original_height == y.original_height &&
         memcmp(x.values, y.values, sizeof(float) * (size_t)x.n_tokens * (size_t)x.width) == 0;
}

static glimpse_encoder_params tiny_params(void) {
  glimpse_encoder_params params;
  glimpse_encoder_params_init(&params);
  params.n_threads = 1;
  params.image_min_tokens = 1;
  params.image_max_tokens = 64;
  return params;
}

static glimpse_encoder* create(const glimpse_model* model) {
  const glimpse_encoder_params params = tiny_params();
  glimpse_encoder* encoder = NULL;
  CHECK_OK(glimpse_encoder_create(model, &params, &encoder));
  if (encoder == NULL) exit(1);
  return encoder;
}

enum { kPictures = 9 };

typedef struct Pictures {
  glimpse_picture list[kPictures];
  uint8_t* rgb[kPictures];
  unsigned char* ppm;
} Pictures;

/* Bytes, a file and pixels; together more than a pass takes, most of them so small that they share one. */
static Pictures make_pictures(void) {
  static const int width[kPictures] = {84, 28, 56, 224, 28, 140, 112, 84, 56},
                   height[kPictures] = {56, 28, 84, 224, 56, 56, 140, 28, 28};
  Pictures made;
  int i;
  memset(&made, 0, sizeof made);
  made.ppm = make_ppm(84, 56, &made.list[0].n_bytes);
  made.list[0].bytes = made.ppm;
  made.list[1].path = test_path("../models/sample.png");
  for (i = 2; i < kPictures; ++i) {
    made.rgb[i] = make_rgb(width[i], height[i]);
    made.list[i].rgb = made.rgb[i];
    made.list[i].width = width[i];
    made.list[i].height = height[i];
  }
  return made;
}

static void free_pictures(Pictures* made) {
  int i;
  free(made->ppm);
  for (i = 0; i < kPictures; ++i) free(made->rgb[i]);
}

typedef struct Progress {
  int n_calls, cancel;
  double last;
} Progress;

static int on_progress(void* user, const char* stage, double fraction) {
  Progress* progress = user;
  ++progress->n_calls;
  if (strcmp(stage, "encode image") == 0) {
    CHECK(fraction >= progress->last && fraction <= 1); /* of all pictures together */
    progress->last = fraction;
  } else {
    CHECK_TEXT(stage, "read image");
  }
  return !progress->cancel;
}

static void several_become_what_each_becomes_in_a_session(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_encoder* encoder = create(model);
  glimpse_session* session = create_tiny(model);
  Pictures pictures = make_pictures();
  glimpse_embedding *together[kPictures], *alone = NULL;
  Progress progress = {0, 0, 0};
  int i;
  CHECK_OK(glimpse_encoder_encode(encoder, pictures.list, kPictures, on_progress, &progress, together));
  CHECK(progress.n_calls > 0 && progress.last > 0);
  for (i = 0; i < kPictures; ++i) {
    const glimpse_picture* p = &pictures.list[i];
    if (p->bytes != NULL) {
      CHECK_OK(glimpse_encode_image_bytes(session, p->bytes, p->n_bytes, NULL, NULL, &alone));
    } else if (p->path != NULL) {
      CHECK_OK(glimpse_encode_image_file(session, p->path, NULL, NULL, &alone));
    } else {
      CHECK_OK(glimpse_encode_image_rgb(session, p->rgb, p->width, p->height, 0, NULL, NULL, &alone));
    }
    CHECK(same_embedding(together[i], alone));
    glimpse_embedding_free(alone);
  }
  /* The encoder may be gone. */
  glimpse_encoder_free(encoder);
  CHECK(read_info(together[0]).n_tokens == 6);
  for (i = 0; i < kPictures; ++i) glimpse_embedding_free(together[i]);
  free_pictures(&pictures);
  glimpse_session_free(session);
  glimpse_model_free(model);
}

static void all_or_none(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_encoder* encoder = create(model);
  Pictures pictures = make_pictures();
  glimpse_embedding* out[kPictures];
  glimpse_picture broken = pictures.list[4];
  Progress progress = {0, 1, 0};
  int i;
  for (i = 0; i < kPictures; ++i) out[i] = (glimpse_embedding*)1;
  pictures.list[4].rgb = NULL;
  pictures.list[4].bytes = "no picture";
  pictures.list[4].n_bytes = 10;
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, kPictures, NULL, NULL, out), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK_ERROR_HAS("picture 5 of 9: ");
  for (i = 0; i < kPictures; ++i) CHECK(out[i] == NULL);
  /* Without company it is clear which is meant. */
  CHECK_FAILS(glimpse_encoder_encode(encoder, &pictures.list[4], 1, NULL, NULL, out), GLIMPSE_ERROR_UNSUPPORTED);
  CHECK(strstr(glimpse_last_error(), "picture 1 of") == NULL);
  pictures.list[4].rgb = broken.rgb; /* two at once */
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, kPictures, NULL, NULL, out),
              GLIMPSE_ERROR_INVALID_ARGUMENT);
  pictures.list[4] = broken;
  pictures.list[4].stride = 3;
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, kPictures, NULL, NULL, out),
              GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_ERROR_HAS("picture 5 of 9: stride");
  pictures.list[4] = broken;
  pictures.list[4].width = 28;
  pictures.list[4].height = 1; /* a strip of 28:1 is fine, of 201:1 not */
  CHECK_OK(glimpse_encoder_encode(encoder, &pictures.list[4], 1, NULL, NULL, out));
  glimpse_embedding_free(out[0]);
  pictures.list[4] = broken;
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, kPictures, on_progress, &progress, out),
              GLIMPSE_ERROR_CANCELLED);
  for (i = 0; i < kPictures; ++i) CHECK(out[i] == NULL);
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, 0, NULL, NULL, out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encoder_encode(encoder, NULL, 1, NULL, NULL, out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encoder_encode(NULL, pictures.list, 1, NULL, NULL, out), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encoder_encode(encoder, pictures.list, 1, NULL, NULL, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  free_pictures(&pictures);
  glimpse_encoder_free(encoder);
  glimpse_model_free(model);
}

typedef struct Reentry {
  glimpse_encoder* encoder;
  const glimpse_picture* picture;
  int n_refused;
} Reentry;

static int on_reentry(void* user, const char* stage, double fraction) {
  Reentry* reentry = user;
  glimpse_embedding* out = NULL;
  (void)stage, (void)fraction;
  CHECK_FAILS(glimpse_encoder_encode(reentry->encoder, reentry->picture, 1, NULL, NULL, &out), GLIMPSE_ERROR_BUSY);
  CHECK_ERROR_HAS("encoder");
  if (reentry->n_refused++ == 0) glimpse_encoder_free(reentry->encoder); /* takes effect when the call ends */
  return 1;
}

static void is_busy_in_its_own_callback(void) {
  glimpse_model* model = load_tiny(1);
  uint8_t* rgb = make_rgb(56, 56);
  glimpse_picture picture;
  glimpse_embedding* out = NULL;
  Reentry reentry;
  memset(&picture, 0, sizeof picture);
  picture.rgb = rgb;
  picture.width = picture.height = 56;
  reentry.encoder = create(model);
  reentry.picture = &picture;
  reentry.n_refused = 0;
  CHECK_OK(glimpse_encoder_encode(reentry.encoder, &picture, 1, on_reentry, &reentry, &out));
  CHECK(reentry.n_refused > 0);
  glimpse_embedding_free(out);
  free(rgb);
  glimpse_model_free(model);
}

static void plans_and_refuses(void) {
  glimpse_model *model = load_tiny(1), *blind = load_tiny(0);
  glimpse_encoder* encoder = (glimpse_encoder*)1;
  glimpse_encoder_params params = tiny_params();
  glimpse_memory_plan small, large;
  volatile int cancel = 1;
  uint8_t* rgb = make_rgb(28, 28);
  glimpse_picture picture;
  glimpse_embedding* out = NULL;
  memset(&small, 0, sizeof small);
  small.struct_size = sizeof small;
  large = small;
  CHECK_OK(glimpse_plan_encoder(model, &params, &small));
  params.image_max_tokens = 128;
  CHECK_OK(glimpse_plan_encoder(model, &params, &large));
  CHECK(small.vision_scratch > 0 && small.vision_scratch < large.vision_scratch);
  CHECK(small.kv_cache == 0 && small.decoder_scratch == 0 && small.weights > 0);
  CHECK_FAILS(glimpse_plan_encoder(blind, &params, &small), GLIMPSE_ERROR_MISMATCH);
  CHECK_FAILS(glimpse_encoder_create(blind, &params, &encoder), GLIMPSE_ERROR_MISMATCH);
  CHECK(encoder == NULL);
  params.image_max_tokens = -1;
  CHECK_FAILS(glimpse_encoder_create(model, &params, &encoder), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params = tiny_params();
  params.n_threads = -1;
  CHECK_FAILS(glimpse_encoder_create(model, &params, &encoder), GLIMPSE_ERROR_INVALID_ARGUMENT);
  params.struct_size = 0;
  CHECK_FAILS(glimpse_encoder_create(model, &params, &encoder), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encoder_create(NULL, &params, &encoder), GLIMPSE_ERROR_INVALID_ARGUMENT);

  params = tiny_params();
  params.cancel = &cancel;
  memset(&picture, 0, sizeof picture);
  picture.rgb = rgb;
  picture.width = picture.height = 28;
  CHECK_OK(glimpse_encoder_create(model, &params, &encoder));
  glimpse_model_free(model); /* the encoder keeps it alive */
  CHECK_FAILS(glimpse_encoder_encode(encoder, &picture, 1, NULL, NULL, &out), GLIMPSE_ERROR_CANCELLED);
  cancel = 0;
  CHECK_OK(glimpse_encoder_encode(encoder, &picture, 1, NULL, NULL, &out));
  glimpse_embedding_free(out);
  glimpse_encoder_free(encoder);
  glimpse_encoder_free(NULL);
  free(rgb);
  glimpse_model_free(blind);
}

int main(void) {
  several_become_what_each_becomes_in_a_session();
  all_or_none();
  is_busy_in_its_own_callback();
  plans_and_refuses();
  return check_result("encoder_test");
}
