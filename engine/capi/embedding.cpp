// glimpse_encode_image_* and glimpse_embedding_*: pictures in, embeddings out.
#include <cstring>

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

// Encodes the picture that `open` gives a reader of.
template <typename Open>
glimpse_status encode(glimpse_session* session, glimpse_embedding** out, glimpse_progress_callback progress,
                      void* progress_user, Open&& open) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    const ProgressSink sink = progress_sink(progress, progress_user);
    GLIMPSE_ASSIGN(const std::unique_ptr<ImageReader> picture, open(session->session->decode_options(sink)));
    auto handle = std::make_unique<glimpse_embedding>();
    GLIMPSE_ASSIGN(handle->embedding, session->session->encode_image(*picture, nullptr, sink));
    *out = handle.release();
    return {};
  });
}

using Opened = Result<std::unique_ptr<ImageReader>>;

}  // namespace

extern "C" {

glimpse_status glimpse_encode_image_bytes(glimpse_session* session, const void* bytes, size_t n_bytes,
                                          glimpse_progress_callback progress, void* progress_user,
                                          glimpse_embedding** out) {
  return encode(session, out, progress, progress_user, [&](const DecodeOptions& options) -> Opened {
    GLIMPSE_TRY(require(bytes, "bytes"));
    return open_image({static_cast<const std::byte*>(bytes), n_bytes}, options);
  });
}

glimpse_status glimpse_encode_image_file(glimpse_session* session, const char* path, glimpse_progress_callback progress,
                                         void* progress_user, glimpse_embedding** out) {
  return encode(session, out, progress, progress_user, [&](const DecodeOptions& options) -> Opened {
    GLIMPSE_TRY(require(path, "path"));
    return open_image_file(path, options);
  });
}

glimpse_status glimpse_encode_image_rgb(glimpse_session* session, const uint8_t* rgb, int32_t width, int32_t height,
                                        size_t stride, glimpse_progress_callback progress, void* progress_user,
                                        glimpse_embedding** out) {
  return encode(session, out, progress, progress_user, [&](const DecodeOptions& options) -> Opened {
    GLIMPSE_TRY(require(rgb, "rgb"));
    const ImageLimits& limits = options.limits;
    if (width < 1 || height < 1 || width > limits.max_width || height > limits.max_height ||
        static_cast<uint64_t>(width) * static_cast<uint64_t>(height) > limits.max_pixels) {
      return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels is outside the limits", width,
                        height);
    }
    const size_t row = 3 * static_cast<size_t>(width);
    if (stride == 0) stride = row;
    if (stride < row) {
      return make_error(ErrorCode::kInvalidArgument, "stride %d is less than 3 * width = %d", stride, row);
    }
    return read_pixels_of(rgb, width, height, stride);
  });
}

glimpse_status glimpse_embedding_get_info(const glimpse_embedding* handle, glimpse_embedding_info* info) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(handle, "embedding"));
    const ImageEmbedding& embedding = *handle->embedding;
    glimpse_embedding_info filled{};
    filled.n_tokens = static_cast<int32_t>(embedding.n_tokens);
    filled.width = static_cast<int32_t>(embedding.width);
    filled.original_width = static_cast<int32_t>(embedding.original.width);
    filled.original_height = static_cast<int32_t>(embedding.original.height);
    filled.resized_width = static_cast<int32_t>(embedding.resized.width);
    filled.resized_height = static_cast<int32_t>(embedding.resized.height);
    filled.values = embedding.values.data();
    return write_info(filled, info);
  });
}

glimpse_status glimpse_embedding_save(const glimpse_embedding* embedding, void* bytes, size_t capacity,
                                      size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(embedding, "embedding"));
    return copy_out(save_embedding(*embedding->embedding), "bytes", static_cast<std::byte*>(bytes), capacity, n_bytes);
  });
}

glimpse_status glimpse_embedding_load(const void* bytes, size_t n_bytes, glimpse_embedding** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    GLIMPSE_TRY(require(bytes, "bytes"));
    GLIMPSE_ASSIGN(ImageEmbedding embedding, load_embedding({static_cast<const std::byte*>(bytes), n_bytes}));
    *out = new glimpse_embedding{std::make_shared<const ImageEmbedding>(std::move(embedding))};
    return {};
  });
}

void glimpse_embedding_free(glimpse_embedding* embedding) {
  delete embedding;
}

}  // extern "C"
