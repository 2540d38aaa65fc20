// A directory of embeddings of pictures that were seen before: from one process to the next, and for several at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/base/sha256.h"
#include "engine/model/image_embedding.h"

namespace glimpse {

/// A file of the directory: "GLIC", u32 version (1), the 32 bytes of the content's digest, save_embedding().
std::vector<std::byte> save_cached_embedding(const Sha256Digest& content, const ImageEmbedding& embedding);
/// Errors: those of load_embedding(); kCorrupt for another content than this.
Result<ImageEmbedding> load_cached_embedding(std::span<const std::byte> bytes, const Sha256Digest& content);

/// Files named after their content. When they have more bytes than they may, those go that were used longest ago, by
/// any process: a file's time of modification is when it was used last. Used by one thread.
class EmbeddingFolder {
 public:
  /// path: exists, or is empty: nothing is kept then. n_bytes: of its files at most; 0: no limit. fingerprint, width:
  /// of the encoder; what does not fit them is not taken. log: told of trouble, which is no error.
  EmbeddingFolder(std::string path, uint64_t n_bytes, uint64_t fingerprint, int64_t width, LogSink log);

  bool is_off() const { return path_.empty(); }
  /// nullptr: it is not there. What is damaged is as if it were not there.
  std::shared_ptr<const ImageEmbedding> load(const Sha256Digest& content) const;
  void store(const Sha256Digest& content, const ImageEmbedding& embedding);

 private:
  std::string path_of(const Sha256Digest& content) const;
  void make_room();

  const std::string path_;
  const uint64_t n_bytes_;
  const uint64_t fingerprint_;
  const int64_t width_;
  const LogSink log_;
  uint64_t room_ = 0;  // bytes that may still be written before the files are counted again
};

}  // namespace glimpse
