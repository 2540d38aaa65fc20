#include "engine/model/pack_file.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "engine/base/aligned_buffer.h"
#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

static_assert(std::endian::native == std::endian::little, "fields are copied as they are");

constexpr char kMagic[8] = {'G', 'L', 'I', 'M', 'P', 'A', 'C', 'K'};
constexpr uint32_t kFormatVersion = 2;  // 1 had a hash of samples
constexpr size_t kVersionAt = 8, kLayoutAt = 12, kKeyAt = 16, kFileBytesAt = 24, kCountAt = 32, kHashAt = 56;

template <typename T>
T get(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <typename T>
void put(std::span<std::byte> bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// The hash of head and records, but for its own place.
uint64_t header_hash(std::span<const std::byte> bytes) {
  Hash64 hash;
  hash.add(bytes.first(kHashAt));
  hash.add(bytes.subspan(kPackHeadBytes));
  return hash.value();
}

PackRecord load_record(std::span<const std::byte> bytes) {
  PackRecord record;
  record.name_hash = get<uint64_t>(bytes, 0);
  record.format = get<uint32_t>(bytes, 8);
  record.rows = get<uint64_t>(bytes, 16);
  record.cols = get<uint64_t>(bytes, 24);
  record.offset = get<uint64_t>(bytes, 32);
  record.n_bytes = get<uint64_t>(bytes, 40);
  record.checksum = get<uint64_t>(bytes, 48);
  return record;
}

bool same_matrix(const PackRecord& a, const PackRecord& b) {
  return a.name_hash == b.name_hash && a.format == b.format && a.rows == b.rows && a.cols == b.cols &&
         a.offset == b.offset && a.n_bytes == b.n_bytes;
}

Status check_head(std::span<const std::byte> head) {
  if (head.size() < kPackHeadBytes) {
    return make_error(ErrorCode::kTruncated, "%d bytes are too few for a file of packed weights", head.size());
  }
  if (std::memcmp(head.data(), kMagic, sizeof kMagic) != 0) {
    return make_error(ErrorCode::kCorrupt, "this is no file of packed weights");
  }
  const auto version = get<uint32_t>(head, kVersionAt), layout = get<uint32_t>(head, kLayoutAt);
  if (version != kFormatVersion || layout != kPanelLayoutVersion) {
    return make_error(ErrorCode::kUnsupported, "it has format %d and panel layout %d, this program uses %d and %d",
                      version, layout, kFormatVersion, kPanelLayoutVersion);
  }
  const auto count = get<uint32_t>(head, kCountAt);
  if (count == 0 || count > kMaxPackRecords) {
    return make_error(ErrorCode::kCorrupt, "it says that it has %d matrices", count);
  }
  return {};
}

}  // namespace

uint64_t pack_name_hash(const std::string& name) {
  Hash64 hash;
  hash.add(std::as_bytes(std::span(name)));
  return hash.value();
}

uint64_t pack_checksum(std::span<const std::byte> matrix) {
  Hash64 hash;
  for (size_t at = 0; at < matrix.size(); at += kPackChunk) {
    hash.add(hash_block(matrix.subspan(at, std::min(kPackChunk, matrix.size() - at))));
  }
  return hash.value();
}

Status lay_out_pack(PackHeader& header) {
  uint64_t end = kPackHeadBytes + kPackRecordBytes * header.records.size();
  if (header.records.size() > kMaxPackRecords) {
    return make_error(ErrorCode::kTooLarge, "%d matrices are too many for one file", header.records.size());
  }
  for (PackRecord& record : header.records) {
    const auto offset = checked_align_up(end, kPackAlignment);
    const auto next = offset ? checked_add(*offset, record.n_bytes) : std::nullopt;
    if (!next || *next > (uint64_t{1} << 62)) return make_error(ErrorCode::kTooLarge, "too many bytes for one file");
    record.offset = *offset;
    end = *next;
  }
  header.file_bytes = end;
  return {};
}

void seal_pack_header(std::span<std::byte> bytes) {
  put(bytes, kHashAt, header_hash(bytes));
}

std::vector<std::byte> save_pack_header(const PackHeader& header) {
  std::vector<std::byte> bytes(kPackHeadBytes + kPackRecordBytes * header.records.size());
  const std::span<std::byte> all(bytes);
  std::memcpy(bytes.data(), kMagic, sizeof kMagic);
  put(all, kVersionAt, kFormatVersion);
  put(all, kLayoutAt, header.layout_version);
  put(all, kKeyAt, header.content_key);
  put(all, kFileBytesAt, header.file_bytes);
  put(all, kCountAt, static_cast<uint32_t>(header.records.size()));
  for (size_t i = 0; i < header.records.size(); ++i) {
    const PackRecord& record = header.records[i];
    const auto to = all.subspan(kPackHeadBytes + kPackRecordBytes * i, kPackRecordBytes);
    put(to, 0, record.name_hash);
    put(to, 8, record.format);
    put(to, 16, record.rows);
    put(to, 24, record.cols);
    put(to, 32, record.offset);
    put(to, 40, record.n_bytes);
    put(to, 48, record.checksum);
  }
  seal_pack_header(bytes);
  return bytes;
}

Result<uint64_t> pack_header_bytes(std::span<const std::byte> head) {
  GLIMPSE_TRY(check_head(head));
  return kPackHeadBytes + kPackRecordBytes * get<uint32_t>(head, kCountAt);
}

Result<PackHeader> load_pack_header(std::span<const std::byte> bytes, uint64_t file_bytes) {
  GLIMPSE_ASSIGN(const uint64_t n_header, pack_header_bytes(bytes));
  if (bytes.size() < n_header) {
    return make_error(ErrorCode::kTruncated, "it ends inside its header of %d bytes", n_header);
  }
  bytes = bytes.first(n_header);
  if (get<uint64_t>(bytes, kHashAt) != header_hash(bytes)) {
    return make_error(ErrorCode::kCorrupt, "its header is damaged: the checksum does not fit");
  }
  PackHeader header;
  header.layout_version = get<uint32_t>(bytes, kLayoutAt);
  header.content_key = get<uint64_t>(bytes, kKeyAt);
  header.file_bytes = get<uint64_t>(bytes, kFileBytesAt);
  if (header.file_bytes != file_bytes) {
    return make_error(ErrorCode::kTruncated, "it has %d bytes, its header says %d", file_bytes, header.file_bytes);
  }
  // The checksum holds off accidents, not people: every place is checked all the same.
  uint64_t end = n_header;
  for (uint64_t at = kPackHeadBytes; at < n_header; at += kPackRecordBytes) {
    const PackRecord record = load_record(bytes.subspan(at, kPackRecordBytes));
    if (record.offset < end || record.offset % kPackAlignment != 0 || record.offset > file_bytes ||
        record.n_bytes == 0 || record.n_bytes > file_bytes - record.offset) {
      return make_error(ErrorCode::kCorrupt, "matrix %d: %d bytes at %d do not fit into %d",
                        (at - kPackHeadBytes) / kPackRecordBytes, record.n_bytes, record.offset, file_bytes);
    }
    end = record.offset + record.n_bytes;
    header.records.push_back(record);
  }
  return header;
}

Result<PackFile> PackFile::open(const std::string& path, const PackHeader& want, PackUse use) {
  PackFile pack;
  GLIMPSE_ASSIGN(pack.file_, File::open(path));
  // Read, not looked at through a map: nobody can change these bytes after they were checked.
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(pack.file_.size(), kPackHeadBytes)));
  GLIMPSE_TRY(pack.file_.read_at(0, bytes));
  GLIMPSE_ASSIGN(const uint64_t n_header, pack_header_bytes(bytes));
  bytes.resize(static_cast<size_t>(std::min(n_header, pack.file_.size())));
  GLIMPSE_TRY(pack.file_.read_at(0, bytes));
  GLIMPSE_ASSIGN(pack.header_, load_pack_header(bytes, pack.file_.size()));
  const PackHeader& header = pack.header_;
  if (header.content_key != want.content_key) {
    return make_error(ErrorCode::kMismatch, "it was made from another model file, or from this one before it changed");
  }
  if (!std::equal(header.records.begin(), header.records.end(), want.records.begin(), want.records.end(),
                  same_matrix)) {
    return make_error(ErrorCode::kMismatch, "it does not hold the matrices that are wanted");
  }
  if (use == PackUse::kRead) return pack;
  GLIMPSE_ASSIGN(MappedFile map, MappedFile::map(pack.file_));
  if (map.bytes().size() != header.file_bytes) {
    return make_error(ErrorCode::kTruncated, "it changed its size while it was opened");
  }
  pack.map_ = std::make_shared<const MappedFile>(std::move(map));
  return pack;
}

Result<PackFile::Matrix> PackFile::matrix(size_t i, ThreadTeam& team) const {
  const PackRecord& record = header_.records[i];
  Matrix matrix;
  std::shared_ptr<AlignedBuffer> buffer;
  std::byte* own = nullptr;
  if (map_ != nullptr) {
    matrix = {map_->bytes().subspan(record.offset, record.n_bytes), map_};
  } else {
    GLIMPSE_ASSIGN(AlignedBuffer allocated, AlignedBuffer::allocate(record.n_bytes, "packed weights"));
    buffer = std::make_shared<AlignedBuffer>(std::move(allocated));
    own = buffer->data();
    matrix = {{own, static_cast<size_t>(record.n_bytes)}, buffer};
  }
  // Chunk by chunk, so that what was read is hashed while it is in the cache.
  const auto n_chunks = static_cast<int64_t>((record.n_bytes + kPackChunk - 1) / kPackChunk);
  std::vector<uint64_t> hashes(static_cast<size_t>(n_chunks));
  std::atomic<bool> failed = false;
  team.for_each(n_chunks, [&](int, int64_t c) {
    if (failed.load(std::memory_order_relaxed)) return;
    const size_t at = static_cast<size_t>(c) * kPackChunk, n = std::min(kPackChunk, matrix.bytes.size() - at);
    // Page tables are filled by the threads that look at the pages: alone it takes as long as the hash.
    const bool there =
        own != nullptr ? file_.try_read_at(record.offset + at, {own + at, n}) : map_->populate(record.offset + at, n);
    if (!there) {
      failed = true;
      return;
    }
    hashes[static_cast<size_t>(c)] = hash_block(matrix.bytes.subspan(at, n));
  });
  if (failed) {  // again, for what went wrong
    if (own != nullptr) GLIMPSE_TRY(file_.read_at(record.offset, {own, matrix.bytes.size()}));
    return make_error(ErrorCode::kIo, "matrix %zu could not be read", i);
  }
  Hash64 hash;
  for (const uint64_t chunk : hashes) hash.add(chunk);
  if (hash.value() != record.checksum) {
    return make_error(ErrorCode::kCorrupt, "matrix %zu is damaged: the checksum does not fit", i);
  }
  if (buffer) buffer->join_pages();
  return matrix;
}

Result<PackFileWriter> PackFileWriter::create(const std::string& path, PackHeader header) {
  PackFileWriter writer;
  writer.header_ = std::move(header);
  GLIMPSE_ASSIGN(writer.writer_, AtomicFileWriter::create(path, AtomicFileWriter::Existing::kReplace));
  // Space for the header, which is written last, when all hashes are known.
  const std::vector<std::byte> zeros(kPackHeadBytes + kPackRecordBytes * writer.header_.records.size());
  GLIMPSE_TRY(writer.writer_.write(zeros));
  return writer;
}

Status PackFileWriter::add(std::span<const std::byte> matrix) {
  if (next_ >= header_.records.size() || matrix.size() != header_.records[next_].n_bytes) {
    return make_error(ErrorCode::kInvalidArgument, "matrix %d has %d bytes: the header says otherwise", next_,
                      matrix.size());
  }
  PackRecord& record = header_.records[next_++];
  record.checksum = pack_checksum(matrix);
  const std::vector<std::byte> padding(static_cast<size_t>(record.offset - writer_.position()));
  GLIMPSE_TRY(writer_.write(padding));
  GLIMPSE_TRY(writer_.write(matrix));
  writer_.start_writeback();
  return {};
}

Status PackFileWriter::commit() {
  if (next_ != header_.records.size()) {
    return make_error(ErrorCode::kInvalidArgument, "%d of %d matrices were written", next_, header_.records.size());
  }
  GLIMPSE_TRY(writer_.write_at(0, save_pack_header(header_)));
  return writer_.commit();
}

}  // namespace glimpse
