#include "engine/serve/embedding_cache.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "engine/base/file.h"

namespace glimpse {
namespace {

constexpr char kMagic[4] = {'G', 'L', 'I', 'C'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = sizeof kMagic + sizeof kVersion + sizeof(Sha256Digest);
constexpr uint64_t kMostFileBytes = uint64_t{1} << 30;
// Of one embedding: the same picture comes in several files, but an endless number of them should not be remembered.
constexpr size_t kMostNames = 16;

}  // namespace

std::vector<std::byte> save_cached_embedding(const Sha256Digest& content, const ImageEmbedding& embedding) {
  const std::vector<std::byte> saved = save_embedding(embedding);
  std::vector<std::byte> bytes(kHeaderBytes + saved.size());
  std::memcpy(bytes.data(), kMagic, sizeof kMagic);
  std::memcpy(bytes.data() + sizeof kMagic, &kVersion, sizeof kVersion);
  std::memcpy(bytes.data() + sizeof kMagic + sizeof kVersion, content.data(), content.size());
  std::memcpy(bytes.data() + kHeaderBytes, saved.data(), saved.size());
  return bytes;
}

Result<ImageEmbedding> load_cached_embedding(std::span<const std::byte> bytes, const Sha256Digest& content) {
  if (bytes.size() < kHeaderBytes) {
    return make_error(ErrorCode::kTruncated, "cached embedding: %d bytes, want at least %d", bytes.size(),
                      kHeaderBytes);
  }
  uint32_t version = 0;
  std::memcpy(&version, bytes.data() + sizeof kMagic, sizeof version);
  if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0 || version != kVersion) {
    return make_error(ErrorCode::kCorrupt, "cached embedding: it does not start with 'GLIC' and version %u", kVersion);
  }
  if (std::memcmp(bytes.data() + sizeof kMagic + sizeof kVersion, content.data(), content.size()) != 0) {
    return make_error(ErrorCode::kCorrupt, "cached embedding: it is of another picture than its name says");
  }
  return load_embedding(bytes.subspan(kHeaderBytes));
}

EmbeddingCache::EmbeddingCache(uint64_t n_bytes, std::string directory, uint64_t fingerprint, int64_t width,
                               LogSink log_sink)
    : n_bytes_(n_bytes),
      directory_(std::move(directory)),
      fingerprint_(fingerprint),
      width_(width),
      log_(std::move(log_sink)) {}

std::string EmbeddingCache::path_of(const Sha256Digest& content) const {
  return format("%s/%s.glic", directory_, to_hex(content));
}

EmbeddingCache::Embedding EmbeddingCache::find(const Sha256Digest& name, Sha256Digest* content) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  if (content != nullptr) *content = found->second->content;
  return found->second->embedding;
}

EmbeddingCache::Embedding EmbeddingCache::load(const Sha256Digest& content) {
  if (directory_.empty()) return nullptr;
  const std::string path = path_of(content);
  const auto bytes = read_file(path, kMostFileBytes);
  if (!bytes.ok()) {
    if (bytes.error().code != ErrorCode::kNotFound) log(log_, LogLevel::kWarning, bytes.error().message);
    return nullptr;
  }
  auto loaded = load_cached_embedding(bytes.value(), content);
  if (loaded.ok() && (loaded->fingerprint != fingerprint_ || loaded->width != width_)) {
    loaded = make_error(ErrorCode::kMismatch, "cached embedding: it was made by another vision encoder");
  }
  if (!loaded.ok()) {
    log(log_, LogLevel::kWarning, format("%s: %s; the picture is encoded again", path, loaded.error().message));
    return nullptr;
  }
  Embedding embedding = std::make_shared<ImageEmbedding>(std::move(loaded).value());
  keep(content, embedding);
  return embedding;
}

void EmbeddingCache::add(const Sha256Digest& content, const Embedding& embedding) {
  keep(content, embedding);
  if (directory_.empty()) return;
  const auto store = [&]() -> Status {
    GLIMPSE_ASSIGN(AtomicFileWriter writer,
                   AtomicFileWriter::create(path_of(content), AtomicFileWriter::Existing::kReplace));
    GLIMPSE_TRY(writer.write(save_cached_embedding(content, *embedding)));
    return writer.commit();
  };
  try {
    if (const Status stored = store(); !stored.ok()) {
      log(log_, LogLevel::kWarning, format("the embedding of a picture was not stored: %s", stored.error().message));
    }
  } catch (const std::bad_alloc&) {  // to write it takes as much again: it is there all the same
  }
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
