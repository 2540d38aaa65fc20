// Embeddings of pictures that were seen before: in memory, and in a directory.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "engine/base/sha256.h"
#include "engine/model/image_embedding.h"
#include "engine/serve/embedding_folder.h"

namespace glimpse {

/// Keeps embeddings by the digest of their pictures' content, and by any other digest that led to it before (of a
/// file's bytes). Those that were not asked for longest go first. Used by one thread.
class EmbeddingCache {
 public:
  using Embedding = std::shared_ptr<const ImageEmbedding>;

  /// n_bytes: kept in memory at most.
  EmbeddingCache(uint64_t n_bytes, EmbeddingFolder folder);

  /// In memory; nullptr: it is not there. content: nullptr, or where its own digest is left.
  Embedding find(const Sha256Digest& name, Sha256Digest* content);
  /// In the directory, and in memory from then on. What is damaged there is as if it were not there.
  Embedding load(const Sha256Digest& content);
  /// Keeps it, in memory and in the directory.
  void add(const Sha256Digest& content, const Embedding& embedding);
  /// What find() knows it by as well, if it is in memory.
  void add_name(const Sha256Digest& content, const Sha256Digest& name);
  bool is_off() const { return n_bytes_ == 0 && folder_.is_off(); }
  uint64_t bytes_used() const { return used_; }

 private:
  struct Entry {
    Sha256Digest content;
    Embedding embedding;
    uint64_t n_bytes = 0;
    std::vector<Sha256Digest> names;
  };
  void keep(const Sha256Digest& content, const Embedding& embedding);
  void drop_oldest();

  const uint64_t n_bytes_;
  EmbeddingFolder folder_;
  uint64_t used_ = 0;
  std::list<Entry> entries_;  // the one asked for last first
  std::map<Sha256Digest, std::list<Entry>::iterator> by_name_;
};

}  // namespace glimpse
