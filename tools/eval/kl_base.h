// Stored log-probabilities of a reference: what a Kullback-Leibler divergence is measured against.
//
// Two formats, told apart by their first bytes:
//   llama.cpp's, of a text cut into chunks of n_ctx tokens. Written for texts, so that figures of both engines stand on
//     the same reference and the same tokens. Log-probabilities have 16 bits (tools/eval/log_probs.h).
//       "_logits_", int32 n_ctx, int32 n_vocab, int32 n_chunks, int32 tokens[n_chunks * n_ctx],
//       then per chunk the coded rows of positions n_ctx / 2 to n_ctx - 2
//   a GGUF of our own, which also holds sequences of different lengths with pictures in them; log-probabilities are
//     floats. Tensors "0.ids" (int32) and "0.log_probs" (vocab, scored rows) per sequence, keys "glimpse.kl.*".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_writer.h"

namespace glimpse::eval {

/// Tokens that a model is run over. Row i's logits predict token i + 1; rows [first, first + n_scored) count.
struct Sequence {
  std::vector<int32_t> ids;  // pads where a picture's embeddings go
  int64_t first = 0;
  int64_t n_scored = 0;
  std::string image_digest;  // of the picture's pixels; empty: no picture

  bool operator==(const Sequence&) const = default;
};

/// Rows of a text cut as llama-perplexity does it: the second half of each chunk, so that every token has context.
Sequence chunk_of(std::span<const int32_t> ids);

class KlBase {
 public:
  /// Errors: kNotFound, kIo; kCorrupt (neither format, sizes that contradict one another, tokens outside the
  /// vocabulary), kTruncated (says how many bytes are missing).
  static Result<KlBase> open(const std::string& path);
  /// bytes must outlive the object.
  static Result<KlBase> parse(std::span<const std::byte> bytes, const std::string& name);

  int64_t n_vocab() const { return n_vocab_; }
  const std::vector<Sequence>& sequences() const { return sequences_; }
  /// Entries at or below are not to be counted: what a coded row cannot tell apart.
  double floor() const;
  bool coded() const { return !gguf_.has_value(); }
  /// Log-probabilities of scored row `row` of a sequence, (n_vocab). Errors: kCorrupt, kIo, kTruncated.
  Status read_row(size_t sequence, int64_t row, std::span<float> log_probs) const;

 private:
  using ReadAt = std::function<Status(uint64_t offset, std::span<std::byte> out)>;
  static Result<KlBase> read(ReadAt read_at, uint64_t size, const std::string& name);
  Status parse_llama(uint64_t size);
  Status parse_gguf();

  std::string name_;
  ReadAt read_at_;
  std::shared_ptr<File> file_;
  std::optional<GgufFile> gguf_;
  int64_t n_vocab_ = 0;
  uint64_t rows_at_ = 0;  // llama.cpp's format: offset of the first row
  std::vector<Sequence> sequences_;
};

/// Writes either format; rows come in order, sequence by sequence. The file appears whole or not at all.
class KlBaseWriter {
 public:
  enum class Format { kLlama, kGguf };
  /// kLlama: all sequences are chunk_of() the same number of tokens, else kInvalidArgument.
  static Result<KlBaseWriter> create(const std::string& path, AtomicFileWriter::Existing existing, Format format,
                                     int64_t n_vocab, std::span<const Sequence> sequences);
  /// The logits of the next scored row, (n_vocab).
  Status add(std::span<const float> logits);
  /// Errors: kInternal when rows are missing, kIo.
  Status commit();

 private:
  Format format_ = Format::kLlama;
  int64_t n_vocab_ = 0, rows_left_ = 0;
  AtomicFileWriter file_;
  GgufWriter gguf_;
  std::vector<std::byte> buffer_;
  std::vector<float> floats_;
  std::vector<Sequence> sequences_;
  size_t current_ = 0;     // sequence whose rows arrive
  int64_t rows_done_ = 0;  // of it
};

}  // namespace glimpse::eval
