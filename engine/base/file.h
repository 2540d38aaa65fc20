// Files: positioned reads, read-only maps, and writes that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// A file open for positioned reads; may be shared between threads. Move-only.
class File {
 public:
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  /// Errors: kNotFound, kIo (permission, a directory, ...), each naming the path.
  static Result<File> open(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  /// When the content was last changed: nanoseconds since 1970, as the file system says.
  int64_t modified_ns() const { return modified_ns_; }
  /// Reads exactly out.size() bytes at `offset`. Errors: kTruncated past the end, kIo.
  Status read_at(uint64_t offset, std::span<std::byte> out) const;
  /// The same for threads that must neither allocate nor throw: false where read_at() would have an error.
  bool try_read_at(uint64_t offset, std::span<std::byte> out) const noexcept;
  int descriptor() const { return descriptor_; }
  /// Sets the times of access and change to now, where the user may.
  void touch() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  int64_t modified_ns_ = 0;
};

/// A read-only map of a whole file. Move-only. Only for who was asked to map: the bytes are the file's: they change
/// when somebody writes into it, and touching them kills the process (SIGBUS) when somebody has cut it short. Replacing
/// the file by renaming does neither.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  static Result<MappedFile> map(const std::string& path);
  static Result<MappedFile> map(const File& file);
  /// Brings a part into memory and into the page tables, in huge pages where the kernel has such; for threads that must
  /// neither allocate nor throw. False where the file cannot be read or has become shorter, which touching the part
  /// would die of. (Kernels before 5.14 do nothing here.)
  bool populate(uint64_t offset, uint64_t n_bytes) const noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Reads a whole file into memory. Errors: as File::open; kTooLarge when it has more than `limit` bytes.
Result<std::vector<std::byte>> read_file(const std::string& path, uint64_t limit);

/// Writes to a file without a name (or, where the file system has no such, to a temporary name beside `path`); commit()
/// puts it into place. Destroyed uncommitted, it leaves nothing behind; without a name not even when the process is
/// killed. Move-only.
class AtomicFileWriter {
 public:
  AtomicFileWriter() = default;
  AtomicFileWriter(AtomicFileWriter&& other) noexcept;
  AtomicFileWriter& operator=(AtomicFileWriter&& other) noexcept;
  ~AtomicFileWriter();

  enum class Existing { kReplace, kRefuse };
  /// Only regular files are ever replaced, and those that links lead to, through the link. Errors: kIo;
  /// kInvalidArgument when `path` exists and existing is kRefuse, or is a folder, device, pipe or socket.
  static Result<AtomicFileWriter> create(const std::string& path, Existing existing);
  /// Appends. Errors: kIo (a full disk, ...).
  Status write(std::span<const std::byte> bytes);
  /// Overwrites bytes written before.
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  uint64_t position() const { return position_; }
  /// Tells the kernel to begin writing to the disk, without waiting: commit() then waits less.
  void start_writeback();
  /// Syncs and renames. With Existing::kRefuse a file that appeared meanwhile is not overwritten.
  Status commit();

 private:
  void discard();
  std::string path_, temporary_;
  bool has_name_ = false;  // temporary_ exists
  int descriptor_ = -1;
  uint64_t position_ = 0;
  uint64_t written_back_ = 0;  // start_writeback() was called up to here
  Existing existing_ = Existing::kReplace;
};

}  // namespace glimpse
