#include "engine/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

namespace glimpse {
namespace {

Error system_error(const char* action, const std::string& path) {
  const int code = errno;
  char text[256] = "";
  const char* reason = strerror_r(code, text, sizeof text);  // the GNU form returns the text
  return make_error(code == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot %s %s: %s", action, path, reason);
}

// Names that are no path are told: an empty one, and one that somebody hopes will be fetched.
Error open_error(const std::string& path) {
  Error error = system_error("open", path);
  if (error.code != ErrorCode::kNotFound) return error;
  if (path.empty()) error.message = "cannot open a file without a name: the path is empty";
  if (path.find("://") != std::string::npos) {
    error.message = format("cannot open %s: it is a URL, and nothing is fetched: want a file's path", path);
  }
  return error;
}

Status write_all(int descriptor, std::span<const std::byte> bytes, uint64_t offset, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("write", path);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

// 0, an errno, or kEndOfFile.
constexpr int kEndOfFile = -1;
int read_fully(int descriptor, uint64_t offset, std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    const ssize_t n =
        pread(descriptor, out.data(), std::min<size_t>(out.size(), size_t{1} << 30), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return kEndOfFile;
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

// How a descriptor is named for linkat().
std::string descriptor_path(int descriptor) {
  return format("/proc/self/fd/%d", descriptor);
}

// A file in the folder of `path` that has no name, or -1.
int open_nameless(const std::string& path) {
#ifdef O_TMPFILE
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
  if (descriptor >= 0 && access(descriptor_path(descriptor).c_str(), F_OK) == 0) return descriptor;
  if (descriptor >= 0) close(descriptor);
#else
  (void)path;
#endif
  return -1;
}

// What a rename may put a new file over: nothing, a regular file, or the regular file that a link leads to; a device, a
// pipe or a folder of this name is somebody's, and a link stays one.
Result<std::string> replaceable(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return path;  // nothing there, or creating will say what is wrong
  std::string target = path;
  if (S_ISLNK(info.st_mode)) {
    const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
    if (real == nullptr || stat(real.get(), &info) != 0) return system_error("follow the link", path);
    target = real.get();
  }
  if (S_ISREG(info.st_mode)) return target;
  const char* const what = S_ISDIR(info.st_mode)    ? "a directory"
                           : S_ISFIFO(info.st_mode) ? "a pipe"
                           : S_ISSOCK(info.st_mode) ? "a socket"
                                                    : "a device";
  return make_error(ErrorCode::kInvalidArgument, "%s is %s, not a regular file: it is not replaced", path.c_str(),
                    what);
}

int name_file(int descriptor, const std::string& path) {
  return linkat(AT_FDCWD, descriptor_path(descriptor).c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
}

}  // namespace

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

Result<File> File::open(const std::string& path) {
  File file;
  file.path_ = path;
  file.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor_ < 0) return open_error(path);
  struct stat info;
  if (fstat(file.descriptor_, &info) != 0) return system_error("inspect", path);
  if (S_ISDIR(info.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is a directory, not a file", path);
  }
  if (!S_ISREG(info.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is not a regular file", path);
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  file.modified_ns_ = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  return file;
}

Status File::read_at(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    return make_error(ErrorCode::kTruncated, "%s: %d bytes at offset %d reach past the end (%d bytes)", path_,
                      out.size(), offset, size_);
  }
  const int problem = read_fully(descriptor_, offset, out);
  if (problem == kEndOfFile)
    return make_error(ErrorCode::kTruncated, "%s became shorter while it was read", path_.c_str());
  errno = problem;
  if (problem != 0) return system_error("read", path_);
  return {};
}

bool File::try_read_at(uint64_t offset, std::span<std::byte> out) const noexcept {
  return offset <= size_ && out.size() <= size_ - offset && read_fully(descriptor_, offset, out) == 0;
}

void File::touch() const {
  static_cast<void>(futimens(descriptor_, nullptr));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::map(const std::string& path) {
  GLIMPSE_ASSIGN(const File file, File::open(path));
  return map(file);
}

Result<MappedFile> MappedFile::map(const File& file) {
  MappedFile mapped;
  if (file.size() == 0) return mapped;
  void* address = mmap(nullptr, file.size(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) return system_error("map", file.path());
  madvise(address, file.size(), MADV_HUGEPAGE);  // a wish: not every file system has huge pages
  mapped.data_ = static_cast<const std::byte*>(address);
  mapped.size_ = file.size();
  return mapped;
}

bool MappedFile::populate(uint64_t offset, uint64_t n_bytes) const noexcept {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), end = std::min<uint64_t>(size_, offset + n_bytes);
  const uint64_t begin = offset / page * page;
  if (begin >= end) return true;
#ifdef MADV_POPULATE_READ
  while (madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_POPULATE_READ) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    return errno == EINVAL || errno == ENOSYS;
  }
#endif
  return true;
}

Result<std::vector<std::byte>> read_file(const std::string& path, uint64_t limit) {
  GLIMPSE_ASSIGN(const File file, File::open(path));
  if (file.size() > limit) {
    return make_error(ErrorCode::kTooLarge, "%s has %d bytes; the limit is %d", path, file.size(), limit);
  }
  std::vector<std::byte> bytes(file.size());
  GLIMPSE_TRY(file.read_at(0, bytes));
  return bytes;
}

AtomicFileWriter::AtomicFileWriter(AtomicFileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      has_name_(std::exchange(other.has_name_, false)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      position_(other.position_),
      written_back_(other.written_back_),
      existing_(other.existing_) {}

AtomicFileWriter& AtomicFileWriter::operator=(AtomicFileWriter&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    temporary_ = std::exchange(other.temporary_, {});
    has_name_ = std::exchange(other.has_name_, false);
    descriptor_ = std::exchange(other.descriptor_, -1);
    position_ = other.position_;
    written_back_ = other.written_back_;
    existing_ = other.existing_;
  }
  return *this;
}

AtomicFileWriter::~AtomicFileWriter() {
  discard();
}

void AtomicFileWriter::discard() {
  if (descriptor_ >= 0) close(descriptor_);
  if (has_name_) unlink(temporary_.c_str());
  has_name_ = false;
  descriptor_ = -1;
  temporary_.clear();
}

Result<AtomicFileWriter> AtomicFileWriter::create(const std::string& path, Existing existing) {
  static std::atomic<unsigned> counter{0};  // two writers of one process never share a temporary name
  if (existing == Existing::kRefuse && access(path.c_str(), F_OK) == 0) {
    return make_error(ErrorCode::kInvalidArgument, "%s exists already and is not overwritten", path);
  }
  AtomicFileWriter writer;
  GLIMPSE_ASSIGN(writer.path_, replaceable(path));
  writer.existing_ = existing;
  std::string temporary =
      format("%s.%d.%u.tmp", writer.path_.c_str(), static_cast<int>(getpid()), counter.fetch_add(1));
  writer.descriptor_ = open_nameless(writer.path_);
  if (writer.descriptor_ < 0) {
    writer.descriptor_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (writer.descriptor_ < 0) return system_error("create", writer.path_);
    writer.has_name_ = true;
  }
  writer.temporary_ = std::move(temporary);
  return writer;
}

Status AtomicFileWriter::write(std::span<const std::byte> bytes) {
  GLIMPSE_TRY(write_all(descriptor_, bytes, position_, path_));
  position_ += bytes.size();
  return {};
}

Status AtomicFileWriter::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  return write_all(descriptor_, bytes, offset, path_);
}

void AtomicFileWriter::start_writeback() {
#ifdef SYNC_FILE_RANGE_WRITE
  // A wish: what goes wrong here, commit() says.
  static_cast<void>(sync_file_range(descriptor_, static_cast<off_t>(written_back_),
                                    static_cast<off_t>(position_ - written_back_), SYNC_FILE_RANGE_WRITE));
#endif
  written_back_ = position_;
}

Status AtomicFileWriter::commit() {
  if (fsync(descriptor_) != 0) return system_error("sync", path_);
  if (existing_ == Existing::kRefuse) {
    // link() fails when the name exists, rename() would silently replace it.
    const int linked = has_name_ ? link(temporary_.c_str(), path_.c_str()) : name_file(descriptor_, path_);
    if (linked != 0) return system_error("create", path_);
    if (has_name_) unlink(temporary_.c_str());
  } else {
    if (!has_name_ && name_file(descriptor_, temporary_) != 0) return system_error("create", path_);
    has_name_ = true;
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return system_error("rename into", path_);
  }
  has_name_ = false;
  temporary_.clear();
  const int descriptor = std::exchange(descriptor_, -1);
  if (close(descriptor) != 0) return system_error("close", path_);
  return {};
}

}  // namespace glimpse
