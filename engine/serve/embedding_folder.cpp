#include "engine/serve/embedding_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <new>
#include <utility>

#include "engine/base/file.h"

namespace glimpse {
namespace {

constexpr char kMagic[4] = {'G', 'L', 'I', 'C'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = sizeof kMagic + sizeof kVersion + sizeof(Sha256Digest);
constexpr uint64_t kMostFileBytes = uint64_t{1} << 30;
constexpr const char* kEnding = ".glic";
// What is left when files are removed, so that not every file that comes makes them be counted.
constexpr double kLeft = 0.9;
constexpr int64_t kStaleNs = int64_t{3600} * 1000000000;  // a file that was being written is nobody's any more

struct KeptFile {
  std::string path;
  uint64_t n_bytes = 0;
  int64_t used_ns = 0;
};

// 64 hexadecimal digits, ".glic", and of one that is being written more.
bool is_ours(const std::string& name, bool* whole) {
  constexpr size_t kDigits = 2 * sizeof(Sha256Digest);
  if (name.size() < kDigits || name.find_first_not_of("0123456789abcdef") != kDigits) return false;
  const std::string rest = name.substr(kDigits);
  *whole = rest == kEnding;
  return *whole || (rest.starts_with(kEnding) && rest.ends_with(".tmp"));
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

// The files of embeddings; what writers left behind that were ended in the midst of it is removed.
std::vector<KeptFile> files_in(const std::string& folder) {
  std::vector<KeptFile> files;
  const int64_t now = now_ns();
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    bool whole = false;
    struct stat about {};
    const std::string path = it->path().string();
    if (!is_ours(it->path().filename().string(), &whole)) continue;
    if (lstat(path.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) continue;
    const int64_t used = int64_t{about.st_mtim.tv_sec} * 1000000000 + about.st_mtim.tv_nsec;
    if (whole) {
      files.push_back({path, static_cast<uint64_t>(about.st_size), used});
    } else if (now - used > kStaleNs) {
      unlink(path.c_str());
    }
  }
  return files;
}

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

EmbeddingFolder::EmbeddingFolder(std::string path, uint64_t n_bytes, uint64_t fingerprint, int64_t width,
                                 LogSink log_sink)
    : path_(std::move(path)), n_bytes_(n_bytes), fingerprint_(fingerprint), width_(width), log_(std::move(log_sink)) {
  if (!is_off() && n_bytes_ > 0) make_room();
}

std::string EmbeddingFolder::path_of(const Sha256Digest& content) const {
  return format("%s/%s%s", path_, to_hex(content), kEnding);
}

std::shared_ptr<const ImageEmbedding> EmbeddingFolder::load(const Sha256Digest& content) const {
  if (is_off()) return nullptr;
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
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now; where that cannot be noted it goes earlier
  return std::make_shared<ImageEmbedding>(std::move(loaded).value());
}

void EmbeddingFolder::store(const Sha256Digest& content, const ImageEmbedding& embedding) {
  if (is_off()) return;
  const auto write = [&]() -> Status {
    const std::vector<std::byte> bytes = save_cached_embedding(content, embedding);
    if (n_bytes_ > 0 && bytes.size() > n_bytes_) return {};
    GLIMPSE_ASSIGN(AtomicFileWriter writer,
                   AtomicFileWriter::create(path_of(content), AtomicFileWriter::Existing::kReplace));
    GLIMPSE_TRY(writer.write(bytes));
    GLIMPSE_TRY(writer.commit());
    if (n_bytes_ == 0) return {};
    room_ -= std::min<uint64_t>(room_, bytes.size());
    if (room_ == 0) make_room();
    return {};
  };
  try {
    if (const Status stored = write(); !stored.ok()) {
      log(log_, LogLevel::kWarning, format("the embedding of a picture was not stored: %s", stored.error().message));
    }
  } catch (const std::bad_alloc&) {  // to write it takes as much again: it is there all the same
  }
}

// Counts the files, those of other processes too, and removes what is too much.
void EmbeddingFolder::make_room() {
  std::vector<KeptFile> files = files_in(path_);
  uint64_t used = 0;
  for (const KeptFile& file : files) used += file.n_bytes;
  if (used > n_bytes_) {
    std::sort(files.begin(), files.end(), [](const KeptFile& a, const KeptFile& b) { return a.used_ns < b.used_ns; });
    const auto left = static_cast<uint64_t>(kLeft * static_cast<double>(n_bytes_));
    // The one used last stays: it may be all that fits.
    for (size_t i = 0; i + 1 < files.size() && used > left; ++i) {
      if (unlink(files[i].path.c_str()) == 0) used -= files[i].n_bytes;
    }
  }
  // Others write too: not all of the room is used before the next count.
  room_ = std::max<uint64_t>(1, used < n_bytes_ ? (n_bytes_ - used) / 2 : 0);
}

}  // namespace glimpse
