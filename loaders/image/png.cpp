// PNG through libpng, which inflates, filters and puts interlaced passes together; samples become RGB here, so that an
// interlaced picture is held as it is stored and not expanded.
//
// libpng reports errors by calling our on_error, which jumps to the setjmp of the function that called into libpng.
// longjmp over a frame that holds C++ objects is undefined, therefore every function here with a setjmp holds only
// plain values, and all that owns memory (the Session, the rows) lives in the caller's frame.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"
#include "loaders/image/png_chunks.h"

namespace glimpse {
namespace {

// Of the work on an interlaced picture: its passes, before the first row.
constexpr double kPassesShare = 0.9;

// What libpng is given after the pixels, in place of whatever the file has there: nothing that follows changes them.
constexpr uint8_t kEndChunk[] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};

// One libpng reader over a buffer. Not movable: libpng keeps pointers to it.
struct Session {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const std::byte* next = nullptr;
  size_t n_left = 0;
  bool at_end_chunk = false;  // next points into kEndChunk
  bool may_end = false;       // the file holds all of its pixels' chunks: kEndChunk may follow
  jmp_buf jump = {};
  ErrorCode code = ErrorCode::kCorrupt;
  char message[160] = "";

  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { png_destroy_read_struct(&png, &info, nullptr); }

  Error error() const { return make_error(code, "PNG: %s", message); }
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  Session& session = *static_cast<Session*>(png_get_error_ptr(png));
  if (session.message[0] == '\0') std::snprintf(session.message, sizeof session.message, "%s", message);
  std::longjmp(session.jump, 1);
}

// Print nothing. The table in README.md goes through all of them; one speaks of pixels that are not what was written.
void on_warning(png_structp png, png_const_charp message) {
  if (std::strstr(message, "incorrect data check") != nullptr) png_error(png, "the checksum of the pixels is wrong");
}

png_voidp allocate(png_structp png, png_alloc_size_t n_bytes) {
  void* memory = std::malloc(n_bytes);
  if (memory == nullptr) static_cast<Session*>(png_get_mem_ptr(png))->code = ErrorCode::kOutOfMemory;
  return memory;
}

void release(png_structp, png_voidp memory) {
  std::free(memory);
}

void read_bytes(png_structp png, png_bytep out, size_t n_bytes) {
  Session& session = *static_cast<Session*>(png_get_io_ptr(png));
  if (session.n_left == 0 && session.may_end && !session.at_end_chunk) {
    session.at_end_chunk = true;
    session.next = reinterpret_cast<const std::byte*>(kEndChunk);
    session.n_left = sizeof kEndChunk;
  }
  if (n_bytes > session.n_left) {
    session.code = ErrorCode::kTruncated;
    png_error(png, "the file ends in the middle of the picture");
  }
  std::memcpy(out, session.next, n_bytes);
  session.next += n_bytes;
  session.n_left -= n_bytes;
}

// Reads up to the first IDAT. false: session.error() says why.
bool read_header(Session& session, const PngChunks& chunks, const ImageLimits& limits) {
  if (setjmp(session.jump) != 0) return false;
  session.png =
      png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning, &session, allocate, release);
  if (session.png != nullptr) session.info = png_create_info_struct(session.png);
  if (session.info == nullptr) {
    session.code = ErrorCode::kOutOfMemory;
    std::snprintf(session.message, sizeof session.message, "libpng cannot start");
    return false;
  }
  png_structp png = session.png;
  png_set_read_fn(png, &session, read_bytes);
  // Ancillary chunks are skipped unread: a compressed text or colour profile of gigabytes is never inflated. tRNS, the
  // only one that changes pixels, is applied here.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, reinterpret_cast<png_const_bytep>("tRNS"), 1);
  png_set_user_limits(png, static_cast<png_uint_32>(limits.max_width), static_cast<png_uint_32>(limits.max_height));
  png_set_chunk_cache_max(png, 16);
  png_set_chunk_malloc_max(png, 1u << 20);
  png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  // Some encoders declare a deflate window smaller than the distances they use; the largest one reads them all.
  png_set_option(png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
  png_read_info(png, session.info);
  if (chunks.strips_16()) png_set_strip_16(png);  // the high byte
  png_set_interlace_handling(png);
  png_read_update_info(png, session.info);
  if (png_get_rowbytes(png, session.info) != chunks.row_bytes()) png_error(png, "unexpected pixel layout");
  return true;
}

// The next rows of a pass to `rows`, row_bytes apart (0: each over the one before).
bool read_stored_rows(Session& session, int64_t n_rows, uint8_t* rows, size_t row_bytes) {
  if (setjmp(session.jump) != 0) return false;
  for (int64_t y = 0; y < n_rows; ++y) png_read_row(session.png, rows + static_cast<size_t>(y) * row_bytes, nullptr);
  return true;
}

// After the last row: reads the rest of the pixels' stream with its checksums.
bool read_end(Session& session) {
  if (setjmp(session.jump) != 0) return false;
  png_read_end(session.png, nullptr);
  return true;
}

class PngReader final : public ImageReader {
 public:
  PngReader(PngChunks chunks, const DecodeOptions& options) : chunks_(std::move(chunks)), limits_(options.limits) {
    progress_ = options.progress;
    if (chunks_.interlaced) rows_begin_ = kPassesShare;
    info_.width = chunks_.width;
    info_.height = chunks_.height;
    info_.memory = sizeof *this + memory();
    if (options.apply_exif_orientation) info_.orientation = chunks_.orientation();
  }

  Status open(std::span<const std::byte> bytes) {
    GLIMPSE_TRY(check_memory(chunks_.interlaced ? "interlaced PNG" : "PNG", info_.memory, limits_));
    session_.next = bytes.data();
    session_.n_left = chunks_.pixels_end;
    session_.may_end = chunks_.pixels_are_whole;
    if (!read_header(session_, chunks_, limits_)) return session_.error();
    return {};
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    const size_t row_bytes = chunks_.row_bytes();
    if (rows_.empty()) {
      rows_.resize(row_bytes * (chunks_.interlaced ? chunks_.height : 1));
      if (chunks_.interlaced) GLIMPSE_TRY(read_passes());
    }
    for (int64_t y = 0; y < n_rows; ++y, ++n_given_, rgb += info_.width * 3) {
      const uint8_t* row = rows_.data();
      if (chunks_.interlaced) {
        row += n_given_ * row_bytes;
      } else if (!read_stored_rows(session_, 1, rows_.data(), 0)) {
        return session_.error();
      }
      chunks_.expand_row(row, rgb);
    }
    if (n_given_ == chunks_.height && !read_end(session_)) return session_.error();
    return {};
  }

 private:
  // Of libpng (three rows, zlib's window and tables, its read buffer) and of rows_.
  uint64_t memory() const {
    constexpr uint64_t kLibrary = 96 << 10;
    return kLibrary + uint64_t{chunks_.stored_row_bytes()} * 4 +
           uint64_t{chunks_.row_bytes()} * (chunks_.interlaced ? chunks_.height : 1);
  }

  // Interlaced passes fill in the pixels of earlier ones: all rows must stay.
  Status read_passes() {
    constexpr int kPasses = 7;
    const int64_t at_once = std::max<int64_t>(1, (1 << 20) / static_cast<int64_t>(chunks_.row_bytes()));
    for (int pass = 0; pass < kPasses; ++pass) {
      for (int64_t y = 0; y < chunks_.height; y += at_once) {
        const int64_t n = std::min<int64_t>(at_once, chunks_.height - y);
        uint8_t* rows = rows_.data() + static_cast<size_t>(y) * chunks_.row_bytes();
        if (!read_stored_rows(session_, n, rows, chunks_.row_bytes())) return session_.error();
        GLIMPSE_TRY(report(kPassesShare * (pass + static_cast<double>(y + n) / chunks_.height) / kPasses));
      }
    }
    return {};
  }

  const PngChunks chunks_;
  const ImageLimits limits_;
  Session session_;
  std::vector<uint8_t> rows_;  // as stored: all of an interlaced picture, else one
  uint32_t n_given_ = 0;
};

}  // namespace

ImageReaderResult open_png(std::span<const std::byte> bytes, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(PngChunks chunks, scan_png_chunks(bytes, options.limits));
  // Deflate expands at most 1032 times (RFC 1951: 258 bytes for 2 bits), so few bytes cannot be a large picture.
  // One filter byte per row; interlacing only adds to that.
  const uint64_t n_raw = (uint64_t{chunks.stored_row_bytes()} + 1) * chunks.height;
  if (n_raw / 1032 > chunks.n_idat_bytes) {
    return make_error(ErrorCode::kTruncated, "PNG: %d compressed bytes cannot hold %d x %d pixels", chunks.n_idat_bytes,
                      chunks.width, chunks.height);
  }
  auto reader = std::make_unique<PngReader>(std::move(chunks), options);
  GLIMPSE_TRY(reader->open(bytes));
  return std::unique_ptr<ImageReader>(std::move(reader));
}

}  // namespace glimpse
