// A loaded model: immutable weights of decoder and vision encoder, the tokenizer, and the two forward passes' entry
// points. Shared between threads and sessions.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/config.h"
#include "engine/model/positions.h"
#include "engine/preprocess/preprocess.h"
#include "engine/runtime/ops.h"
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
  CudaDecode cuda_decode = CudaDecode::kGraph;
  /// When set, contexts come from here, whatever `device` says: other backends, tests.
  std::function<Result<std::unique_ptr<Ops>>(int n_threads)> ops_factory;
  int n_threads = 0;  // for loading; sessions choose their own
  VisionPrecision vision_precision = VisionPrecision::kAuto;
  WeightPrecision text_precision = WeightPrecision::kAsStored;
  std::vector<std::string> f32_tensors;  // decoder matrices whose name contains one of these are kept as kF32
  /// Where side files of packed weights are looked for and left, to be mapped by the next load; empty: nowhere. The
  /// directory must exist. What goes wrong with them is a warning, never an error.
  std::string pack_cache_dir;
  LogSink log;
  ProgressSink progress;  // returning false cancels the load
};

struct TextWeights;  // engine/model/weights.h
struct VisionWeights;

/// Receives activations by name as a pass computes them; rows in host memory, one call per name and pass (a forward()
/// of several batches calls once per batch, a video once per temporal slice). In model order:
///   v.patch_embd          (N, hidden)   patches after the convolution
///   v.blk.L.q k v         (N, hidden)   queries and keys after rotation, values
///   v.blk.L.attn          (N, hidden)   heads, before the output projection
///   v.blk.L.attn_out      (N, hidden)   residual stream after attention
///   v.blk.L.ffn           (N, ffn)      after the activation function
///   v.blk.L.ffn_out       (N, hidden)   residual stream after the block
///   v.merger              (N / 4, 4 hidden)  after GELU
///   v.embd                (N / 4, decoder hidden)  the embedding
///   embd                  (T, hidden)   decoder input: token and picture embeddings
///   blk.L.q k v attn attn_out ffn ffn_out   likewise; k and v have n_kv_heads * head_dim columns
///   logits                (rows asked for, vocab)
using TapSink = std::function<void(const std::string& name, const float* values, int64_t rows, int64_t cols)>;

class Model {
 public:
  ~Model();
  /// Opens, checks and packs both files. Nothing is read into memory before every tensor is checked and the bytes are
  /// known to fit. Errors: those of the loaders; kMismatch when the files do not belong together; kOutOfMemory;
  /// kCancelled.
  static Result<std::shared_ptr<const Model>> load(const ModelOptions& options);

  const TextConfig& text() const { return text_config_; }
  bool has_vision() const { return vision_weights_ != nullptr; }
  const VisionConfig& vision() const { return vision_config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::string& chat_template() const { return chat_template_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  /// Of these, bytes that are mapped from side files: page cache, shared between processes, that the kernel may drop
  /// and read again.
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  /// How the vision encoder keeps the keys and values of a layer: as exactly as its weights were packed.
  KvElement vision_kv_element() const { return vision_kv_element_; }
  const TextWeights& text_weights() const { return *text_weights_; }
  const VisionWeights& vision_weights() const { return *vision_weights_; }

  /// A context that can run this model's weights.
  Result<std::unique_ptr<Ops>> make_ops(int n_threads) const;

 private:
  Model();
  TextConfig text_config_;
  VisionConfig vision_config_;
  std::unique_ptr<TextWeights> text_weights_;
  std::unique_ptr<VisionWeights> vision_weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string chat_template_;
  uint64_t weight_bytes_ = 0, mapped_bytes_ = 0;
  KvElement vision_kv_element_ = KvElement::kF32;
  bool use_reference_ = false;
  DeviceKind device_ = DeviceKind::kCpu;  // never kAuto
  CudaDecode cuda_decode_ = CudaDecode::kGraph;
  std::function<Result<std::unique_ptr<Ops>>(int n_threads)> ops_factory_;
};

/// What the vision encoder makes of a picture: rows that stand in for token embeddings. Independent of the text around
/// it: cacheable, savable.
struct ImageEmbedding {
  GridThw grid;  // patches, unmerged
  int64_t merge_size = 2;
  int64_t n_tokens = 0;       // grid.t * grid.h * grid.w / merge_size^2
  int64_t width = 0;          // the decoder's hidden_size
  ImageSize original;         // pixels of the picture as given (upright); the caller sets it
  ImageSize resized;          // pixels that the encoder saw
  std::vector<float> values;  // (n_tokens, width)
};

/// Bytes in a versioned little-endian format (magic "GLIE"), and back. Errors of load: kCorrupt, kTruncated.
std::vector<std::byte> save_embedding(const ImageEmbedding& embedding);
Result<ImageEmbedding> load_embedding(std::span<const std::byte> bytes);

/// The vision encoder's scratch memory, sized once for a number of patches. One per session.
class VisionEncoder {
 public:
  ~VisionEncoder();
  /// max_patches: of one temporal slice. Errors: kOutOfMemory.
  static Result<std::unique_ptr<VisionEncoder>> create(std::shared_ptr<const Model> model, Ops& ops,
                                                       int64_t max_patches);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t max_patches);

  /// Runs the encoder on one still picture's patches. Errors: kTooLarge (more patches than planned), kNumeric (a NaN or
  /// infinity, names the layer), kCancelled.
  Result<ImageEmbedding> encode(const Patches& patches, const TapSink& tap, const ProgressSink& progress);
  /// Runs the encoder on the frames of a video, two per temporal slice (an odd last frame counts twice); grid.t is the
  /// number of pairs. Attention stays inside a slice. Errors: as encode(); kInvalidArgument for no frames or frames of
  /// different sizes.
  Result<ImageEmbedding> encode_video(std::span<const Patches> frames, const TapSink& tap,
                                      const ProgressSink& progress);

 private:
  VisionEncoder();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Key/value cache and scratch of one conversation, and the decoder's forward pass over it.
class TextDecoder {
 public:
  ~TextDecoder();
  /// context: positions of the cache (rounded up to a multiple of 256); batch: most rows of one pass.
  static Result<std::unique_ptr<TextDecoder>> create(std::shared_ptr<const Model> model, Ops& ops, int64_t context,
                                                     int64_t batch, KvElement kv_element);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t context, int64_t batch, KvElement kv_element);

  int64_t context() const;  // as asked for
  int64_t batch() const;
  int64_t n_past() const;  // cache slots filled
  /// Forgets everything after slot n (0 <= n <= n_past()).
  void truncate(int64_t n);

  /// One row of input: a token, or a row of a picture's embedding.
  struct Input {
    std::span<const TokenId> ids;              // -1 where an embedding row stands in
    std::span<const MropePosition> positions;  // one per id
    std::span<const float> embeddings;         // (number of -1 ids, hidden_size), in order
  };
  /// Appends any number of rows (cut into passes of `batch`). logits: empty, or (vocab_size) floats for the last row,
  /// or (n, vocab_size) for all rows when all_logits. Errors: kContextFull (says how many slots are left),
  /// kInvalidArgument (an id outside the vocabulary), kNumeric, kCancelled (progress returned false; the cache is as
  /// before the call).
  Status forward(const Input& input, std::span<float> logits, bool all_logits, const TapSink& tap,
                 const ProgressSink& progress);

  /// Appends the text token `id` and lets the backend draw the one that follows, as forward() and a draw in one;
  /// further steps may be begun before they are asked for. uniform: numbers in [0, 1], the luck of this draw and of the
  /// next ones; as many steps are begun at most, so none past the last slot of the context or the end of an answer is
  /// when the caller gives no more. nullopt: the backend cannot, or the step's logits were not finite; nothing was
  /// appended, and forward() does it or has the error. Errors: kContextFull, kInvalidArgument, kDevice.
  Result<std::optional<TokenId>> step(TokenId id, const MropePosition& position, const DrawOptions& draw,
                                      std::span<const float> uniform);
  /// The logits of the last slot, into which `id` went at `position`, computed again: (vocab_size). Errors: kNumeric,
  /// kDevice, kInvalidArgument when no slot is filled.
  Status last_logits(TokenId id, const MropePosition& position, std::span<float> logits);

 private:
  TextDecoder();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse
