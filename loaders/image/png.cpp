// PNG through libpng. Everything becomes 8-bit RGB or RGBA inside libpng; alpha is then composited over white.
//
// libpng reports errors by calling our on_error, which jumps to the setjmp of the function that called into libpng.
// longjmp over a frame that holds C++ objects is undefined, therefore every function here with a setjmp holds only
// plain values, and all that owns memory (the Session, the pixels) lives in the caller's frame.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

// PNG (W3C, third edition), section 5: 8 bytes of signature, then chunks of length, type, data, CRC.
constexpr size_t kSignatureBytes = 8, kChunkOverhead = 12;

struct Header {
  uint32_t width = 0, height = 0;
  int bit_depth = 0, color_type = 0;
  uint64_t n_idat_bytes = 0;  // compressed pixels
  int orientation = 1;

  uint64_t bits_per_pixel() const {
    const int channels = color_type == PNG_COLOR_TYPE_RGB          ? 3
                         : color_type == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
                         : color_type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                                   : 1;
    return static_cast<uint64_t>(channels * bit_depth);
  }
};

// What has to be known before libpng is let loose on the file. bytes: begins with the signature.
Result<Header> scan_chunks(std::span<const std::byte> bytes, const ImageLimits& limits) {
  Header header;
  for (size_t at = kSignatureBytes; bytes.size() - at >= kChunkOverhead;) {
    const std::byte* chunk = bytes.data() + at;
    const uint64_t length = load_be32(chunk);
    const char* type = reinterpret_cast<const char*>(chunk + 4);
    if (length > bytes.size() - at - kChunkOverhead) break;  // truncated: libpng will say so, if it matters
    const std::span<const std::byte> data = bytes.subspan(at + 8, static_cast<size_t>(length));
    if (at == kSignatureBytes) {
      if (std::memcmp(type, "IHDR", 4) != 0 || length != 13) {
        return make_error(ErrorCode::kCorrupt, "PNG: the file does not begin with a header chunk");
      }
      header.width = load_be32(data.data());
      header.height = load_be32(data.data() + 4);
      header.bit_depth = static_cast<int>(load_u8(data.data() + 8));
      header.color_type = static_cast<int>(load_u8(data.data() + 9));
      GLIMPSE_TRY(check_size("PNG", header.width, header.height, limits));
    } else if (std::memcmp(type, "IDAT", 4) == 0) {
      header.n_idat_bytes += length;
    } else if (std::memcmp(type, "eXIf", 4) == 0) {
      header.orientation = parse_exif_orientation(data);
    } else if (std::memcmp(type, "IEND", 4) == 0) {
      return header;
    }
    at += kChunkOverhead + static_cast<size_t>(length);
  }
  return make_error(ErrorCode::kTruncated, "PNG: the file ends before its end chunk (IEND)");
}

// One libpng reader over a buffer. Not movable: libpng keeps pointers to it.
struct Session {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const std::byte* next = nullptr;
  size_t n_left = 0;
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

void on_warning(png_structp, png_const_charp) {}  // print nothing; none of them changes pixels

void read_bytes(png_structp png, png_bytep out, size_t n_bytes) {
  Session& session = *static_cast<Session*>(png_get_io_ptr(png));
  if (n_bytes > session.n_left) {
    session.code = ErrorCode::kTruncated;
    png_error(png, "the file ends in the middle of the picture");
  }
  std::memcpy(out, session.next, n_bytes);
  session.next += n_bytes;
  session.n_left -= n_bytes;
}

// Reads up to the first IDAT and asks for 8-bit RGB(A). channels: 3 or 4. false: session.error() says why.
bool read_header(Session& session, const ImageLimits& limits, int& n_passes, size_t& channels) {
  if (setjmp(session.jump) != 0) return false;
  session.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
  if (session.png != nullptr) session.info = png_create_info_struct(session.png);
  if (session.info == nullptr) {
    session.code = ErrorCode::kOutOfMemory;
    std::snprintf(session.message, sizeof session.message, "libpng cannot start");
    return false;
  }
  png_structp png = session.png;
  png_set_read_fn(png, &session, read_bytes);
  // Of the ancillary chunks only tRNS changes pixels. The others are skipped unread: a compressed text or colour
  // profile of gigabytes is never inflated.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_set_user_limits(png, static_cast<png_uint_32>(limits.max_width), static_cast<png_uint_32>(limits.max_height));
  png_set_chunk_cache_max(png, 16);
  png_set_chunk_malloc_max(png, 1u << 20);
  png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_read_info(png, session.info);
  png_set_expand(png);    // palette to RGB, grey to 8 bits, tRNS to alpha
  png_set_strip_16(png);  // the high byte
  png_set_gray_to_rgb(png);
  n_passes = png_set_interlace_handling(png);
  png_read_update_info(png, session.info);
  channels = png_get_channels(png, session.info);
  if (png_get_bit_depth(png, session.info) != 8 || (channels != 3 && channels != 4)) {
    png_error(png, "unexpected pixel layout");
  }
  return true;
}

// Reads all rows to `rows`: (height, width, channels) when keep_rows, else one row that is composited into `rgb` as
// soon as it is there.
bool read_rows(Session& session, const Header& header, int n_passes, bool keep_rows, size_t row_bytes, uint8_t* rows,
               uint8_t* rgb) {
  if (setjmp(session.jump) != 0) return false;
  for (int pass = 0; pass < n_passes; ++pass) {
    for (uint32_t y = 0; y < header.height; ++y) {
      png_read_row(session.png, keep_rows ? rows + y * row_bytes : rows, nullptr);
      if (!keep_rows) composite_over_white(rows, header.width, rgb + y * (size_t{header.width} * 3));
    }
  }
  png_read_end(session.png, nullptr);
  return true;
}

}  // namespace

Result<DecodedImage> decode_png(std::span<const std::byte> bytes, const ImageLimits& limits) {
  GLIMPSE_ASSIGN(const Header header, scan_chunks(bytes, limits));
  // Deflate expands at most 1032 times (RFC 1951: 258 bytes for 2 bits), so few bytes cannot be a large picture.
  // One filter byte per row; interlacing only adds to that.
  const uint64_t n_raw = ((header.bits_per_pixel() * header.width + 7) / 8 + 1) * header.height;
  if (n_raw / 1032 > header.n_idat_bytes) {
    return make_error(ErrorCode::kTruncated, "PNG: %llu compressed bytes cannot hold %u x %u pixels",
                      static_cast<unsigned long long>(header.n_idat_bytes), header.width, header.height);
  }

  Session session;
  session.next = bytes.data();
  session.n_left = bytes.size();
  int n_passes = 1;
  size_t channels = 0;
  if (!read_header(session, limits, n_passes, channels)) return session.error();

  DecodedImage decoded;
  decoded.orientation = header.orientation;
  decoded.image = allocate_image(header.width, header.height);
  uint8_t* rgb = decoded.image.pixels.data();
  const size_t row_bytes = channels * header.width;
  const bool has_alpha = channels == 4, interlaced = n_passes > 1;
  // Interlaced passes fill in the pixels of earlier ones: all rows must stay, with their alpha.
  std::vector<uint8_t> rgba(has_alpha ? row_bytes * (interlaced ? header.height : 1) : 0);
  if (!read_rows(session, header, n_passes, interlaced || !has_alpha, row_bytes, has_alpha ? rgba.data() : rgb, rgb)) {
    return session.error();
  }
  if (has_alpha && interlaced) {
    composite_over_white(rgba.data(), int64_t{header.width} * header.height, rgb);
  }
  return decoded;
}

}  // namespace glimpse
