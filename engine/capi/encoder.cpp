// glimpse_encoder_* and glimpse_encode_image_*: pictures to embeddings.
#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

using Opened = Result<std::unique_ptr<ImageReader>>;

}  // namespace

namespace glimpse::capi {

Result<size_t> stride_of(const glimpse_picture& picture, const ImageLimits& limits) {
  const int32_t width = picture.width, height = picture.height;
  if (width < 1 || height < 1 || width > limits.max_width || height > limits.max_height ||
      static_cast<uint64_t>(width) * static_cast<uint64_t>(height) > limits.max_pixels) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels is outside the limits", width, height);
  }
  const size_t row = 3 * static_cast<size_t>(width), stride = picture.stride == 0 ? row : picture.stride;
  if (stride < row) {
    return make_error(ErrorCode::kInvalidArgument, "stride %d is less than 3 * width = %d", stride, row);
  }
  return size_t{stride};
}

Status check_one_source(const glimpse_picture& picture) {
  const int n_given = (picture.bytes != nullptr) + (picture.path != nullptr) + (picture.rgb != nullptr);
  if (n_given == 1) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "%d of bytes, path and rgb are given: want one (clear the struct first)", n_given);
}

}  // namespace glimpse::capi

namespace {

Opened open_pixels(const glimpse_picture& picture, const ImageLimits& limits) {
  GLIMPSE_ASSIGN(const size_t stride, stride_of(picture, limits));
  return read_pixels_of(picture.rgb, picture.width, picture.height, stride);
}

Opened open_picture(const glimpse_picture& picture, const DecodeOptions& options) {
  GLIMPSE_TRY(check_one_source(picture));
  if (picture.path != nullptr) return open_image_file(picture.path, options);
  if (picture.rgb != nullptr) return open_pixels(picture, options.limits);
  return open_image({static_cast<const std::byte*>(picture.bytes), picture.n_bytes}, options);
}

// What is wrong with a picture's size says so of which file. path: NULL: it was none.
Error about_file(Error error, const char* path) {
  const bool tells = path == nullptr || error.code == ErrorCode::kCancelled || error.code == ErrorCode::kMismatch ||
                     error.message.find(path) != std::string::npos;
  return tells ? error : with_context(std::move(error), path);
}

glimpse_status encode(glimpse_session* session, const glimpse_picture& picture, const void* given, const char* what,
                      glimpse_progress_callback progress, void* progress_user, glimpse_embedding** out) {
  return give_handle(out, [&](glimpse_embedding& handle) -> Status {
    Use<glimpse_session> use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_TRY(require(given, what));
    const ProgressSink sink = progress_sink(progress, progress_user);
    GLIMPSE_ASSIGN(const std::unique_ptr<ImageReader> reader,
                   open_picture(picture, session->session->decode_options(sink)));
    auto encoded = session->session->encode_image(*reader, nullptr, sink);
    if (!encoded.ok()) return about_file(std::move(encoded).error(), picture.path);
    handle.embedding = std::move(encoded).value();
    return {};
  });
}

Result<EncoderOptions> encoder_options(const glimpse_encoder_params* given) {
  GLIMPSE_ASSIGN(const glimpse_encoder_params params, given_params(given, glimpse_encoder_params_init));
  EncoderOptions options;
  GLIMPSE_TRY(read_picture_params(params, &options));
  options.n_threads = params.n_threads;
  options.log = log_sink(params.log, params.log_user);
  options.cancel = params.cancel;
  return options;
}

// Readers of all pictures, so that one that cannot be read is told before any is encoded.
Result<std::vector<std::unique_ptr<ImageReader>>> open_all(const glimpse_picture* pictures, size_t n,
                                                           const DecodeOptions& options) {
  std::vector<std::unique_ptr<ImageReader>> readers;
  for (size_t i = 0; i < n; ++i) {
    Opened reader = open_picture(pictures[i], options);
    if (!reader.ok()) {
      Error error = std::move(reader).error();
      if (n > 1) error.message = format("picture %d of %d: %s", i + 1, n, error.message);
      return error;
    }
    readers.push_back(std::move(reader).value());
  }
  return readers;
}

Status encode_all(PictureEncoder& encoder, const glimpse_picture* pictures, size_t n, const ProgressSink& progress,
                  glimpse_embedding** out) {
  if (n == 0) return make_error(ErrorCode::kInvalidArgument, "no pictures");
  GLIMPSE_TRY(require(pictures, "pictures"));
  GLIMPSE_ASSIGN(const auto readers, open_all(pictures, n, encoder.decode_options(progress)));
  std::vector<ImageReader*> pointers;
  for (const auto& reader : readers) pointers.push_back(reader.get());
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> embeddings, encoder.encode(pointers, nullptr, progress));
  std::vector<std::unique_ptr<glimpse_embedding>> handles;
  for (ImageEmbedding& embedding : embeddings) {
    handles.push_back(std::make_unique<glimpse_embedding>());
    handles.back()->embedding = std::make_shared<const ImageEmbedding>(std::move(embedding));
  }
  for (size_t i = 0; i < n; ++i) out[i] = handles[i].release();
  return {};
}

// A caller's video, as the engine reads it.
class GivenVideo {
 public:
  Status read(const glimpse_video* given, const DecodeOptions& options) {
    glimpse_video_init(&video_, sizeof video_);
    GLIMPSE_TRY(read_params(given, &video_));
    if ((video_.frames != nullptr) == (video_.frame != nullptr)) {
      return make_error(ErrorCode::kInvalidArgument, "want one of a video's frames and its callback");
    }
    if (video_.n_frames < 1 || video_.n_frames > 1 << 20) {
      return make_error(ErrorCode::kInvalidArgument, "a video of %d frames: want 1 to %d", video_.n_frames, 1 << 20);
    }
    frames_.n_frames = static_cast<int64_t>(video_.n_frames);
    frames_.fps = video_.fps;
    if (video_.seconds != nullptr) frames_.seconds = {video_.seconds, video_.n_frames};
    frames_.limits = {video_.min_pixels, video_.max_pixels, video_.max_tokens};
    frames_.open = [this, options](int64_t index) { return open(static_cast<size_t>(index), options); };
    return {};
  }
  const VideoFrames& frames() const { return frames_; }

 private:
  Opened open(size_t index, const DecodeOptions& options) {
    if (video_.frames != nullptr) return open_picture(video_.frames[index], options);
    picture_ = glimpse_picture{};
    if (video_.frame(video_.frame_user, index, &picture_) == 0) {
      return make_error(ErrorCode::kCancelled, "the callback ended the video");
    }
    return open_picture(picture_, options);
  }

  glimpse_video video_{};
  glimpse_picture picture_{};
  VideoFrames frames_;
};

}  // namespace

extern "C" {

size_t glimpse_video_init(glimpse_video* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* video) { video->fps = VideoFrames().fps; });
}

size_t glimpse_video_sampling_init(glimpse_video_sampling* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* sampling) {
    const VideoSampling defaults;
    sampling->fps = defaults.fps;
    sampling->min_frames = static_cast<int32_t>(defaults.min_frames);
    sampling->max_frames = static_cast<int32_t>(defaults.max_frames);
  });
}

glimpse_status glimpse_encode_video(glimpse_session* session, const glimpse_video* video,
                                    glimpse_progress_callback progress, void* progress_user, glimpse_embedding** out) {
  return give_handle(out, [&](glimpse_embedding& handle) -> Status {
    Use<glimpse_session> use;
    GLIMPSE_TRY(use.begin(session));
    const ProgressSink sink = progress_sink(progress, progress_user);
    GivenVideo given;
    GLIMPSE_TRY(given.read(video, session->session->decode_options(sink)));
    GLIMPSE_ASSIGN(handle.embedding, session->session->encode_video(given.frames(), nullptr, sink));
    return {};
  });
}

glimpse_status glimpse_encoder_encode_video(glimpse_encoder* encoder, const glimpse_video* video,
                                            glimpse_progress_callback progress, void* progress_user,
                                            glimpse_embedding** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    Use<glimpse_encoder> use;
    GLIMPSE_TRY(use.begin(encoder));
    const ProgressSink sink = progress_sink(progress, progress_user);
    GivenVideo given;
    GLIMPSE_TRY(given.read(video, encoder->encoder->decode_options(sink)));
    const auto fits = [](const ImageCost&) { return Status(); };
    GLIMPSE_ASSIGN(ImageEmbedding embedding, encoder->encoder->encode_video(given.frames(), fits, nullptr, sink));
    *out = new glimpse_embedding{std::make_shared<const ImageEmbedding>(std::move(embedding))};
    return {};
  });
}

glimpse_status glimpse_sample_video(const glimpse_model* model, size_t n_frames, double fps,
                                    const glimpse_video_sampling* sampling, size_t* indices, size_t capacity,
                                    size_t* n) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    if (!model->model->has_vision()) {
      return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see videos");
    }
    glimpse_video_sampling params;
    glimpse_video_sampling_init(&params, sizeof params);
    if (sampling != nullptr) GLIMPSE_TRY(read_params(sampling, &params));
    const int64_t n_given = n_frames > INT64_MAX ? INT64_MAX : static_cast<int64_t>(n_frames);
    GLIMPSE_ASSIGN(const std::vector<int64_t> seen,
                   sample_frames(n_given, fps, {params.fps, params.min_frames, params.max_frames},
                                 model->model->vision().family()));
    return copy_out(seen, "indices", indices, capacity, n);
  });
}

glimpse_status glimpse_encode_image_bytes(glimpse_session* session, const void* bytes, size_t n_bytes,
                                          glimpse_progress_callback progress, void* progress_user,
                                          glimpse_embedding** out) {
  glimpse_picture picture{};
  picture.bytes = bytes;
  picture.n_bytes = n_bytes;
  return encode(session, picture, bytes, "bytes", progress, progress_user, out);
}

glimpse_status glimpse_encode_image_file(glimpse_session* session, const char* path, glimpse_progress_callback progress,
                                         void* progress_user, glimpse_embedding** out) {
  glimpse_picture picture{};
  picture.path = path;
  return encode(session, picture, path, "path", progress, progress_user, out);
}

glimpse_status glimpse_encode_image_rgb(glimpse_session* session, const uint8_t* rgb, int32_t width, int32_t height,
                                        size_t stride, glimpse_progress_callback progress, void* progress_user,
                                        glimpse_embedding** out) {
  glimpse_picture picture{};
  picture.rgb = rgb;
  picture.width = width;
  picture.height = height;
  picture.stride = stride;
  return encode(session, picture, rgb, "rgb", progress, progress_user, out);
}

size_t glimpse_encoder_params_init(glimpse_encoder_params* out, size_t struct_size) {
  return init_params(out, struct_size, [](auto* params) { init_picture_params(params); });
}

glimpse_status glimpse_plan_encoder(const glimpse_model* model, const glimpse_encoder_params* params,
                                    glimpse_memory_plan* plan) {
  return give_plan(model, params, plan, encoder_options, plan_encoder);
}

glimpse_status glimpse_encoder_create(const glimpse_model* model, const glimpse_encoder_params* params,
                                      glimpse_encoder** out) {
  return give_made(model, params, out, encoder_options,
                   [](auto& handle, const auto& of, const auto& options) -> Status {
                     GLIMPSE_ASSIGN(handle.encoder, PictureEncoder::create(of, options));
                     return {};
                   });
}

void glimpse_encoder_free(glimpse_encoder* encoder) {
  free_handle(encoder);
}

glimpse_status glimpse_encoder_encode(glimpse_encoder* encoder, const glimpse_picture* pictures, size_t n_pictures,
                                      glimpse_progress_callback progress, void* progress_user,
                                      glimpse_embedding** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(out, "out"));
    for (size_t i = 0; i < n_pictures; ++i) out[i] = nullptr;
    Use<glimpse_encoder> use;
    GLIMPSE_TRY(use.begin(encoder));
    return encode_all(*encoder->encoder, pictures, n_pictures, progress_sink(progress, progress_user), out);
  });
}

}  // extern "C"
