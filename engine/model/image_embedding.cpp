// Image embeddings as bytes. Layout, little-endian:
//   "GLIE", u32 version (2), i64 grid t, h, w, merge_size, n_tokens, width, original width, height, resized width,
//   height, u64 fingerprint of the encoder, u64 hash of everything else, then n_tokens * width floats.
// Version 1 had neither fingerprint nor hash.
#include "engine/model/image_embedding.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "engine/base/checked.h"
#include "engine/base/hash.h"

namespace glimpse {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[4] = {'G', 'L', 'I', 'E'};
constexpr uint32_t kVersion = 2;
constexpr size_t kFields = 10;
constexpr size_t kFieldsAt = sizeof kMagic + sizeof kVersion;
constexpr size_t kFingerprintAt = kFieldsAt + kFields * sizeof(int64_t);
constexpr size_t kHashAt = kFingerprintAt + sizeof(uint64_t);
constexpr size_t kHeaderBytes = kHashAt + sizeof(uint64_t);
constexpr int64_t kMaxField = int64_t{1} << 30;

// Of a whole embedding, but for its own place.
uint64_t embedding_hash(std::span<const std::byte> bytes) {
  Hash64 hash;
  hash.add(bytes.first(kHashAt));
  hash.add(bytes.subspan(kHeaderBytes));
  return hash.value();
}

}  // namespace

void seal_embedding(std::span<std::byte> bytes) {
  const uint64_t hash = embedding_hash(bytes);
  std::memcpy(bytes.data() + kHashAt, &hash, sizeof hash);
}

std::vector<std::byte> save_embedding(const ImageEmbedding& e) {
  const int64_t fields[kFields] = {e.grid.t, e.grid.h,         e.grid.w,          e.merge_size,    e.n_tokens,
                                   e.width,  e.original.width, e.original.height, e.resized.width, e.resized.height};
  std::vector<std::byte> bytes(kHeaderBytes + e.values.size() * sizeof(float));
  std::byte* out = bytes.data();
  const auto put = [&](const void* data, size_t size) {
    if (size > 0) std::memcpy(out, data, size);
    out += size;
  };
  put(kMagic, sizeof kMagic);
  put(&kVersion, sizeof kVersion);
  put(fields, sizeof fields);
  put(&e.fingerprint, sizeof e.fingerprint);
  out += sizeof(uint64_t);  // the hash
  put(e.values.data(), e.values.size() * sizeof(float));
  seal_embedding(bytes);
  return bytes;
}

namespace {

// Magic, version and the bytes of the header are there.
Status check_beginning(std::span<const std::byte> bytes) {
  if (bytes.size() < kFieldsAt) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes, want at least %d", bytes.size(), kHeaderBytes);
  }
  if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    return make_error(ErrorCode::kCorrupt, "image embedding: does not start with 'GLIE'");
  }
  uint32_t version = 0;
  std::memcpy(&version, bytes.data() + sizeof kMagic, sizeof version);
  if (version != kVersion) {
    return make_error(ErrorCode::kUnsupported, "image embedding: version %d, want %d: %s", version, kVersion,
                      version < kVersion ? "it was made by an older glimpse, encode the picture again"
                                         : "it was made by a newer glimpse");
  }
  if (bytes.size() < kHeaderBytes) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes, want at least %d", bytes.size(), kHeaderBytes);
  }
  return {};
}

// The header, whose numbers fit one another; no values yet.
Result<ImageEmbedding> read_fields(std::span<const std::byte> bytes) {
  int64_t fields[kFields];
  std::memcpy(fields, bytes.data() + kFieldsAt, sizeof fields);
  for (size_t i = 0; i < kFields; ++i) {
    if (fields[i] < 1 || fields[i] > kMaxField) {
      return make_error(ErrorCode::kCorrupt, "image embedding: field %d is %d, want 1 to %d", i, fields[i], kMaxField);
    }
  }
  ImageEmbedding e;
  e.grid = {fields[0], fields[1], fields[2]};
  e.merge_size = fields[3];
  e.n_tokens = fields[4];
  e.width = fields[5];
  e.original = {fields[6], fields[7]};
  e.resized = {fields[8], fields[9]};
  // Fields are at most 2^30, so a product of two fits.
  const bool whole = e.grid.h % e.merge_size == 0 && e.grid.w % e.merge_size == 0;
  const auto tokens = checked_mul(static_cast<uint64_t>(e.grid.t),
                                  static_cast<uint64_t>(e.grid.h / e.merge_size * (e.grid.w / e.merge_size)));
  if (!whole || !tokens || *tokens != static_cast<uint64_t>(e.n_tokens)) {
    return make_error(ErrorCode::kCorrupt, "image embedding: %d tokens do not fit a grid of %d x %d x %d", e.n_tokens,
                      e.grid.t, e.grid.h, e.grid.w);
  }
  return e;
}

}  // namespace

Result<ImageEmbedding> load_embedding(std::span<const std::byte> bytes) {
  GLIMPSE_TRY(check_beginning(bytes));
  GLIMPSE_ASSIGN(ImageEmbedding e, read_fields(bytes));
  const uint64_t want = static_cast<uint64_t>(e.n_tokens * e.width);  // at most 2^60
  const uint64_t have = bytes.size() - kHeaderBytes;
  if (have / sizeof(float) < want) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes of values, want %d values", have, want);
  }
  if (have != want * sizeof(float)) {
    return make_error(ErrorCode::kCorrupt, "image embedding: bytes after the last value");
  }
  uint64_t hash = 0;
  std::memcpy(&e.fingerprint, bytes.data() + kFingerprintAt, sizeof e.fingerprint);
  std::memcpy(&hash, bytes.data() + kHashAt, sizeof hash);
  if (hash != embedding_hash(bytes)) {
    return make_error(ErrorCode::kCorrupt, "image embedding: it is damaged: the checksum does not fit");
  }
  e.values.resize(static_cast<size_t>(want));
  std::memcpy(e.values.data(), bytes.data() + kHeaderBytes, static_cast<size_t>(have));
  for (size_t i = 0; i < e.values.size(); ++i) {
    if (!std::isfinite(e.values[i])) {
      return make_error(ErrorCode::kCorrupt, "image embedding: value %d is NaN or infinite", i);
    }
  }
  return e;
}

}  // namespace glimpse
