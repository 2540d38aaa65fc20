// glimpse_embedding_*: what they are, to bytes and back.
#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

extern "C" {

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
    filled.n_slices = embedding.is_video ? static_cast<int32_t>(embedding.grid.t) : 0;
    if (!embedding.cells.empty()) {
      const int64_t n_cells = embedding.grid.n_patches() / (embedding.merge_size * embedding.merge_size);
      filled.n_left_out = static_cast<int32_t>(n_cells - embedding.n_tokens);
    }
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
