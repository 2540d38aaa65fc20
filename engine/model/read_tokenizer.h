// The tokenizer that a text model's file carries.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "engine/base/own_thread.h"
#include "engine/base/result.h"
#include "engine/model/config.h"
#include "loaders/gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// Errors: kCorrupt (no vocabulary, or one larger than the embedding), those of Tokenizer::create().
Result<std::unique_ptr<Tokenizer>> read_tokenizer(const GgufFile& file, const TextConfig& config);

/// The same beside the reading of weights: a vocabulary of 150,000 words takes about as long as a hundred megabytes.
class TokenizerReading {
 public:
  TokenizerReading() = default;
  TokenizerReading(const TokenizerReading&) = delete;
  TokenizerReading& operator=(const TokenizerReading&) = delete;
  ~TokenizerReading() { thread_.join(); }

  /// file and config stay as they are until finish(). beside: on a thread of its own, where one can be had and the
  /// vocabulary is worth it; otherwise the whole work, with its errors.
  Status start(const GgufFile& file, const TextConfig& config, bool beside);
  /// True as soon as finish() is known to be an error.
  const std::atomic<bool>& failed() const { return failed_; }
  /// Once, after start(). Errors: those of read_tokenizer(), kOutOfMemory.
  Result<std::unique_ptr<Tokenizer>> finish();

 private:
  void read(const GgufFile& file, const TextConfig& config) noexcept;

  std::optional<Result<std::unique_ptr<Tokenizer>>> result_;  // nothing: memory ran out
  std::atomic<bool> failed_{false};
  OwnThread thread_;
};

}  // namespace glimpse
