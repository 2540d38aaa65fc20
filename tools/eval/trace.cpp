#include "tools/eval/trace.h"

#include <algorithm>
#include <utility>

#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"
#include "tokenizer/chat.h"
#include "tools/prompt/prompt.h"

namespace glimpse::eval {
namespace {

// Hands activations on until the sink fails.
class Tap {
 public:
  Tap(const TraceInput& input, const ActivationSink& sink) : input_(input), sink_(sink) {}

  TapSink named(std::string prefix) {
    return
        [this, prefix = std::move(prefix)](const std::string& name, const float* values, int64_t rows, int64_t cols) {
          if (!status_.ok()) return;
          if (input_.on_step) input_.on_step(prefix + name);
          if (!wanted(prefix + name)) return;
          status_ = sink_({prefix + name, rows, cols, std::vector<float>(values, values + rows * cols)});
        };
  }
  const Status& status() const { return status_; }

 private:
  bool wanted(const std::string& name) const {
    if (input_.prefixes.empty()) return true;
    return std::any_of(input_.prefixes.begin(), input_.prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  }

  const TraceInput& input_;
  const ActivationSink& sink_;
  Status status_;
};

Result<std::vector<TokenId>> prompt_ids(const Model& model, const TraceInput& input,
                                        const std::vector<ImageEmbedding>& pictures) {
  GLIMPSE_ASSIGN(const auto pieces, prompt::place_pictures(input.prompt, pictures.size(), input.raw));
  std::vector<ChatPart> parts;
  auto picture = pictures.begin();
  for (const prompt::Piece& piece : pieces) {
    if (piece.is_picture) {
      parts.push_back({ChatPart::Kind::kImage, "", (picture++)->n_tokens});
    } else {
      parts.push_back({ChatPart::Kind::kText, piece.text, 0});
    }
  }
  const ChatOptions options = chat_options(model.chat_format());
  GLIMPSE_ASSIGN(TokenizedChat chat, input.raw ? tokenize_raw(model.tokenizer(), parts, options)
                                               : tokenize_chat(model.tokenizer(), {{"user", parts}}, options));
  return std::move(chat.ids);
}

}  // namespace

Result<std::vector<int32_t>> trace(const std::shared_ptr<const Model>& model, const TraceInput& input,
                                   const ActivationSink& sink, const ProgressSink& progress) {
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model->make_ops(input.n_threads));
  Tap tap(input, sink);
  std::vector<ImageEmbedding> pictures;
  for (const std::string& path : input.images) {
    if (!model->has_vision()) {
      return make_error(ErrorCode::kInvalidArgument, "pictures need the vision encoder: give its file with --mmproj");
    }
    GLIMPSE_ASSIGN(const Picture picture, read_picture(path, model->vision(), input.picture_limits));
    GLIMPSE_ASSIGN(const auto encoder, VisionEncoder::create(model, *ops, picture.patches.grid.n_patches()));
    const std::string number = std::to_string(pictures.size()) + "/";
    GLIMPSE_ASSIGN(ImageEmbedding embedding, encoder->encode(picture.patches, tap.named(number), progress));
    if (!tap.status().ok()) return tap.status().error();
    pictures.push_back(std::move(embedding));
  }

  GLIMPSE_ASSIGN(const std::vector<TokenId> ids, prompt_ids(*model, input, pictures));
  if (ids.empty()) return make_error(ErrorCode::kInvalidArgument, "the prompt has no tokens");

  // Pictures' rows, in order: each is the next run of pads.
  const TokenId pad = model->tokenizer().find("<|image_pad|>");
  std::vector<PicturePlace> places;
  int64_t at = 0;
  for (const ImageEmbedding& picture : pictures) {
    at = std::find(ids.begin() + static_cast<ptrdiff_t>(at), ids.end(), pad) - ids.begin();
    places.push_back({at, &picture});
    at = std::min(at + picture.n_tokens, static_cast<int64_t>(ids.size()));
  }
  PassInput rows;
  GLIMPSE_TRY(rows.append(ids, places));

  const int64_t n = rows.n_rows();
  GLIMPSE_ASSIGN(const auto cache, KvCache::create(*model, *ops, n, input.kv_element));
  GLIMPSE_ASSIGN(const auto decoder, TextDecoder::create(model, *ops, n, n));
  std::vector<float> logits(ids.size() * static_cast<size_t>(model->text().vocab_size));
  GLIMPSE_TRY(decoder->forward(*cache, rows.rows(), logits, true, tap.named(""), progress));
  if (!tap.status().ok()) return tap.status().error();
  return ids;
}

}  // namespace glimpse::eval
