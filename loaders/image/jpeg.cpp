// JPEG through libjpeg-turbo: accurate integer IDCT and fancy upsampling, which are its defaults and Pillow's.
//
// libjpeg reports errors by calling error_exit, which must not return: ours jumps to the setjmp of the function that
// called into libjpeg. longjmp over a frame that holds C++ objects is undefined, therefore every function here with a
// setjmp holds only plain values, and all that owns memory (the Session, the pixels) lives in the caller's frame.
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstring>
#include <utility>
#include <vector>

extern "C" {
#include <jerror.h>
#include <jpeglib.h>
}

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

// A progressive picture has about 10 scans, the most careful optimisers write fewer than 30. Each scan may cost a
// visit to every block of the picture for a few bytes of file: without a cap, a small file could keep us for hours.
constexpr int kMaxScans = 100;

ErrorCode code_of(int message_code) {
  switch (message_code) {
    case JERR_INPUT_EMPTY:
    case JERR_INPUT_EOF:
    case JWRN_JPEG_EOF:
      return ErrorCode::kTruncated;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_COMPONENT_COUNT:
    case JERR_NOT_COMPILED:
    case JERR_ARITH_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
      return ErrorCode::kUnsupported;
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
      return ErrorCode::kTooLarge;
    case JERR_OUT_OF_MEMORY:
      return ErrorCode::kOutOfMemory;
    default:
      return ErrorCode::kCorrupt;
  }
}

// One decompressor with our handlers. Not movable: libjpeg keeps pointers into it.
struct Session {
  jpeg_decompress_struct decompressor = {};
  jpeg_error_mgr handlers = {};
  jpeg_source_mgr source = {};
  jpeg_progress_mgr progress = {};
  jmp_buf jump = {};
  ErrorCode code = ErrorCode::kInternal;
  char message[JMSG_LENGTH_MAX] = "";

  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { jpeg_destroy_decompress(&decompressor); }  // also right when it was never created (all zero)

  Error error() const { return make_error(code, "JPEG: %s", message); }
};

Session& session_of(j_common_ptr decompressor) {
  return *static_cast<Session*>(decompressor->client_data);
}

[[noreturn]] void fail(Session& session, ErrorCode code, const char* message) {
  session.code = code;
  std::snprintf(session.message, sizeof session.message, "%s", message);
  std::longjmp(session.jump, 1);
}

[[noreturn]] void on_error(j_common_ptr decompressor) {
  Session& session = session_of(decompressor);
  session.code = code_of(session.handlers.msg_code);
  session.handlers.format_message(decompressor, session.message);
  std::longjmp(session.jump, 1);
}

// msg_level < 0 is a warning: libjpeg would go on with made-up pixels. Those that leave the pixels alone pass.
void on_message(j_common_ptr decompressor, int msg_level) {
  if (msg_level >= 0) return;
  switch (session_of(decompressor).handlers.msg_code) {
    case JWRN_EXTRANEOUS_DATA:  // padding between segments: common in files of phones, all bytes of pixels are there
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
      return;
    default:
      on_error(decompressor);
  }
}

void on_output(j_common_ptr) {}  // print nothing

void init_source(j_decompress_ptr) {}
void term_source(j_decompress_ptr) {}

// The whole file is in the buffer from the start: being asked for more means that it ended too early.
boolean fill_input_buffer(j_decompress_ptr decompressor) {
  fail(session_of(reinterpret_cast<j_common_ptr>(decompressor)), ErrorCode::kTruncated,
       "the file ends in the middle of the picture");
}

void skip_input_data(j_decompress_ptr decompressor, long n_bytes) {
  if (n_bytes <= 0) return;
  if (static_cast<size_t>(n_bytes) > decompressor->src->bytes_in_buffer) fill_input_buffer(decompressor);
  decompressor->src->next_input_byte += n_bytes;
  decompressor->src->bytes_in_buffer -= static_cast<size_t>(n_bytes);
}

void on_progress(j_common_ptr decompressor) {
  if (reinterpret_cast<j_decompress_ptr>(decompressor)->input_scan_number > kMaxScans) {
    fail(session_of(decompressor), ErrorCode::kCorrupt, "more than 100 scans: not a picture but an attack");
  }
}

// Reads up to the first scan. false: session.error() says why.
bool read_header(Session& session, const uint8_t* bytes, size_t n_bytes) {
  jpeg_decompress_struct& d = session.decompressor;
  d.err = jpeg_std_error(&session.handlers);
  session.handlers.error_exit = on_error;
  session.handlers.emit_message = on_message;
  session.handlers.output_message = on_output;
  if (setjmp(session.jump) != 0) return false;
  d.client_data = &session;  // an error may come before jpeg_create_decompress keeps it
  jpeg_create_decompress(&d);
  session.source.init_source = init_source;
  session.source.fill_input_buffer = fill_input_buffer;
  session.source.skip_input_data = skip_input_data;
  session.source.resync_to_restart = jpeg_resync_to_restart;
  session.source.term_source = term_source;
  session.source.next_input_byte = bytes;
  session.source.bytes_in_buffer = n_bytes;
  d.src = &session.source;
  session.progress.progress_monitor = on_progress;
  d.progress = &session.progress;
  jpeg_save_markers(&d, JPEG_APP0 + 1, 0xffff);  // EXIF; together no larger than the file
  jpeg_read_header(&d, TRUE);
  return true;
}

// One row of inverted CMYK (as Adobe stores it, and as Pillow takes every CMYK JPEG to be stored) to RGB: with ink
// values C = 255 - c and K = 255 - k, Pillow's conversion is R = k - C * k / 255, rounded to nearest.
void cmyk_to_rgb(const uint8_t* cmyk, size_t width, uint8_t* rgb) {
  for (size_t x = 0; x < width; ++x) {
    const unsigned k = cmyk[x * 4 + 3];
    for (size_t c = 0; c < 3; ++c) {
      const unsigned t = (255u - cmyk[x * 4 + c]) * k + 128u;
      rgb[x * 3 + c] = static_cast<uint8_t>(k - ((t + (t >> 8)) >> 8));
    }
  }
}

// Decodes to `rgb` (height * width * 3 bytes). cmyk_row: width * 4 bytes when the file has four components.
bool read_pixels(Session& session, uint8_t* rgb, uint8_t* cmyk_row) {
  jpeg_decompress_struct& d = session.decompressor;
  if (setjmp(session.jump) != 0) return false;
  d.out_color_space = cmyk_row != nullptr ? JCS_CMYK : JCS_RGB;
  d.dct_method = JDCT_ISLOW;
  d.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&d);
  const size_t width = d.output_width;
  while (d.output_scanline < d.output_height) {
    uint8_t* out = rgb + d.output_scanline * width * 3;
    JSAMPROW row = cmyk_row != nullptr ? cmyk_row : out;
    jpeg_read_scanlines(&d, &row, 1);
    if (cmyk_row != nullptr) cmyk_to_rgb(cmyk_row, width, out);
  }
  jpeg_finish_decompress(&d);  // to the end-of-image marker: a file without it is truncated
  return true;
}

int orientation_of(const jpeg_decompress_struct& decompressor) {
  for (jpeg_saved_marker_ptr marker = decompressor.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->data_length >= 6 && std::memcmp(marker->data, "Exif\0\0", 6) == 0) {
      return parse_exif_orientation(std::as_bytes(std::span(marker->data, marker->data_length)));
    }
  }
  return 1;
}

}  // namespace

Result<DecodedImage> decode_jpeg(std::span<const std::byte> bytes, const ImageLimits& limits) {
  Session session;
  if (!read_header(session, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size())) return session.error();
  const jpeg_decompress_struct& d = session.decompressor;
  GLIMPSE_TRY(check_size("JPEG", d.image_width, d.image_height, limits));
  if (d.num_components != 1 && d.num_components != 3 && d.num_components != 4) {
    return make_error(ErrorCode::kUnsupported, "JPEG: %d colour components; 1, 3 and 4 are known", d.num_components);
  }
  DecodedImage decoded;
  decoded.orientation = orientation_of(d);
  decoded.image = allocate_image(d.image_width, d.image_height);
  std::vector<uint8_t> cmyk_row(d.num_components == 4 ? size_t{d.image_width} * 4 : 0);
  if (!read_pixels(session, decoded.image.pixels.data(), cmyk_row.empty() ? nullptr : cmyk_row.data())) {
    return session.error();
  }
  return decoded;
}

}  // namespace glimpse
