// The file of a batch and its journal.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>

#include "engine/base/hash.h"
#include "tools/batch/output.h"

namespace glimpse::batch {
namespace {

constexpr char kMagic[16] = {'g', 'l', 'i', 'm', 'p', 's', 'e', ' ', 'b', 'a', 't', 'c', 'h', ' ', '1', '\n'};
constexpr uint64_t kFailed = uint64_t{1} << 63;  // of an index
constexpr int64_t kSyncNs = 1000000000;

struct JournalHead {
  char magic[16];
  uint64_t fingerprint, check;
};
struct Record {
  uint64_t index, key, end, check;
};
static_assert(sizeof(JournalHead) == 32 && sizeof(Record) == 32);

uint64_t check_of(const Record& record, std::string_view line) {
  Hash64 hash;
  for (const uint64_t word : {record.index, record.key, record.end}) hash.add(word);
  hash.add(std::as_bytes(std::span(line.data(), line.size())));
  return hash.value();
}
JournalHead head_of(uint64_t fingerprint) {
  JournalHead head{};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  head.fingerprint = fingerprint;
  Hash64 hash;
  hash.add(fingerprint);
  head.check = hash.value();
  return head;
}

bool write_all(int file, const void* bytes, size_t n, uint64_t offset) {
  const char* at = static_cast<const char*>(bytes);
  while (n > 0) {
    const ssize_t written = pwrite(file, at, n, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    n -= static_cast<size_t>(written);
    offset += static_cast<uint64_t>(written);
  }
  return true;
}
/// How many bytes there were, up to n.
size_t read_all(int file, void* bytes, size_t n, uint64_t offset) {
  size_t done = 0;
  while (done < n) {
    const ssize_t got = pread(file, static_cast<char*>(bytes) + done, n - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}
uint64_t size_of(int file) {
  struct stat info {};
  return fstat(file, &info) == 0 && info.st_size > 0 ? static_cast<uint64_t>(info.st_size) : 0;
}
bool cut(int file, uint64_t size) {
  return ftruncate(file, static_cast<off_t>(size)) == 0;
}
int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
// A new name is on the disk when its folder is.
void sync_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  if (fsync(descriptor) != 0) errno = 0;  // not every file system can
  close(descriptor);
}

}  // namespace

Error OutputFile::failed_to(const char* what, const std::string& path) const {
  return make_error(ErrorCode::kIo, "cannot %s %s: %s", what, path, std::strerror(errno));
}

OutputFile::~OutputFile() {
  for (const int file : {file_, journal_}) {
    if (file >= 0) close(file);
  }
}

Status OutputFile::open_files(Existing existing) {
  struct stat info {};
  const bool exists = stat(path_.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode)) return make_error(ErrorCode::kInvalidArgument, "%s is no file", path_);
  if (exists && existing == Existing::kRefuse) {
    return make_error(ErrorCode::kInvalidArgument, "%s exists already: --resume goes on with it, --force overwrites it",
                      path_);
  }
  journal_ = ::open(journal_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (journal_ < 0) return failed_to("open", journal_path_);
  if (flock(journal_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failed_to("lock", journal_path_);
    return make_error(ErrorCode::kBusy, "%s is being written by another batch", path_);
  }
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (existing == Existing::kRefuse ? O_EXCL : 0), 0644);
  return file_ < 0 ? Status(failed_to("open", path_)) : Status();
}

Result<std::unique_ptr<OutputFile>> OutputFile::open(const std::string& path, const std::string& header,
                                                     uint64_t fingerprint, Existing existing) {
  std::unique_ptr<OutputFile> out(new OutputFile);
  out->path_ = path;
  out->journal_path_ = path + ".journal";
  GLIMPSE_TRY(out->open_files(existing));
  const bool fresh = existing != Existing::kResume || (size_of(out->file_) == 0 && size_of(out->journal_) == 0);
  GLIMPSE_TRY(fresh ? out->begin(header, fingerprint) : out->resume(header, fingerprint));
  out->synced_ns_ = now_ns();
  return out;
}

// The journal's head is there before the first byte of the file: a file without one is none of ours.
Status OutputFile::begin(const std::string& header, uint64_t fingerprint) {
  const JournalHead head = head_of(fingerprint);
  JournalHead there{};
  const size_t n = read_all(journal_, &there, sizeof there, 0);
  if (n > 0 && std::memcmp(there.magic, head.magic, std::min(n, sizeof head.magic)) != 0) {
    return make_error(ErrorCode::kInvalidArgument, "%s is there and no journal of a batch: it is not overwritten",
                      journal_path_);
  }
  if (!cut(journal_, 0) || !cut(file_, 0)) return failed_to("empty", path_);
  if (!write_all(journal_, &head, sizeof head, 0) || fsync(journal_) != 0) return failed_to("write", journal_path_);
  sync_folder(path_);
  if (!write_all(file_, header.data(), header.size(), 0)) return failed_to("write", path_);
  end_ = header.size();
  journal_end_ = sizeof head;
  return {};
}

Status OutputFile::resume(const std::string& header, uint64_t fingerprint) {
  JournalHead head{};
  const size_t n = read_all(journal_, &head, sizeof head, 0);
  const JournalHead wanted = head_of(fingerprint);
  if (n < sizeof head) {
    if (size_of(file_) == 0) return begin(header, fingerprint);  // killed while it was begun
    if (n == 0) unlink(journal_path_.c_str());                   // opening it has made it
    return make_error(ErrorCode::kInvalidArgument,
                      "%s cannot be resumed: there is no %s beside it (--force begins it anew)", path_, journal_path_);
  }
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0 || head.check != head_of(head.fingerprint).check) {
    return make_error(ErrorCode::kInvalidArgument, "%s is no journal of a batch", journal_path_);
  }
  if (head.fingerprint != wanted.fingerprint) {
    return make_error(ErrorCode::kMismatch,
                      "%s was begun with another model or other options: go on with those, or begin it anew with "
                      "--force",
                      path_);
  }
  std::string there(header.size(), '\0');
  end_ = header.size();
  journal_end_ = sizeof head;
  if (read_all(file_, there.data(), there.size(), 0) != header.size() || there != header) {
    return begin(header, fingerprint);  // nothing behind it can be of use
  }
  GLIMPSE_TRY(read_records());
  if (!cut(journal_, journal_end_)) return failed_to("shorten", journal_path_);
  if (!cut(file_, end_)) return failed_to("shorten", path_);
  std::sort(finished_.begin(), finished_.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  const auto twice = std::adjacent_find(finished_.begin(), finished_.end(),
                                        [](const auto& a, const auto& b) { return a.index == b.index; });
  if (twice != finished_.end()) {
    return make_error(ErrorCode::kCorrupt, "%s has row %d twice", journal_path_, twice->index);
  }
  return {};
}

// Records as long as they agree with their lines.
Status OutputFile::read_records() {
  const uint64_t size = size_of(file_);
  std::string line;
  for (Record record{}; read_all(journal_, &record, sizeof record, journal_end_) == sizeof record;) {
    if (record.end <= end_ || record.end > size) break;
    line.resize(record.end - end_);
    if (read_all(file_, line.data(), line.size(), end_) != line.size() || record.check != check_of(record, line)) break;
    finished_.push_back({record.index & ~kFailed, record.key, (record.index & kFailed) != 0});
    end_ = record.end;
    journal_end_ += sizeof record;
  }
  return {};
}

Status OutputFile::append(uint64_t index, uint64_t key, bool failed, std::string_view line) {
  Record record{index | (failed ? kFailed : 0), key, end_ + line.size(), 0};
  record.check = check_of(record, line);
  if (!write_all(file_, line.data(), line.size(), end_)) {
    const Error error = failed_to("write", path_);
    cut(file_, end_);
    return error;
  }
  if (!write_all(journal_, &record, sizeof record, journal_end_)) {
    const Error error = failed_to("write", journal_path_);
    cut(journal_, journal_end_);
    cut(file_, end_);
    return error;
  }
  end_ = record.end;
  journal_end_ += sizeof record;
  return now_ns() - synced_ns_ >= kSyncNs ? sync() : Status();
}

Status OutputFile::sync() {
  if (fdatasync(file_) != 0) return failed_to("write", path_);
  if (fdatasync(journal_) != 0) return failed_to("write", journal_path_);
  synced_ns_ = now_ns();
  return {};
}

Status OutputFile::finish() {
  return sync();
}

}  // namespace glimpse::batch
