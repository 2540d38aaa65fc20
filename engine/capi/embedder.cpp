// glimpse_embedder_*: texts and pictures to vectors, documents to scores.
#include "engine/generate/embedder.h"

#include <algorithm>

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

struct glimpse_embedder : Usable {
  static constexpr const char* kName = "embedder";
  std::unique_ptr<Embedder> embedder;
  Family family;  // none
  void call_ended() const {}
};

namespace {

using EmbedderUse = Use<glimpse_embedder>;

Result<EmbedInput> read_input(const glimpse_input& given, const char* what, size_t number) {
  glimpse_message message{};
  message.role = "user";
  message.parts = given.parts;
  message.n_parts = given.n_parts;
  Result<std::vector<Message>> read = read_messages(&message, 1);
  if (!read.ok()) return with_context(read.error(), format("%s %d", what, number));
  return std::move(read.value()[0].parts);
}

Result<std::vector<EmbedInput>> read_inputs(const glimpse_input* given, const char* what, size_t n) {
  if (n > 0) GLIMPSE_TRY(require(given, what));
  std::vector<EmbedInput> inputs;
  for (size_t i = 0; i < n; ++i) {
    GLIMPSE_ASSIGN(EmbedInput input, read_input(given[i], what, i + 1));
    inputs.push_back(std::move(input));
  }
  return inputs;
}

Result<std::optional<Pooling>> read_pooling(int32_t pooling) {
  switch (pooling) {
    case GLIMPSE_POOLING_FILE:
      return std::optional<Pooling>();
    case GLIMPSE_POOLING_MEAN:
      return std::optional(Pooling::kMean);
    case GLIMPSE_POOLING_CLS:
      return std::optional(Pooling::kCls);
    case GLIMPSE_POOLING_LAST:
      return std::optional(Pooling::kLast);
    default:
      return make_error(ErrorCode::kInvalidArgument, "pooling %d is unknown", pooling);
  }
}

Result<glimpse_embed_params> read_embed_params(const glimpse_embed_params* given) {
  glimpse_embed_params params;
  glimpse_embed_params_init(&params, sizeof params);
  if (given != nullptr) GLIMPSE_TRY(read_params(given, &params));
  return params;
}

}  // namespace

extern "C" {

size_t glimpse_embed_params_init(glimpse_embed_params* params, size_t struct_size) {
  return init_params(params, struct_size, [](auto*) {});
}

glimpse_status glimpse_embedder_create(const glimpse_model* model, const glimpse_session_params* params,
                                       glimpse_embedder** out) {
  return give_made(model, params, out, session_options,
                   [](auto& handle, const auto& of, const auto& options) -> Status {
                     GLIMPSE_ASSIGN(handle.embedder, Embedder::create(of, options));
                     return {};
                   });
}

void glimpse_embedder_free(glimpse_embedder* embedder) {
  free_handle(embedder);
}

glimpse_status glimpse_embedder_embed(glimpse_embedder* embedder, const glimpse_input* inputs, size_t n_inputs,
                                      const glimpse_embed_params* given, float* vectors, size_t capacity,
                                      size_t* n_floats) {
  return guarded([&]() -> Status {
    EmbedderUse use;
    GLIMPSE_TRY(use.begin(embedder));
    GLIMPSE_TRY(require(n_floats, "n_floats"));
    GLIMPSE_ASSIGN(const glimpse_embed_params params, read_embed_params(given));
    GLIMPSE_ASSIGN(const std::vector<EmbedInput> read, read_inputs(inputs, "input", n_inputs));
    const auto width = static_cast<size_t>(embedder->embedder->model().text().hidden_size);
    *n_floats = n_inputs * width;
    if (capacity == 0) return {};
    GLIMPSE_TRY(require(vectors, "vectors"));
    if (capacity < *n_floats) {
      return make_error(ErrorCode::kTooLarge, "vectors: there are %d floats, there is room for %d", *n_floats,
                        capacity);
    }
    EmbedOptions options;
    if (params.instruction != nullptr) options.instruction = params.instruction;
    options.normalize = params.keep_length == 0;
    GLIMPSE_ASSIGN(options.pooling, read_pooling(params.pooling));
    GLIMPSE_ASSIGN(const auto made,
                   embedder->embedder->embed(read, options, progress_sink(params.progress, params.progress_user)));
    for (size_t i = 0; i < made.size(); ++i) std::copy(made[i].begin(), made[i].end(), vectors + i * width);
    return {};
  });
}

glimpse_status glimpse_embedder_rank(glimpse_embedder* embedder, const glimpse_input* query,
                                     const glimpse_input* documents, size_t n_documents,
                                     const glimpse_embed_params* given, float* scores) {
  return guarded([&]() -> Status {
    EmbedderUse use;
    GLIMPSE_TRY(use.begin(embedder));
    GLIMPSE_TRY(require(query, "query"));
    if (n_documents > 0) GLIMPSE_TRY(require(scores, "scores"));
    GLIMPSE_ASSIGN(const glimpse_embed_params params, read_embed_params(given));
    GLIMPSE_ASSIGN(const EmbedInput question, read_input(*query, "query", 1));
    GLIMPSE_ASSIGN(const std::vector<EmbedInput> read, read_inputs(documents, "document", n_documents));
    RankOptions options;
    if (params.instruction != nullptr) options.instruction = params.instruction;
    GLIMPSE_ASSIGN(
        const std::vector<float> made,
        embedder->embedder->rank(question, read, options, progress_sink(params.progress, params.progress_user)));
    std::copy(made.begin(), made.end(), scores);
    return {};
  });
}

}  // extern "C"
