// A loaded model: immutable weights of decoder and vision encoder, and the tokenizer. Shared between threads and
// sessions. The two forward passes over it: text_decoder.h, vision_encoder.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/config.h"
#include "engine/model/metadata.h"
#include "engine/runtime/ops.h"
#include "tokenizer/chat_style.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

enum class VisionPrecision { kAuto, kF32, kBf16, kInt8 };

/// Where a model runs. kAuto: the GPU when there is one that this build can use, else the CPU; the log says which.
enum class DeviceKind { kCpu, kCuda, kAuto };

struct ModelOptions {
  std::string model_path;
  std::string mmproj_path;     // empty: text only
  bool use_reference = false;  // run on RefOps
  DeviceKind device = DeviceKind::kCpu;
  std::string device_options;  // of read_device_options(), whatever the device
  /// When set, contexts come from here, whatever `device` says: other backends, tests.
  std::function<Result<std::unique_ptr<Ops>>(int n_threads)> ops_factory;
  int n_threads = 0;  // for loading; sessions choose their own
  VisionPrecision vision_precision = VisionPrecision::kAuto;
  WeightPrecision text_precision = WeightPrecision::kAsStored;
  std::vector<std::string> f32_tensors;  // decoder matrices whose name contains one of these are kept as kF32
  /// Where side files of packed weights are looked for and left, for the next load: a directory that exists or "auto"
  /// (find_pack_folder()); empty: nowhere. What goes wrong with them is a warning, never an error. They are read into
  /// memory and checked whole.
  std::string pack_cache_dir;
  bool map_packs = false;  // map them instead (PackUse::kMap says what that costs)
  LogSink log;
  ProgressSink progress;  // returning false cancels the load
};

struct TextWeights;  // engine/model/weights.h
struct VisionWeights;
class TokenizerReading;  // engine/model/read_tokenizer.h

class Model {
 public:
  ~Model();
  /// Opens, checks and packs both files. Nothing is read into memory before every tensor is checked and the bytes are
  /// known to fit. Errors: those of the loaders; kMismatch when the files do not belong together; kOutOfMemory;
  /// kCancelled.
  static Result<std::shared_ptr<const Model>> load(const ModelOptions& options);
  /// The same from files that are open, or in memory; the paths in options are not looked at.
  static Result<std::shared_ptr<const Model>> load(const ModelOptions& options, GgufFile text_file,
                                                   std::optional<GgufFile> vision_file);

  const TextConfig& text() const { return text_config_; }
  bool has_vision() const { return vision_weights_ != nullptr; }
  const VisionConfig& vision() const { return vision_config_; }
  /// Tells embeddings of other encoders apart, those of the same width too: the same for copies of a vision file,
  /// another for any other file, quantisations of the same model among them. 0 without a vision file.
  uint64_t vision_fingerprint() const { return vision_fingerprint_; }
  /// The same for the text model's file, of which the tokenizer is not looked at.
  uint64_t text_fingerprint() const { return text_fingerprint_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// What the file's chat template renders; of one that is not of Qwen's family the load warns.
  const ChatFormat& chat_format() const { return chat_format_; }
  /// The keys of the text model's file and of the mmproj file; of the latter none without one.
  const Metadata& text_metadata() const { return text_metadata_; }
  const Metadata& vision_metadata() const { return vision_metadata_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  /// Of these, bytes that are mapped from side files: page cache, shared between processes, that the kernel may drop
  /// and read again.
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  /// How the vision encoder keeps the keys and values of a layer: as exactly as its weights were packed. int8: those of
  /// segments that can bear it (Segment::int8).
  KvElement vision_kv_element() const { return vision_kv_element_; }
  bool vision_int8_keys() const { return vision_int8_keys_; }
  /// What the vision encoder's matrices were packed as.
  WeightPrecision vision_precision() const { return vision_precision_; }
  const TextWeights& text_weights() const { return *text_weights_; }
  const VisionWeights& vision_weights() const { return *vision_weights_; }

  /// Where contexts run; never kAuto.
  DeviceKind device() const { return device_; }
  /// A context that can run this model's weights. log: told when not all threads can be had.
  Result<std::unique_ptr<Ops>> make_ops(int n_threads, const LogSink& log = {}) const;

 private:
  struct Files;
  Model();
  Status read_headers(const ModelOptions& options, const Files& files, TokenizerReading& words);
  Status read_weights(const ModelOptions& options, const Files& files, Ops& ops, const std::atomic<bool>& futile);
  TextConfig text_config_;
  VisionConfig vision_config_;
  std::unique_ptr<TextWeights> text_weights_;
  std::unique_ptr<VisionWeights> vision_weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ChatFormat chat_format_;
  uint64_t vision_fingerprint_ = 0, text_fingerprint_ = 0;
  Metadata text_metadata_, vision_metadata_;
  uint64_t weight_bytes_ = 0, mapped_bytes_ = 0;
  KvElement vision_kv_element_ = KvElement::kF32;
  bool vision_int8_keys_ = false;
  bool use_reference_ = false;
  DeviceKind device_ = DeviceKind::kCpu;  // never kAuto
  CudaDecode cuda_decode_ = CudaDecode::kGraph;
  WeightPrecision vision_precision_ = WeightPrecision::kAsStored;
  std::function<Result<std::unique_ptr<Ops>>(int n_threads)> ops_factory_;
};

}  // namespace glimpse
