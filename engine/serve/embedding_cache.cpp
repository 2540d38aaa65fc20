#include "engine/serve/embedding_cache.h"

#include <utility>

namespace glimpse {
namespace {

// Of one embedding: the same picture comes in several files, but an endless number of them should not be remembered.
constexpr size_t kMostNames = 16;

}  // namespace

EmbeddingCache::EmbeddingCache(uint64_t n_bytes, EmbeddingFolder folder)
    : n_bytes_(n_bytes), folder_(std::move(folder)) {}

EmbeddingCache::Embedding EmbeddingCache::find(const Sha256Digest& name, Sha256Digest* content) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  if (content != nullptr) *content = found->second->content;
  return found->second->embedding;
}

EmbeddingCache::Embedding EmbeddingCache::load(const Sha256Digest& content) {
  Embedding embedding = folder_.load(content);
  if (embedding != nullptr) keep(content, embedding);
  return embedding;
}

void EmbeddingCache::add(const Sha256Digest& content, const Embedding& embedding) {
  keep(content, embedding);
  folder_.store(content, *embedding);
}

void EmbeddingCache::keep(const Sha256Digest& content, const Embedding& embedding) {
  const uint64_t size = sizeof(ImageEmbedding) + embedding->values.size() * sizeof(float);
  if (size > n_bytes_ || by_name_.count(content) > 0) return;
  while (used_ + size > n_bytes_) drop_oldest();
  entries_.push_front({content, embedding, size, {}});
  try {
    by_name_.emplace(content, entries_.begin());
  } catch (...) {
    entries_.pop_front();
    throw;
  }
  used_ += size;
}

void EmbeddingCache::add_name(const Sha256Digest& content, const Sha256Digest& name) {
  const auto found = by_name_.find(content);
  if (found == by_name_.end()) return;
  Entry& entry = *found->second;
  if (entry.names.size() >= kMostNames || by_name_.count(name) > 0) return;
  entry.names.reserve(kMostNames);
  by_name_.emplace(name, found->second);
  entry.names.push_back(name);
}

void EmbeddingCache::drop_oldest() {
  const Entry& oldest = entries_.back();
  for (const Sha256Digest& name : oldest.names) by_name_.erase(name);
  by_name_.erase(oldest.content);
  used_ -= oldest.n_bytes;
  entries_.pop_back();
}

}  // namespace glimpse
