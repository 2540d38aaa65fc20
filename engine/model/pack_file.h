// The side file: packed weights of one GGUF file as they lie in memory, for the next start.
//
// Little-endian. A head of 64 bytes, one record of 64 bytes per matrix, then the matrices in the same order, each at
// the next multiple of 4096; nothing behind the last. The bytes of a matrix are the panels of
// kernels/matmul/panel_layout.h, which are the same for every CPU.
//
//   head     0  "GLIMPACK"           8  u32 format version (2)     12  u32 kPanelLayoutVersion
//           16  u64 content key     24  u64 bytes of the file      32  u32 number of records
//           36  20 zeros            56  u64 hash of head and records, but for itself
//   record   0  u64 hash of the matrix's name    8  u32 PanelFormat   12  u32 0    16  u64 rows   24  u64 cols
//           32  u64 offset          40  u64 bytes                  48  u64 pack_checksum()    56  u64 0
//
// Nothing of it is used before it was checked: the head whole when the file is opened, each matrix, every byte of it,
// when it is taken. A file that was cut, zeroed by a power cut or changed by a bit is found and made again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/result.h"
#include "engine/base/thread_team.h"

namespace glimpse {

/// One packed matrix in a side file.
struct PackRecord {
  uint64_t name_hash = 0;
  uint32_t format = 0;  // Ops::packed_format()
  uint64_t rows = 0;
  uint64_t cols = 0;
  uint64_t offset = 0;
  uint64_t n_bytes = 0;
  uint64_t checksum = 0;
};

struct PackHeader {
  uint32_t layout_version = 0;
  uint64_t content_key = 0;
  uint64_t file_bytes = 0;
  std::vector<PackRecord> records;
};

constexpr uint64_t kPackHeadBytes = 64, kPackRecordBytes = 64, kPackAlignment = 4096;
constexpr uint64_t kMaxPackRecords = 1 << 16;

uint64_t pack_name_hash(const std::string& name);
/// Of all bytes of a matrix: a hash of the hash_block() of every kPackChunk bytes, so that threads can share the work.
uint64_t pack_checksum(std::span<const std::byte> matrix);
constexpr size_t kPackChunk = size_t{1} << 20;

/// Gives every record its place, and the file its size. Errors: kTooLarge.
Status lay_out_pack(PackHeader& header);
/// Writes the checksum into the bytes of head and records.
void seal_pack_header(std::span<std::byte> bytes);
/// Head and records.
std::vector<std::byte> save_pack_header(const PackHeader& header);
/// Number of bytes of head and records, from the head alone. Errors: as load_pack_header().
Result<uint64_t> pack_header_bytes(std::span<const std::byte> head);
/// Checks everything that can be checked without the matrices. bytes: at least head and records; file_bytes: the size
/// of the file. Errors: kTruncated, kCorrupt, kUnsupported (another format version or panel layout).
Result<PackHeader> load_pack_header(std::span<const std::byte> bytes, uint64_t file_bytes);

/// How matrices are taken from a side file.
enum class PackUse {
  kRead,  // into memory of their own: nothing that happens to the file later matters
  kMap,   // the file's own pages: shared between processes and dropped under pressure; the process dies (SIGBUS) when
          // somebody cuts the file short, and answers change when somebody writes into it
};

/// An open side file. Move-only.
class PackFile {
 public:
  /// Opens and checks that it holds exactly the matrices of `want` (checksums apart), made from a file with its content
  /// key. Errors: kNotFound, kIo, those of load_pack_header(), kMismatch (made from another file, or for other
  /// precisions).
  static Result<PackFile> open(const std::string& path, const PackHeader& want, PackUse use);

  struct Matrix {
    std::span<const std::byte> bytes;   // aligned to 64
    std::shared_ptr<const void> owner;  // keeps them in place
  };
  /// Matrix i, read or mapped, and checked whole. Precondition: i < number of records. Errors: kIo, kTruncated,
  /// kOutOfMemory, kCorrupt (the checksum).
  Result<Matrix> matrix(size_t i, ThreadTeam& team) const;
  uint64_t n_bytes() const { return header_.file_bytes; }
  /// Sets the file's time of change to now, for make_room(). A wish.
  void mark_used() const { file_.touch(); }

 private:
  PackHeader header_;
  File file_;
  std::shared_ptr<const MappedFile> map_;  // kMap
};

/// Writes a side file matrix by matrix; it appears under its name when it is whole. Move-only.
class PackFileWriter {
 public:
  /// header: laid out. Errors: kIo.
  static Result<PackFileWriter> create(const std::string& path, PackHeader header);
  /// The next matrix. Errors: kIo; kInvalidArgument (not the size that the header says, or one too many).
  Status add(std::span<const std::byte> matrix);
  /// Errors: kIo; kInvalidArgument when matrices are missing.
  Status commit();

 private:
  PackHeader header_;
  AtomicFileWriter writer_;
  size_t next_ = 0;
};

}  // namespace glimpse
