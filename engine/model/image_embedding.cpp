// Image embeddings as bytes. Layout, little-endian:
//   "GLIE", u32 version (2; of a video 3), i64 grid t, h, w, merge_size, n_tokens, width, original width, height,
//   resized width, height, u64 fingerprint of the encoder, u64 hash of everything else; of a video f64 slice_step, i64
//   number of slice_seconds, those as f64; of a picture with cells left out (version 4) the i32 n_tokens cells that are
//   there; then n_tokens * width floats.
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
constexpr uint32_t kVersion = 2, kVideoVersion = 3, kCellsVersion = 4;
constexpr size_t kFields = 10;
constexpr size_t kFieldsAt = sizeof kMagic + sizeof kVersion;
constexpr size_t kFingerprintAt = kFieldsAt + kFields * sizeof(int64_t);
constexpr size_t kHashAt = kFingerprintAt + sizeof(uint64_t);
constexpr size_t kHeaderBytes = kHashAt + sizeof(uint64_t);
constexpr int64_t kMaxField = int64_t{1} << 30;
constexpr size_t kVideoBytes = sizeof(double) + sizeof(int64_t);

// Of a whole embedding, but for its own place.
uint64_t embedding_hash(std::span<const std::byte> bytes) {
  Hash64 hash;
  hash.add(bytes.first(kHashAt));
  hash.add(bytes.subspan(kHeaderBytes));
  return hash.value();
}

// What a video has before its values, which `bytes` are then.
Status load_video(std::span<const std::byte>& bytes, ImageEmbedding& e) {
  double step = 0;
  int64_t n_seconds = 0;
  if (bytes.size() < kVideoBytes) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes after the header, a video has at least %d",
                      bytes.size(), kVideoBytes);
  }
  std::memcpy(&step, bytes.data(), sizeof step);
  std::memcpy(&n_seconds, bytes.data() + sizeof step, sizeof n_seconds);
  bytes = bytes.subspan(kVideoBytes);
  const auto n = static_cast<uint64_t>(n_seconds);
  if (static_cast<double>(static_cast<float>(step)) != step || (n != 0 && n != static_cast<uint64_t>(e.grid.t)) ||
      bytes.size() / sizeof(double) < n) {
    return make_error(ErrorCode::kCorrupt, "image embedding: %d times of %d slices", n_seconds, e.grid.t);
  }
  e.slice_step = static_cast<float>(step);
  e.slice_seconds.resize(static_cast<size_t>(n));
  if (n > 0) std::memcpy(e.slice_seconds.data(), bytes.data(), static_cast<size_t>(n) * sizeof(double));
  bytes = bytes.subspan(static_cast<size_t>(n) * sizeof(double));
  return check_video_times(e);
}

// The cells that are there, which a picture without some has before its values.
Status load_cells(std::span<const std::byte>& bytes, ImageEmbedding& e) {
  const size_t n_bytes = static_cast<size_t>(e.n_tokens) * sizeof(int32_t);  // at most 2^32
  if (bytes.size() < n_bytes) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes after the header, want %d of cells alone",
                      bytes.size(), n_bytes);
  }
  e.cells.resize(static_cast<size_t>(e.n_tokens));
  std::memcpy(e.cells.data(), bytes.data(), n_bytes);
  bytes = bytes.subspan(n_bytes);
  if (are_cells(e.cells, e.grid.h / e.merge_size * (e.grid.w / e.merge_size))) return {};
  return make_error(ErrorCode::kCorrupt, "image embedding: its %d cells are no part of its grid", e.n_tokens);
}

}  // namespace

bool are_cells(std::span<const int32_t> cells, int64_t n_cells) {
  if (cells.empty()) return true;
  for (size_t i = 1; i < cells.size(); ++i) {
    if (cells[i] <= cells[i - 1]) return false;
  }
  return cells.front() >= 0 && cells.back() < n_cells && static_cast<int64_t>(cells.size()) < n_cells;
}

Status check_video_times(const ImageEmbedding& e) {
  constexpr double kMost = 1 << 24;  // beyond any film
  bool sane = e.slice_step >= 0 && static_cast<double>(e.grid.t) * double{e.slice_step} <= kMost &&
              (e.slice_seconds.empty() || static_cast<int64_t>(e.slice_seconds.size()) == e.grid.t);
  for (const double seconds : e.slice_seconds) sane = sane && seconds >= 0 && seconds <= kMost;
  if (sane) return {};
  return make_error(ErrorCode::kCorrupt, "a video's times make no sense: %d slices, %g positions from one to the next",
                    e.grid.t, double{e.slice_step});
}

void seal_embedding(std::span<std::byte> bytes) {
  const uint64_t hash = embedding_hash(bytes);
  std::memcpy(bytes.data() + kHashAt, &hash, sizeof hash);
}

std::vector<std::byte> save_embedding(const ImageEmbedding& e) {
  const int64_t fields[kFields] = {e.grid.t, e.grid.h,         e.grid.w,          e.merge_size,    e.n_tokens,
                                   e.width,  e.original.width, e.original.height, e.resized.width, e.resized.height};
  const double step = double{e.slice_step};
  const auto n_seconds = static_cast<int64_t>(e.slice_seconds.size());
  const size_t n_more =
      e.is_video ? kVideoBytes + e.slice_seconds.size() * sizeof(double) : e.cells.size() * sizeof(int32_t);
  const uint32_t version = e.is_video ? kVideoVersion : e.cells.empty() ? kVersion : kCellsVersion;
  std::vector<std::byte> bytes(kHeaderBytes + n_more + e.values.size() * sizeof(float));
  std::byte* out = bytes.data();
  const auto put = [&](const void* data, size_t size) {
    if (size > 0) std::memcpy(out, data, size);
    out += size;
  };
  put(kMagic, sizeof kMagic);
  put(&version, sizeof version);
  put(fields, sizeof fields);
  put(&e.fingerprint, sizeof e.fingerprint);
  out += sizeof(uint64_t);  // the hash
  if (e.is_video) {
    put(&step, sizeof step);
    put(&n_seconds, sizeof n_seconds);
    put(e.slice_seconds.data(), e.slice_seconds.size() * sizeof(double));
  } else {
    put(e.cells.data(), e.cells.size() * sizeof(int32_t));
  }
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
  if (version < kVersion || version > kCellsVersion) {
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
  uint32_t version = 0;
  std::memcpy(&version, bytes.data() + sizeof kMagic, sizeof version);
  e.is_video = version == kVideoVersion;
  // Fields are at most 2^30, so a product of two fits.
  const bool whole = e.grid.h % e.merge_size == 0 && e.grid.w % e.merge_size == 0;
  const auto tokens = checked_mul(static_cast<uint64_t>(e.grid.t),
                                  static_cast<uint64_t>(e.grid.h / e.merge_size * (e.grid.w / e.merge_size)));
  const auto n_tokens = static_cast<uint64_t>(e.n_tokens);
  const bool some = version == kCellsVersion;  // whose numbers have 32 bits
  const bool fits = whole && tokens && (some ? e.grid.t == 1 && n_tokens < *tokens : n_tokens == *tokens) &&
                    (!some || *tokens <= INT32_MAX);
  if (!fits) {
    return make_error(ErrorCode::kCorrupt, "image embedding: %d tokens do not fit a grid of %d x %d x %d", e.n_tokens,
                      e.grid.t, e.grid.h, e.grid.w);
  }
  return e;
}

// Of the header alone: some of the grid are missing.
bool has_cells(const ImageEmbedding& e) {
  return !e.is_video && e.n_tokens < e.grid.t * (e.grid.h / e.merge_size) * (e.grid.w / e.merge_size);
}

}  // namespace

Result<ImageEmbedding> load_embedding(std::span<const std::byte> bytes) {
  GLIMPSE_TRY(check_beginning(bytes));
  GLIMPSE_ASSIGN(ImageEmbedding e, read_fields(bytes));
  const uint64_t want = static_cast<uint64_t>(e.n_tokens * e.width);  // at most 2^60
  const std::span<const std::byte> whole_bytes = bytes;
  bytes = bytes.subspan(kHeaderBytes);
  if (e.is_video) GLIMPSE_TRY(load_video(bytes, e));
  if (has_cells(e)) GLIMPSE_TRY(load_cells(bytes, e));
  const uint64_t have = bytes.size();
  if (have / sizeof(float) < want) {
    return make_error(ErrorCode::kTruncated, "image embedding: %d bytes of values, want %d values", have, want);
  }
  if (have != want * sizeof(float)) {
    return make_error(ErrorCode::kCorrupt, "image embedding: bytes after the last value");
  }
  uint64_t hash = 0;
  std::memcpy(&e.fingerprint, whole_bytes.data() + kFingerprintAt, sizeof e.fingerprint);
  std::memcpy(&hash, whole_bytes.data() + kHashAt, sizeof hash);
  if (hash != embedding_hash(whole_bytes)) {
    return make_error(ErrorCode::kCorrupt, "image embedding: it is damaged: the checksum does not fit");
  }
  e.values.resize(static_cast<size_t>(want));
  std::memcpy(e.values.data(), bytes.data(), static_cast<size_t>(have));
  for (size_t i = 0; i < e.values.size(); ++i) {
    if (!std::isfinite(e.values[i])) {
      return make_error(ErrorCode::kCorrupt, "image embedding: value %d is NaN or infinite", i);
    }
  }
  return e;
}

}  // namespace glimpse
