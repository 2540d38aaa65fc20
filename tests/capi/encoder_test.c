/* Pictures to embeddings without a session. */
#include "support.h"

static glimpse_encoder_params tiny_params(void) {
  glimpse_encoder_params params;
  glimpse_encoder_params_init(&params, sizeof params);
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

static void several_become_what_each_becomes_in_a_session(const Tiny* tiny) {
  glimpse_encoder* encoder = create(tiny->model);
  glimpse_session* session = tiny->session;
  Pictures pictures = make_pictures();
  glimpse_embedding *together[kPictures], *alone = NULL;
  Progress progress = {"encode image", "read image", 0, 0, 0}; /* of all pictures together */
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
}

static void all_or_none(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_encoder* encoder = create(model);
  Pictures pictures = make_pictures();
  glimpse_embedding* out[kPictures];
  glimpse_picture broken = pictures.list[4];
  Progress progress = {"encode image", "read image", 0, 1, 0};
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
  begin_info(&small, sizeof small);
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

typedef struct Frames {
  uint8_t* rgb[3];
  size_t n_calls, fail_at;
} Frames;

static int give_frame(void* user, size_t index, glimpse_picture* picture) {
  Frames* frames = user;
  CHECK(index == frames->n_calls);
  CHECK(picture->rgb == NULL && picture->path == NULL && picture->bytes == NULL);
  if (++frames->n_calls == frames->fail_at) return 0;
  picture->rgb = frames->rgb[index];
  picture->width = 56;
  picture->height = 28;
  return 1;
}

static int same_values(const glimpse_embedding* a, const glimpse_embedding* b) {
  glimpse_embedding_info x, y;
  memset(&x, 0, sizeof x);
  memset(&y, 0, sizeof y);
  x.struct_size = y.struct_size = sizeof x;
  CHECK_OK(glimpse_embedding_get_info(a, &x));
  CHECK_OK(glimpse_embedding_get_info(b, &y));
  return x.n_tokens == y.n_tokens && x.n_slices == y.n_slices &&
         memcmp(x.values, y.values, sizeof(float) * (size_t)x.n_tokens * (size_t)x.width) == 0;
}

static void videos_by_list_and_by_callback(const Tiny* tiny) {
  glimpse_session* session = tiny->session;
  glimpse_encoder* encoder = NULL;
  const glimpse_encoder_params params = tiny_params();
  glimpse_embedding *by_list = NULL, *by_callback = NULL, *in_session = NULL, *none = NULL;
  glimpse_embedding_info info;
  glimpse_picture pictures[3];
  glimpse_video video;
  glimpse_generate_params generate = tiny_generate_params();
  glimpse_part parts[2];
  const glimpse_message message = user_message(parts, 2);
  Frames frames;
  char text[512];
  size_t i, n = 0;
  memset(pictures, 0, sizeof pictures);
  memset(&frames, 0, sizeof frames);
  for (i = 0; i < 3; ++i) {
    frames.rgb[i] = make_rgb(56, 28);
    frames.rgb[i][i] ^= 255;
    pictures[i].rgb = frames.rgb[i];
    pictures[i].width = 56;
    pictures[i].height = 28;
  }
  CHECK_OK(glimpse_encoder_create(tiny->model, &params, &encoder));
  glimpse_video_init(&video, sizeof video);
  CHECK(video.fps == 2);
  video.n_frames = 3;
  video.frames = pictures;
  video.min_pixels = 28 * 28;
  CHECK_OK(glimpse_encoder_encode_video(encoder, &video, NULL, NULL, &by_list));
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_embedding_get_info(by_list, &info));
  CHECK(info.n_slices == 2 && info.n_tokens == 4 && info.original_width == 56 && info.resized_width == 56);
  CHECK_OK(glimpse_encode_video(session, &video, NULL, NULL, &in_session));
  CHECK(same_values(by_list, in_session));
  video.frames = NULL;
  video.frame = give_frame;
  video.frame_user = &frames;
  CHECK_OK(glimpse_encoder_encode_video(encoder, &video, NULL, NULL, &by_callback));
  CHECK(frames.n_calls == 3 && same_values(by_list, by_callback));

  parts[0] = picture_part(by_list);
  parts[1] = text_part("what?");
  CHECK_OK(glimpse_render_chat(tiny->model, &message, 1, text, sizeof text, &n));
  CHECK(n < sizeof text);
  text[n] = 0;
  CHECK(strstr(text, "<|vision_start|><|video_pad|><|vision_end|>what?") != NULL);
  CHECK_OK(glimpse_generate(session, &message, 1, &generate));

  frames.n_calls = 0;
  frames.fail_at = 2;
  CHECK_FAILS(glimpse_encoder_encode_video(encoder, &video, NULL, NULL, &none), GLIMPSE_ERROR_CANCELLED);
  CHECK(none == NULL);
  video.frames = pictures;
  CHECK_FAILS(glimpse_encoder_encode_video(encoder, &video, NULL, NULL, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  video.frame = NULL;
  video.n_frames = 0;
  CHECK_FAILS(glimpse_encoder_encode_video(encoder, &video, NULL, NULL, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  video.n_frames = 3;
  video.fps = 0;
  CHECK_FAILS(glimpse_encode_video(session, &video, NULL, NULL, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_encode_video(session, NULL, NULL, NULL, &none), GLIMPSE_ERROR_INVALID_ARGUMENT);
  for (i = 0; i < 3; ++i) free(frames.rgb[i]);
  glimpse_embedding_free(by_list);
  glimpse_embedding_free(by_callback);
  glimpse_embedding_free(in_session);
  glimpse_encoder_free(encoder);
}

/* White: all but the first block repeat it. */
static void leaves_out_what_repeats(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_session_params session_params;
  glimpse_engine_params engine_params;
  glimpse_encoder_params params = tiny_params();
  glimpse_encoder* encoder = NULL;
  glimpse_embedding *embedding[2] = {NULL, NULL}, *again = NULL;
  glimpse_embedding_info info;
  glimpse_picture picture;
  uint8_t white[3 * 112 * 112];
  unsigned char bytes[4096];
  size_t n = 0;
  int i;
  glimpse_session_params_init(&session_params, sizeof session_params);
  glimpse_engine_params_init(&engine_params, sizeof engine_params);
  CHECK(params.image_dedup == 0 && session_params.image_dedup == 0 && engine_params.image_dedup == 0);
  memset(&picture, 0, sizeof picture);
  picture.width = picture.height = 112;
  memset(white, 255, sizeof white);
  picture.rgb = white;
  for (i = 0; i < 2; ++i) {
    params.image_dedup = i;
    CHECK_OK(glimpse_encoder_create(model, &params, &encoder));
    CHECK_OK(glimpse_encoder_encode(encoder, &picture, 1, NULL, NULL, &embedding[i]));
    glimpse_encoder_free(encoder);
    begin_info(&info, sizeof info);
    CHECK_OK(glimpse_embedding_get_info(embedding[i], &info));
    CHECK(info.n_tokens == (i == 0 ? 16 : 1) && info.n_left_out == (i == 0 ? 0 : 15) && info.resized_width == 112);
  }
  CHECK_OK(glimpse_embedding_save(embedding[1], bytes, sizeof bytes, &n));
  CHECK_OK(glimpse_embedding_load(bytes, n, &again));
  CHECK(same_values(embedding[1], again));
  begin_info(&info, sizeof info);
  CHECK_OK(glimpse_embedding_get_info(again, &info));
  CHECK(info.n_left_out == 15);
  glimpse_embedding_free(embedding[0]);
  glimpse_embedding_free(embedding[1]);
  glimpse_embedding_free(again);
  glimpse_model_free(model);
}

static void samples_videos(void) {
  glimpse_model* model = load_tiny(1);
  glimpse_model* blind = load_tiny(0);
  glimpse_video_sampling sampling;
  size_t indices[8], n = 0;
  glimpse_video_sampling_init(&sampling, sizeof sampling);
  CHECK(sampling.fps == 2 && sampling.min_frames == 4 && sampling.max_frames == 768);
  CHECK_OK(glimpse_sample_video(model, 10, 25, NULL, NULL, 0, &n));
  CHECK(n == 4);
  CHECK_OK(glimpse_sample_video(model, 10, 25, &sampling, indices, 8, &n));
  CHECK(n == 4 && indices[0] == 0 && indices[1] == 2 && indices[2] == 5 && indices[3] == 7);
  CHECK_FAILS(glimpse_sample_video(model, 10, 25, NULL, indices, 3, &n), GLIMPSE_ERROR_TOO_LARGE);
  CHECK_FAILS(glimpse_sample_video(model, 0, 25, NULL, indices, 8, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_sample_video(model, 10, -1, NULL, indices, 8, &n), GLIMPSE_ERROR_INVALID_ARGUMENT);
  CHECK_FAILS(glimpse_sample_video(blind, 10, 25, NULL, indices, 8, &n), GLIMPSE_ERROR_MISMATCH);
  CHECK_FAILS(glimpse_sample_video(model, 10, 25, NULL, indices, 8, NULL), GLIMPSE_ERROR_INVALID_ARGUMENT);
  glimpse_model_free(model);
  glimpse_model_free(blind);
}

int main(void) {
  with_tiny(1, several_become_what_each_becomes_in_a_session);
  all_or_none();
  is_busy_in_its_own_callback();
  plans_and_refuses();
  with_tiny(1, videos_by_list_and_by_callback);
  leaves_out_what_repeats();
  samples_videos();
  return check_result("encoder_test");
}
