// glimpse_model_*: loading, facts, tokens.
#include <algorithm>

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

extern "C" {

void glimpse_model_params_init(glimpse_model_params* params) {
  if (params == nullptr) return;
  *params = glimpse_model_params{};
  params->struct_size = sizeof *params;
}

glimpse_status glimpse_model_load(const glimpse_model_params* given, glimpse_model** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    glimpse_model_params params;
    glimpse_model_params_init(&params);
    GLIMPSE_TRY(read_params(given, &params));
    GLIMPSE_TRY(require(params.model_path, "model_path"));
    if (params.vision_precision < GLIMPSE_VISION_AUTO || params.vision_precision > GLIMPSE_VISION_INT8) {
      return make_error(ErrorCode::kInvalidArgument, "vision_precision %d is unknown", params.vision_precision);
    }
    if (params.device < GLIMPSE_DEVICE_CPU || params.device > GLIMPSE_DEVICE_AUTO) {
      return make_error(ErrorCode::kInvalidArgument, "device %d is unknown", params.device);
    }
    if (params.cuda_decode < GLIMPSE_CUDA_DECODE_GRAPH || params.cuda_decode > GLIMPSE_CUDA_DECODE_PERSISTENT) {
      return make_error(ErrorCode::kInvalidArgument, "cuda_decode %d is unknown", params.cuda_decode);
    }
    ModelOptions options;
    options.cuda_decode = static_cast<CudaDecode>(params.cuda_decode);
    options.device = static_cast<DeviceKind>(params.device);
    options.model_path = params.model_path;
    if (params.mmproj_path != nullptr) options.mmproj_path = params.mmproj_path;
    options.use_reference = params.use_reference != 0;
    options.n_threads = params.n_threads;
    options.vision_precision = static_cast<VisionPrecision>(params.vision_precision);
    if (params.pack_cache_dir != nullptr) options.pack_cache_dir = params.pack_cache_dir;
    options.log = log_sink(params.log, params.log_user);
    options.progress = progress_sink(params.progress, params.progress_user);
    GLIMPSE_ASSIGN(auto model, Model::load(options));
    *out = new glimpse_model{std::move(model)};
    return {};
  });
}

void glimpse_model_free(glimpse_model* model) {
  delete model;
}

glimpse_status glimpse_model_get_info(const glimpse_model* handle, glimpse_model_info* info) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(handle, "model"));
    const Model& model = *handle->model;
    glimpse_model_info filled{};
    filled.architecture = model.text().architecture.c_str();
    filled.name = model.text().name.c_str();
    filled.has_vision = model.has_vision() ? 1 : 0;
    filled.vocab_size = static_cast<int32_t>(model.text().vocab_size);
    filled.hidden_size = static_cast<int32_t>(model.text().hidden_size);
    filled.n_layers = static_cast<int32_t>(model.text().num_hidden_layers);
    filled.context_length = static_cast<int32_t>(model.text().max_position_embeddings);
    filled.weight_bytes = model.weight_bytes();
    filled.mapped_bytes = model.mapped_bytes();
    return write_info(filled, info);
  });
}

glimpse_status glimpse_tokenize(const glimpse_model* model, const char* text, size_t n_bytes, int32_t* ids,
                                size_t capacity, size_t* n_ids) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_TRY(require(n_ids, "n_ids"));
    if (text == nullptr && n_bytes > 0) return require(text, "text");
    if (ids == nullptr && capacity > 0) return require(ids, "ids");
    GLIMPSE_ASSIGN(const std::vector<TokenId> tokens,
                   model->model->tokenizer().encode(std::string_view(text == nullptr ? "" : text, n_bytes), {}));
    *n_ids = tokens.size();
    if (capacity == 0) return {};
    if (capacity < tokens.size()) {
      return make_error(ErrorCode::kTooLarge, "the text has %d tokens, there is room for %d", tokens.size(), capacity);
    }
    std::copy(tokens.begin(), tokens.end(), ids);
    return {};
  });
}

glimpse_status glimpse_token_bytes(const glimpse_model* model, int32_t id, const char** bytes, size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_TRY(require(bytes, "bytes"));
    GLIMPSE_TRY(require(n_bytes, "n_bytes"));
    if (id < 0 || id >= model->model->text().vocab_size) {
      return make_error(ErrorCode::kInvalidArgument, "token %d: the vocabulary has ids 0 to %d", id,
                        model->model->text().vocab_size - 1);
    }
    const std::string_view view = model->model->tokenizer().token_bytes(id, true);
    *bytes = view.data() == nullptr ? "" : view.data();
    *n_bytes = view.size();
    return {};
  });
}

}  // extern "C"
