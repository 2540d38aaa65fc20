// glimpse_model_*: loading, facts, tokens.
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/capi/handles.h"
#include "engine/generate/conversation.h"
#include "loaders/gguf/gguf_text.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

Status require_token(const glimpse_model* model, int32_t id) {
  GLIMPSE_TRY(require(model, "model"));
  const int64_t n = model->model->text().vocab_size;
  if (id >= 0 && id < n) return {};
  return make_error(ErrorCode::kInvalidArgument, "token %d: the vocabulary has ids 0 to %d", id, n - 1);
}

Result<const Metadata*> metadata_of(const glimpse_model* model, int32_t file) {
  GLIMPSE_TRY(require(model, "model"));
  if (file == GLIMPSE_FILE_MODEL) return &model->model->text_metadata();
  if (file == GLIMPSE_FILE_MMPROJ) return &model->model->vision_metadata();
  return make_error(ErrorCode::kInvalidArgument, "file %d is neither the model's nor the mmproj file", file);
}

}  // namespace

extern "C" {

size_t glimpse_model_params_init(glimpse_model_params* params, size_t struct_size) {
  return init_params(params, struct_size, [](auto*) {});
}

glimpse_status glimpse_model_load(const glimpse_model_params* given, glimpse_model** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    GLIMPSE_ASSIGN(const glimpse_model_params params, given_params(given, glimpse_model_params_init));
    GLIMPSE_TRY(require(params.model_path, "model_path"));
    if (params.vision_precision < GLIMPSE_VISION_AUTO || params.vision_precision > GLIMPSE_VISION_INT8) {
      return make_error(ErrorCode::kInvalidArgument, "vision_precision %d is unknown", params.vision_precision);
    }
    if (params.device < GLIMPSE_DEVICE_CPU || params.device > GLIMPSE_DEVICE_AUTO) {
      return make_error(ErrorCode::kInvalidArgument, "device %d is unknown", params.device);
    }
    if (params.cuda_decode < GLIMPSE_CUDA_DECODE_GRAPH || params.cuda_decode > GLIMPSE_CUDA_DECODE_LAUNCHES) {
      return make_error(ErrorCode::kInvalidArgument, "cuda_decode %d is unknown", params.cuda_decode);
    }
    ModelOptions options;
    if (params.cuda_decode == GLIMPSE_CUDA_DECODE_LAUNCHES) options.device_options = "cuda_decode=launches";
    if (params.device_options != nullptr) options.device_options = params.device_options;
    options.device = static_cast<DeviceKind>(params.device);
    options.model_path = params.model_path;
    if (params.mmproj_path != nullptr) options.mmproj_path = params.mmproj_path;
    options.use_reference = params.use_reference != 0;
    options.n_threads = params.n_threads;
    options.vision_precision = static_cast<VisionPrecision>(params.vision_precision);
    if (params.pack_cache_dir != nullptr) options.pack_cache_dir = params.pack_cache_dir;
    options.map_packs = params.pack_cache_map != 0;
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
    filled.eos_token = model.tokenizer().eos();
    filled.pad_token = model.tokenizer().padding();
    filled.chat_format = model.chat_format().name.c_str();
    filled.pooling = pooling_name(model.text().pooling);
    filled.takes_tools = model.chat_format().style.tools == ChatStyle::Tools::kJson ? 1 : 0;
    filled.opens_thinking = model.chat_format().style.opens_thinking ? 1 : 0;
    return write_info(filled, info);
  });
}

glimpse_status glimpse_tokenize_with(const glimpse_model* model, const char* text, size_t n_bytes, uint32_t flags,
                                     int32_t* ids, size_t capacity, size_t* n_ids) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    if (text == nullptr && n_bytes > 0) return require(text, "text");
    if ((flags & ~uint32_t{GLIMPSE_TOKENIZE_SPECIAL | GLIMPSE_TOKENIZE_AS_TYPED}) != 0) {
      return make_error(ErrorCode::kInvalidArgument, "flags 0x%x: unknown ones are set", flags);
    }
    TokenizeOptions options;
    options.parse_special = (flags & GLIMPSE_TOKENIZE_SPECIAL) != 0;
    options.normalize_nfc = (flags & GLIMPSE_TOKENIZE_AS_TYPED) == 0;
    GLIMPSE_ASSIGN(const std::vector<TokenId> tokens,
                   model->model->tokenizer().encode(std::string_view(text == nullptr ? "" : text, n_bytes), options));
    return copy_out(tokens, "ids", ids, capacity, n_ids);
  });
}

glimpse_status glimpse_tokenize(const glimpse_model* model, const char* text, size_t n_bytes, int32_t* ids,
                                size_t capacity, size_t* n_ids) {
  return glimpse_tokenize_with(model, text, n_bytes, 0, ids, capacity, n_ids);
}

glimpse_status glimpse_token_bytes(const glimpse_model* model, int32_t id, const char** bytes, size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require_token(model, id));
    GLIMPSE_TRY(require(bytes, "bytes"));
    GLIMPSE_TRY(require(n_bytes, "n_bytes"));
    const std::string_view view = model->model->tokenizer().token_bytes(id, true);
    *bytes = view.data() == nullptr ? "" : view.data();
    *n_bytes = view.size();
    return {};
  });
}

glimpse_status glimpse_detokenize(const glimpse_model* model, const int32_t* ids, size_t n_ids, int32_t render_special,
                                  char* bytes, size_t capacity, size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    if (n_ids > 0) GLIMPSE_TRY(require(ids, "ids"));
    for (size_t i = 0; i < n_ids; ++i) GLIMPSE_TRY(require_token(model, ids[i]));
    const std::string text = model->model->tokenizer().decode({ids, ids + n_ids}, render_special != 0);
    return copy_out(text, "bytes", bytes, capacity, n_bytes);
  });
}

glimpse_status glimpse_token_get_info(const glimpse_model* model, int32_t id, glimpse_token_info* info) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require_token(model, id));
    const Tokenizer& tokenizer = model->model->tokenizer();
    glimpse_token_info filled{};
    filled.type = static_cast<int32_t>(tokenizer.type(id));
    filled.ends_answer = tokenizer.is_end_of_generation(id) ? 1 : 0;
    return write_info(filled, info);
  });
}

glimpse_status glimpse_find_token(const glimpse_model* model, const char* text, int32_t* id) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_TRY(require(text, "text"));
    GLIMPSE_TRY(require(id, "id"));
    *id = model->model->tokenizer().find(text);
    if (*id < 0) return make_error(ErrorCode::kNotFound, "the vocabulary has no token %s", quoted(text));
    return {};
  });
}

glimpse_status glimpse_model_metadata(const glimpse_model* model, int32_t file, const char* key, const char** text,
                                      size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(key, "key"));
    GLIMPSE_TRY(require(n_bytes, "n_bytes"));
    GLIMPSE_TRY(clear_out(text));
    GLIMPSE_ASSIGN(const Metadata* metadata, metadata_of(model, file));
    const auto found = metadata->find(std::string_view(key));
    if (found == metadata->end()) return make_error(ErrorCode::kNotFound, "the file has no key %s", quoted(key));
    *text = found->second.c_str();
    *n_bytes = found->second.size();
    return {};
  });
}

glimpse_status glimpse_model_metadata_key(const glimpse_model* model, int32_t file, size_t index, const char** key) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(key));
    GLIMPSE_ASSIGN(const Metadata* metadata, metadata_of(model, file));
    if (index >= metadata->size()) {
      return make_error(ErrorCode::kNotFound, "key %d: the file has %d", index, metadata->size());
    }
    *key = std::next(metadata->begin(), static_cast<ptrdiff_t>(index))->first.c_str();
    return {};
  });
}

glimpse_status glimpse_render_chat(const glimpse_model* model, const glimpse_message* messages, size_t n_messages,
                                   char* text, size_t capacity, size_t* n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_ASSIGN(const std::vector<Message> converted, read_messages(messages, n_messages));
    GLIMPSE_ASSIGN(const std::string rendered, render_chat(*model->model, converted));
    return copy_out(rendered, "text", text, capacity, n_bytes);
  });
}

}  // extern "C"
