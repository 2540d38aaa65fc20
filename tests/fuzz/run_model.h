// Loads a pair of files from memory and uses what was loaded: a few tokens through the decoder, a picture of one token
// through the encoder. Whatever the files say, the result is an error with words or finite numbers.
#pragma once

#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/model/check_model.h"
#include "engine/model/model.h"
#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"

namespace glimpse::fuzz {

struct ModelRun {
  std::optional<Error> error;  // of the load, the pass or the picture
  bool loaded = false;
  std::vector<float> values;  // logits and the embedding
};

inline Status run_loaded(const std::shared_ptr<const Model>& model, std::vector<float>& values) {
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model->make_ops(1));
  GLIMPSE_ASSIGN(const auto cache, KvCache::create(*model, *ops, 16, KvElement::kF16));
  GLIMPSE_ASSIGN(const auto decoder, TextDecoder::create(model, *ops, 16, 16));
  const std::vector<TokenId> ids = {1, 2, 3};
  PositionCounter counter;
  std::vector<MropePosition> positions;
  counter.append_text(static_cast<int64_t>(ids.size()), positions);
  values.resize(static_cast<size_t>(model->text().vocab_size));
  GLIMPSE_TRY(decoder->forward(*cache, {ids, positions, {}}, values, false, {}, {}));
  if (!model->has_vision()) return {};
  const int64_t side = model->vision().resize_factor();
  if (side > 256) return {};  // pictures of megapixels: slow, and nothing new
  Image image{static_cast<int32_t>(side), static_cast<int32_t>(side),
              std::vector<uint8_t>(static_cast<size_t>(3 * side * side), 100)};
  GLIMPSE_ASSIGN(const Patches patches, extract_patches(image, model->vision().patch, nullptr));
  GLIMPSE_ASSIGN(const auto encoder, VisionEncoder::create(model, *ops, patches.grid.n_patches()));
  GLIMPSE_ASSIGN(const ImageEmbedding embedding, encoder->encode(patches, {}, {}));
  values.insert(values.end(), embedding.values.begin(), embedding.values.end());
  return {};
}

/// vision: empty: none.
inline ModelRun run_model(const std::string& text, const std::string& vision, bool reference) {
  ModelRun run;
  const auto parse = [](const std::string& bytes) {
    return GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "mutant.gguf");
  };
  ModelOptions options;
  options.n_threads = 1;
  options.use_reference = reference;
  auto text_file = parse(text);
  if (!text_file.ok()) return {text_file.error(), false, {}};
  const std::vector<GgufFinding> findings = check_model(text_file.value());
  std::optional<GgufFile> vision_file;
  if (!vision.empty()) {
    auto file = parse(vision);
    if (!file.ok()) return {file.error(), false, {}};
    vision_file = std::move(file).value();
  }
  const bool alone = !vision_file;
  auto model = Model::load(options, std::move(text_file).value(), std::move(vision_file));
  if (!model.ok()) return {model.error(), false, {}};
  run.loaded = true;
  // What loads without a word, of that inspecting says nothing either.
  for (const GgufFinding& finding : findings) {
    if (alone && finding.text.find("does not load") != std::string::npos) {
      return {make_error(ErrorCode::kInternal, "inspect refuses what loads: %s", finding.text.c_str()), true, {}};
    }
  }
  if (const Status status = run_loaded(model.value(), run.values); !status.ok()) run.error = status.error();
  return run;
}

/// What must hold of any pair of files.
inline bool is_sane(const ModelRun& run) {
  if (run.error) return run.error->code != ErrorCode::kInternal && !run.error->message.empty();
  for (const float value : run.values) {
    if (!std::isfinite(value)) return false;
  }
  return !run.values.empty();
}

}  // namespace glimpse::fuzz
