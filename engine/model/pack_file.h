// The side file: packed weights of one GGUF file as they lie in memory, to be mapped by the next start.
//
// Little-endian. A head of 64 bytes, one record of 64 bytes per matrix, then the matrices in the same order, each at
// the next multiple of 4096; nothing behind the last. The bytes of a matrix are the panels of
// kernels/matmul/panel_layout.h, which are the same for every CPU.
//
//   head     0  "GLIMPACK"           8  u32 format version (1)     12  u32 kPanelLayoutVersion
//           16  u64 content key     24  u64 bytes of the file      32  u32 number of records
//           36  20 zeros            56  u64 hash of head and records, but for itself
//   record   0  u64 hash of the matrix's name    8  u32 PanelFormat   12  u32 0    16  u64 rows   24  u64 cols
//           32  u64 offset          40  u64 bytes                  48  u64 hash of its samples    56  u64 0
//
// The head is checked whole before anything of it is used. Of the matrices 64 bytes of every 64 KiB are checked
// (reading all would cost what the file is to save). The writer does not wait for the disk, which can take minutes: the
// samples, and the size, find a file whose data a power cut has lost, for file systems lose whole extents. Other bytes
// may be wrong without being noticed; they give wrong answers, never a wrong access to memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/result.h"

namespace glimpse {

/// One packed matrix in a side file.
struct PackRecord {
  uint64_t name_hash = 0;
  uint32_t format = 0;  // Ops::packed_format()
  uint64_t rows = 0;
  uint64_t cols = 0;
  uint64_t offset = 0;
  uint64_t n_bytes = 0;
  uint64_t sample_hash = 0;
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
/// Of 64 bytes of every 64 KiB, and of the last 64 bytes.
uint64_t pack_sample_hash(std::span<const std::byte> matrix);

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

/// An open side file whose matrices can be used. Move-only.
class PackFile {
 public:
  /// Opens, checks that it holds exactly the matrices of `want` (sample hashes apart), made from a file with its
  /// content key, and maps it. Errors: kNotFound, kIo, those of load_pack_header(), kMismatch (made from another file,
  /// or for other precisions), kCorrupt (samples).
  static Result<PackFile> open(const std::string& path, const PackHeader& want);
  /// Precondition: i < number of records.
  std::span<const std::byte> matrix(size_t i) const {
    return map_.bytes().subspan(header_.records[i].offset, header_.records[i].n_bytes);
  }
  uint64_t n_bytes() const { return header_.file_bytes; }

 private:
  PackHeader header_;
  MappedFile map_;
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
