// Reads the golden cases (tests/golden/make_*.py) and runs a model on them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/kv_cache.h"
#include "engine/model/model.h"
#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"
#include "engine/model/weights.h"
#include "kernels/quant/quant.h"
#include "loaders/gguf/gguf.h"
#include "tests/engine/whole_resize.h"

namespace glimpse::testing {

inline std::string golden_path(const std::string& name) {
  const char* elsewhere = std::getenv("GLIMPSE_TEST_DATA");  // where the programs are not run where they were built
  std::string path = elsewhere != nullptr ? elsewhere : GLIMPSE_TEST_DIR;
  path += "/golden/";
  path += name;
  return path;
}

/// The value of a Result, or a test failure that ends the process with its message.
template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << error_code_name(result.error().code) << ": " << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

#define EXPECT_OK(expression)                                               \
  do {                                                                      \
    const auto expect_ok_result = (expression);                             \
    EXPECT_TRUE(expect_ok_result.ok()) << expect_ok_result.error().message; \
  } while (0)

/// |got - want|^2 / |want|^2 over a whole tensor.
inline double nmse(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(i < got.size() ? got[i] : NAN) - want[i];
    error += difference * difference;
    norm += static_cast<double>(want[i]) * want[i];
  }
  return got.size() == want.size() && norm > 0 ? error / norm : INFINITY;
}

/// One file of inputs and activations.
class GoldenCase {
 public:
  explicit GoldenCase(const std::string& name) : file_(must(GgufFile::open(golden_path(name)))) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  /// Names of the activations: all tensors but the inputs and the continuation.
  std::vector<std::string> activations() const {
    std::vector<std::string> names;
    for (const GgufTensor& tensor : file_.tensors()) {
      const std::string& name = tensor.name;
      const bool input = name == "ids" || name == "positions" || name == "greedy" || name.starts_with("pixels/") ||
                         name.ends_with("/pixel_values");
      if (!input) names.push_back(name);
    }
    return names;
  }
  std::string prompt() const { return must(file_.require_string("prompt")); }

  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) {
      ADD_FAILURE() << file_.path() << " has no " << name;
      std::abort();
    }
    std::vector<T> out(tensor->n_elements());
    EXPECT_EQ(tensor->n_bytes, out.size() * sizeof(T));
    EXPECT_OK(file_.read(*tensor, 0, std::as_writable_bytes(std::span(out))));
    return out;
  }
  std::vector<float> floats(const std::string& name) const { return values<float>(name); }
  std::vector<int32_t> ints(const std::string& name) const { return values<int32_t>(name); }

  std::vector<MropePosition> positions() const {
    std::vector<MropePosition> out;
    const std::vector<int32_t> flat = ints("positions");
    for (size_t i = 0; i + 2 < flat.size(); i += 3) out.push_back({flat[i], flat[i + 1], flat[i + 2]});
    return out;
  }

  std::vector<GridThw> grids() const {
    std::vector<GridThw> out;
    const std::vector<int64_t> flat = must(file_.int_array("grids"));
    for (size_t i = 0; i + 2 < flat.size(); i += 3) out.push_back({flat[i], flat[i + 1], flat[i + 2]});
    return out;
  }
  /// A picture, or the frames of a video, in the order of the prompt.
  struct Visual {
    GridThw grid;
    size_t first = 0, n = 1;  // of pictures()
    bool is_video = false;
  };
  std::vector<Visual> visuals() const {
    std::vector<Visual> out;
    std::vector<int64_t> frames;
    if (file_.find("frames") != nullptr) frames = must(file_.int_array("frames"));
    size_t first = 0;
    for (const GridThw& grid : grids()) {
      const bool video = grid.t > 1;
      const int64_t n = video ? 2 * grid.t : 1;
      const auto count = static_cast<size_t>(frames.empty() ? n : frames[out.size()]);
      out.push_back({grid, first, count, video});
      first += count;
    }
    return out;
  }
  /// Frames a second of its video; 0: not told.
  double fps() const { return file_.find("fps") == nullptr ? 0 : must(file_.require_float("fps")); }

  std::vector<Image> pictures() const {
    std::vector<Image> out;
    for (int i = 0; has("pixels/" + std::to_string(i)); ++i) {
      const std::string name = "pixels/" + std::to_string(i);
      const GgufTensor* tensor = file_.find_tensor(name);
      out.push_back({static_cast<int>(tensor->dims[1]), static_cast<int>(tensor->dims[2]), values<uint8_t>(name)});
    }
    return out;
  }

 private:
  GgufFile file_;
};

/// A picture as the processor of make_golden.py sees it: resized where its sides are no multiples of the token size.
inline Patches patches_of(const Image& image, const VisionConfig& config) {
  const int64_t p = config.patch.patch_size;
  const ImageSize size =
      must(smart_resize(image.height, image.width, config.resize_factor(), ResizeLimits{4 * p * p, 1 << 20}));
  return must(extract_patches(must(resize_bicubic(image, size, nullptr)), config.patch, nullptr));
}

/// What to run on. A further backend is one more line in golden_backends().
struct Backend {
  std::string name;
  bool reference = false;
  std::function<Result<std::unique_ptr<Ops>>(int n_threads)> ops_factory = {};  // a backend beside ref and cpu
  Isa isa = Isa::kRef;
  int n_threads = 1;
  VisionPrecision vision = VisionPrecision::kF32;
  KvElement kv = KvElement::kF32;
  // NMSE that one operation may add.
  double float_op = 1e-11;   // products with float weights, norms, activations
  double half_op = 1e-11;    // products of the F16 decoder
  double vision_op = 1e-11;  // products of the vision encoder's blocks and merger
  double vision_attention = 1e-11;
  double text_attention = 1e-11;
  double quantized_op = 1e-11;     // products of the quantised decoder
  double quantized_heavy = 1e-11;  // the same with heavy-tailed inputs: what comes out of SwiGLU
};
/// What sessions use: bfloat16 in the vision encoder, binary16 caches.
inline Backend usual_of(Backend backend) {
  backend.name += "_usual";
  backend.vision = VisionPrecision::kBf16;
  backend.kv = KvElement::kF16;
  backend.vision_op = 2e-5;
  backend.vision_attention = 5e-5;
  backend.text_attention = 5e-5 / 64;
  return backend;
}

/// GLIMPSE_FORCE_ISA for the life of this object.
class ForcedIsa {
 public:
  explicit ForcedIsa(Isa isa) {
    if (const char* old = std::getenv("GLIMPSE_FORCE_ISA")) old_ = old;
    setenv("GLIMPSE_FORCE_ISA", isa_name(isa), 1);
  }
  ~ForcedIsa() {
    if (old_) {
      setenv("GLIMPSE_FORCE_ISA", old_->c_str(), 1);
    } else {
      unsetenv("GLIMPSE_FORCE_ISA");
    }
  }

 private:
  std::optional<std::string> old_;
};

inline std::shared_ptr<const Model> load_golden(const std::string& folder, const Backend& backend,
                                                const std::string& mmproj = "mmproj.gguf") {
  const ForcedIsa forced(backend.isa);
  ModelOptions options;
  options.model_path = golden_path(folder + "/model.gguf");
  const std::string mmproj_path = golden_path(folder + "/" + mmproj);
  if (!mmproj.empty() && std::filesystem::exists(mmproj_path)) options.mmproj_path = mmproj_path;
  options.use_reference = backend.reference;
  options.ops_factory = backend.ops_factory;
  options.n_threads = backend.n_threads;
  options.vision_precision = backend.vision;
  return must(Model::load(options));
}

inline std::unique_ptr<Ops> make_ops(const Model& model, const Backend& backend) {
  const ForcedIsa forced(backend.isa);
  return must(model.make_ops(backend.n_threads));
}

/// The case's pictures through the vision encoder: embeddings one after another.
inline std::vector<float> encode_pictures(std::shared_ptr<const Model> model, Ops& ops, const GoldenCase& golden,
                                          const std::function<void(int, const std::string&, std::vector<float>)>& see) {
  std::vector<float> embeddings;
  std::vector<Patches> patches;
  int64_t most = 4;
  for (const Image& image : golden.pictures()) {
    patches.push_back(patches_of(image, model->vision()));
    most = std::max(most, patches.back().grid.n_patches());
  }
  if (patches.empty()) return embeddings;
  const auto encoder = must(VisionEncoder::create(model, ops, most));
  int index = 0;
  const TapSink tap = [&](const std::string& name, const float* values, int64_t rows, int64_t cols) {
    if (see) see(index, name, std::vector<float>(values, values + rows * cols));
  };
  const auto append = [&](const ImageEmbedding& e) {
    embeddings.insert(embeddings.end(), e.values.begin(), e.values.end());
    ++index;
  };
  for (const GoldenCase::Visual& visual : golden.visuals()) {
    const std::span<const Patches> parts = std::span(patches).subspan(visual.first, visual.n);
    const TapSink sink = see ? tap : TapSink{};
    append(visual.is_video ? must(encoder->encode_video(parts, sink, {})) : must(encoder->encode(parts[0], sink, {})));
  }
  return embeddings;
}

/// The rows that a case feeds the decoder.
struct CaseInput {
  std::vector<TokenId> ids;  // -1 at picture places
  std::vector<MropePosition> positions;
  std::vector<float> embeddings;

  PassRows view() const { return {ids, positions, embeddings}; }
};

/// A decoder and the cache of one text, which most tests want.
class OneText {
 public:
  static Result<std::unique_ptr<OneText>> create(std::shared_ptr<const Model> model, Ops& ops, int64_t context,
                                                 int64_t batch, KvElement element) {
    auto text = std::make_unique<OneText>();
    GLIMPSE_ASSIGN(text->cache, KvCache::create(*model, ops, context, element));
    GLIMPSE_ASSIGN(text->decoder, TextDecoder::create(std::move(model), ops, context, batch));
    return text;
  }
  Status forward(const PassRows& rows, std::span<float> logits, bool all_logits, const TapSink& tap,
                 const ProgressSink& progress) {
    return decoder->forward(*cache, rows, logits, all_logits, tap, progress);
  }
  Result<std::optional<TokenId>> step(TokenId id, const MropePosition& position, const DrawOptions& draw,
                                      std::span<const float> uniform) {
    const TextDecoder::StepInput input{cache.get(), id, position, draw, uniform};
    TokenId token = 0;
    GLIMPSE_ASSIGN(const bool drawn, decoder->step(std::span(&input, 1), std::span(&token, 1)));
    return drawn ? std::optional(token) : std::nullopt;
  }
  Status last_logits(TokenId id, const MropePosition& position, std::span<float> logits) {
    return decoder->last_logits(*cache, id, position, logits);
  }
  void truncate(int64_t n) { cache->truncate(n); }
  int64_t n_past() const { return cache->n_past(); }

  std::unique_ptr<KvCache> cache;
  std::unique_ptr<TextDecoder> decoder;
};

inline CaseInput case_input(const Model& model, const GoldenCase& golden, std::vector<float> embeddings) {
  CaseInput input;
  input.ids = golden.ints("ids");
  input.positions = golden.positions();
  input.embeddings = std::move(embeddings);
  const TokenId image = model.tokenizer().find("<|image_pad|>"), video = model.tokenizer().find("<|video_pad|>");
  for (TokenId& id : input.ids) {
    if (id == image || id == video) id = -1;
  }
  return input;
}

/// Every case of tests/golden that has a decoder pass: {folder, case file}.
struct CaseName {
  const char* folder;
  const char* file;
};
inline const std::vector<CaseName>& golden_cases() {
  static const std::vector<CaseName> cases = {
      {"tied", "case-text.gguf"},         {"tied", "case-image.gguf"},           {"tied", "case-images.gguf"},
      {"tied", "case-video.gguf"},        {"tied", "case-resize.gguf"},          {"untied", "case-image.gguf"},
      {"untied", "case-images.gguf"},     {"quantized", "case-text.gguf"},       {"qwen3", "case-text.gguf"},
      {"qwen3-f16", "case-text.gguf"},    {"qwen25vl", "case-image.gguf"},       {"qwen25vl", "case-images.gguf"},
      {"qwen25vl", "case-video.gguf"},    {"qwen3vl", "case-image.gguf"},        {"qwen3vl", "case-images.gguf"},
      {"qwen3vl", "case-video.gguf"},     {"qwen3vl", "case-text.gguf"},         {"qwen2moe", "case-text.gguf"},
      {"qwen3moe-f16", "case-text.gguf"}, {"qwen3vlmoe-f16", "case-image.gguf"},
  };
  return cases;
}

}  // namespace glimpse::testing
