#include "engine/model/model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "engine/base/cpu_features.h"
#include "engine/model/one_file.h"
#include "engine/model/pack_cache.h"
#include "engine/model/read_tokenizer.h"
#include "engine/model/unused_tensors.h"
#include "engine/model/weights.h"

namespace glimpse {
namespace {

// Room for what the load itself needs beside the weights: read buffers of all threads, the vocabulary.
constexpr uint64_t kLoadOverhead = 64u << 20;

// The precision of the vision encoder's matrices. bfloat16 halves float weights' bytes and multiplies fastest on a GPU
// and where the CPU has dot products for it; elsewhere, and in the oracle, weights stay what the file says.
Result<WeightPrecision> vision_weight_precision(const ModelOptions& options, DeviceKind device) {
  switch (options.vision_precision) {
    case VisionPrecision::kF32:
      return WeightPrecision::kF32;
    case VisionPrecision::kBf16:
      return WeightPrecision::kBf16;
    case VisionPrecision::kInt8:
      return WeightPrecision::kInt8;
    case VisionPrecision::kAuto:
      break;
  }
  if (options.use_reference) return WeightPrecision::kAsStored;
  if (device == DeviceKind::kCuda) return WeightPrecision::kBf16;
  GLIMPSE_ASSIGN(const Isa isa, selected_isa());
  return isa.has(Isa::kAvx512Bf16) ? WeightPrecision::kBf16 : WeightPrecision::kAsStored;
}

// kAuto becomes what there is.
DeviceKind choose_device(const ModelOptions& options) {
  if (options.device != DeviceKind::kAuto || options.ops_factory) return options.device;
  const auto ops = make_cuda_ops(CudaOpsOptions{.n_threads = 1, .log = options.log});
  if (ops.ok()) return DeviceKind::kCuda;
  log(options.log, LogLevel::kInfo, "device auto: the CPU, because " + ops.error().message);
  return DeviceKind::kCpu;
}

// available: bytes that the backend could still allocate. mapped_bytes: of the weights, those that the page cache holds
// and may drop.
Status check_memory(uint64_t available, uint64_t text_bytes, uint64_t vision_bytes, uint64_t mapped_bytes) {
  const double mib = 1 << 20;
  if (text_bytes + vision_bytes - mapped_bytes + kLoadOverhead <= available) return {};
  return make_error(ErrorCode::kOutOfMemory,
                    "the weights need %.0f MiB (text %.0f, vision %.0f), %.0f MiB of memory are available",
                    static_cast<double>(text_bytes + vision_bytes) / mib, static_cast<double>(text_bytes) / mib,
                    static_cast<double>(vision_bytes) / mib, static_cast<double>(available) / mib);
}

// Whether the encoder's embeddings are what the decoder takes.
Status check_pair(const GgufFile& text_file, const TextConfig& text, const GgufFile& vision_file,
                  const VisionConfig& vision) {
  if (vision.projection_dim != text.hidden_size) {
    return make_error(ErrorCode::kMismatch,
                      "%s makes %d-wide image embeddings, %s expects %d: these two files do not belong together",
                      vision_file.path(), vision.projection_dim, text_file.path(), text.hidden_size);
  }
  if (vision.embedding_width() != text.embedding_width()) {
    return make_error(ErrorCode::kMismatch,
                      "%s makes image embeddings for %d layers of the decoder, %s takes them in %d: these two files do "
                      "not belong together",
                      vision_file.path(), vision.deepstack_layers.size(), text_file.path(), text.num_deepstack_layers);
  }
  return {};
}

int n_load_threads(const ModelOptions& options) {
  return options.n_threads > 0 ? options.n_threads : available_cpus();
}

PackCache open_cache(const ModelOptions& options, const GgufFile& file, WeightPrecision precision,
                     const WeightReader& checked, const PackCache* beside = nullptr) {
  if (options.pack_cache_dir.empty()) return {};
  if (checked.pack_records().empty()) {
    log(options.log, LogLevel::kWarning, "this backend keeps no packed weights: the directory for them is not used");
    return {};
  }
  return PackCache::open(options.pack_cache_dir, file, precision, checked.pack_records(),
                         options.map_packs ? PackUse::kMap : PackUse::kRead, beside, n_load_threads(options),
                         options.log);
}

}  // namespace

Model::Model() = default;
Model::~Model() = default;

Result<std::unique_ptr<Ops>> Model::make_ops(int n_threads, const LogSink& log) const {
  if (ops_factory_) return ops_factory_(n_threads);
  if (use_reference_) return make_ref_ops();
  if (device_ == DeviceKind::kCuda) {
    return make_cuda_ops(CudaOpsOptions{.n_threads = n_threads, .decode = cuda_decode_, .log = log});
  }
  return make_cpu_ops(CpuOpsOptions{.n_threads = n_threads, .log = log});
}

Result<std::shared_ptr<const Model>> Model::load(const ModelOptions& options) {
  GLIMPSE_ASSIGN(GgufFile text_file, GgufFile::open(options.model_path));
  std::optional<GgufFile> vision_file;
  if (!options.mmproj_path.empty()) {
    GLIMPSE_ASSIGN(vision_file, GgufFile::open(options.mmproj_path));
    if (has_vision_inside(*vision_file)) {
      GLIMPSE_ASSIGN(vision_file, vision_inside(*vision_file));
    }
  }
  return load(options, std::move(text_file), std::move(vision_file));
}

struct Model::Files {
  GgufFile text;
  std::optional<GgufFile> vision;
  bool in_one = false;  // both are read from the text model's
};

// What the files say of themselves: configuration, vocabulary, metadata.
Status Model::read_headers(const ModelOptions& options, const Files& files, TokenizerReading& words) {
  GLIMPSE_ASSIGN(text_config_, read_text_config(files.text));
  if (files.vision) {
    GLIMPSE_ASSIGN(vision_config_, read_vision_config(*files.vision));
    GLIMPSE_TRY(check_pair(files.text, text_config_, *files.vision, vision_config_));
    if (!text_config_.sees_pictures()) {
      log(options.log, LogLevel::kWarning,
          format(
              "%s is a %s model, whose positions have one dimension: it was not trained on pictures, and what it says "
              "about them will be wrong; take the language model that %s was made with",
              files.text.path(), text_config_.architecture, files.vision->path()));
    }
    vision_metadata_ = read_metadata(*files.vision);
    GLIMPSE_ASSIGN(vision_fingerprint_, files.vision->fingerprint("clip."));
  }
  GLIMPSE_TRY(words.start(files.text, text_config_, n_load_threads(options) > 1));
  GLIMPSE_ASSIGN(const auto chat_template, files.text.optional_string("tokenizer.chat_template"));
  chat_format_ = recognise_chat_format(chat_template.value_or(""), text_config_.architecture.starts_with("qwen3"));
  if (!chat_format_.is_chatml) {
    log(options.log, LogLevel::kWarning,
        format("%s: its chat template is of %s, not of Qwen's family: prompts are written as ChatML all the same; with "
               "another format write them yourself and give them raw",
               files.text.path(), chat_format_.name));
  }
  text_metadata_ = read_metadata(files.text);
  GLIMPSE_ASSIGN(text_fingerprint_, files.text.fingerprint(format("%s.", text_config_.architecture)));
  return {};
}

// First every tensor is checked and counted, then the weights are read.
Status Model::read_weights(const ModelOptions& options, const Files& files, Ops& ops, const std::atomic<bool>& futile) {
  GLIMPSE_ASSIGN(const WeightPrecision vision_precision, vision_weight_precision(options, device_));
  // A GPU has neither kernels nor need for int8 pictures: bfloat16 is as fast there.
  vision_precision_ = vision_precision;
  const bool int8 = vision_precision == WeightPrecision::kInt8;
  vision_int8_keys_ = int8 && device_ != DeviceKind::kCuda;
  vision_kv_element_ = int8 || vision_precision == WeightPrecision::kBf16 ? KvElement::kBf16 : KvElement::kF32;
  WeightReader text_check = WeightReader::checker(files.text, ops);
  text_check.keep_f32(options.f32_tensors);
  GLIMPSE_TRY(read_text_weights(text_check, text_config_, options.text_precision));
  std::set<std::string> used = text_check.used();
  for (const GgufTensor& tensor : files.text.tensors()) {
    if (files.in_one && is_vision_tensor(tensor.name)) used.insert(tensor.name);
  }
  GLIMPSE_TRY(refuse_unused_tensors(files.text, used, ModelSide::kText, text_config_.num_hidden_layers, options.log));
  uint64_t vision_bytes = 0;
  std::optional<WeightReader> vision_check;
  if (files.vision) {
    vision_check.emplace(WeightReader::checker(*files.vision, ops));
    GLIMPSE_TRY(read_vision_weights(*vision_check, vision_config_, vision_precision));
    GLIMPSE_TRY(refuse_unused_tensors(*files.vision, vision_check->used(), ModelSide::kVision,
                                      vision_config_.num_hidden_layers, options.log));
    vision_bytes = vision_check->n_bytes();
  }
  weight_bytes_ = text_check.n_bytes() + vision_bytes;
  PackCache text_cache = open_cache(options, files.text, options.text_precision, text_check), vision_cache;
  uint64_t to_be_mapped = text_cache.is_mapped() ? text_check.n_packed_bytes() : 0;
  if (vision_check) {
    vision_cache = open_cache(options, *files.vision, vision_precision, *vision_check, &text_cache);
    if (vision_cache.is_mapped()) to_be_mapped += vision_check->n_packed_bytes();
  }
  GLIMPSE_TRY(check_memory(ops.available_bytes(), text_check.n_bytes(), vision_bytes, to_be_mapped));

  LoadProgress progress{&options.progress, 0, weight_bytes_, &futile};
  GLIMPSE_TRY(progress.advance(0));
  WeightReader text_reader = WeightReader::loader(files.text, ops, progress, text_cache);
  text_reader.keep_f32(options.f32_tensors);
  GLIMPSE_ASSIGN(TextWeights text, read_text_weights(text_reader, text_config_, options.text_precision));
  text_weights_ = std::make_unique<TextWeights>(std::move(text));
  text_cache.finish();
  if (files.vision) {
    WeightReader reader = WeightReader::loader(*files.vision, ops, progress, vision_cache);
    GLIMPSE_ASSIGN(VisionWeights vision, read_vision_weights(reader, vision_config_, vision_precision));
    vision_weights_ = std::make_unique<VisionWeights>(std::move(vision));
    vision_cache.finish();
  }
  mapped_bytes_ = text_cache.mapped_bytes() + vision_cache.mapped_bytes();
  return {};
}

Result<std::shared_ptr<const Model>> Model::load(const ModelOptions& options, GgufFile text_file,
                                                 std::optional<GgufFile> vision_file) {
  const bool in_one = has_vision_inside(text_file) && (!vision_file || vision_file->path() == text_file.path());
  if (in_one && !vision_file) {
    GLIMPSE_ASSIGN(vision_file, vision_inside(text_file));
  }
  const Files files{std::move(text_file), std::move(vision_file), in_one};
  const std::shared_ptr<Model> model(new Model());
  model->use_reference_ = options.use_reference;
  model->ops_factory_ = options.ops_factory;
  CudaOpsOptions device_options;
  GLIMPSE_TRY(read_device_options(options.device_options, device_options));
  model->cuda_decode_ = device_options.decode;
  model->device_ = options.use_reference ? DeviceKind::kCpu : choose_device(options);
  TokenizerReading words;
  GLIMPSE_TRY(model->read_headers(options, files, words));
  const TextConfig& text = model->text_config_;
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model->make_ops(options.n_threads, options.log));
  const Status weights = model->read_weights(options, files, *ops, words.failed());
  GLIMPSE_ASSIGN(model->tokenizer_, words.finish());  // before the weights' error, which may be its consequence
  if (!weights.ok()) return weights.error();
  log(options.log, LogLevel::kInfo,
      format("%s: %s, %d layers, width %d, %.0f MiB of weights (%.0f of them mapped) on %s", files.text.path(),
             text.architecture, text.num_hidden_layers, text.hidden_size,
             static_cast<double>(model->weight_bytes_) / (1 << 20),
             static_cast<double>(model->mapped_bytes_) / (1 << 20), ops->describe()));
  return std::shared_ptr<const Model>(model);
}

}  // namespace glimpse
