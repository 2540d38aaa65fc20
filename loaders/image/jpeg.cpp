// JPEG through libjpeg-turbo: accurate integer IDCT and fancy upsampling, which are its defaults and Pillow's.
//
// libjpeg reports errors by calling error_exit, which must not return: ours jumps to the setjmp of the function that
// called into libjpeg. longjmp over a frame that holds C++ objects is undefined, therefore every function here with a
// setjmp holds only plain values, and all that owns memory (the Session, the rows) lives in the caller's frame.
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

// Of the work on a picture that comes in several scans: reading them all, before the first row.
constexpr double kScansShare = 0.5;

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
  explicit Session(const DecodeOptions& options) : progress(options.progress), max_scans(options.limits.max_scans) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { jpeg_destroy_decompress(&decompressor); }  // also right when it was never created (all zero)

  Error error() const {
    return code == ErrorCode::kCancelled ? progress.error() : make_error(code, "JPEG: %s", message);
  }

  jpeg_decompress_struct decompressor = {};
  jpeg_error_mgr handlers = {};
  jpeg_source_mgr source = {};
  jpeg_progress_mgr monitor = {};
  jmp_buf jump = {};
  size_t n_bytes = 0;
  GuardedProgress progress;
  int max_scans;
  ErrorCode code = ErrorCode::kInternal;
  char message[JMSG_LENGTH_MAX] = "";
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

// Whether a scan that does not follow the ones before it leaves the pixels as they are meant. Each coefficient has been
// sent down to bit coef_bits (-1: never); a scan sends it first (Ah = 0) or refines it by one bit (Ah = coef_bits).
// A first scan sent again overwrites its coefficients with themselves; a refinement sent again would add its bits
// twice.
bool is_harmless_scan(const jpeg_decompress_struct& d, int component, int coefficient) {
  const int seen = d.coef_bits[component][coefficient];
  if (coefficient == 0 && d.Ss > 0) return true;  // AC before DC: that the DC comes is checked at the end
  return d.Ah == 0 && seen == d.Al;
}

// msg_level < 0 is a warning: libjpeg would go on with made-up pixels. Those that leave the pixels alone pass; the
// table in README.md goes through all of them.
void on_message(j_common_ptr decompressor, int msg_level) {
  if (msg_level >= 0) return;
  const jpeg_error_mgr& handlers = session_of(decompressor).handlers;
  switch (handlers.msg_code) {
    case JWRN_EXTRANEOUS_DATA:  // padding between segments: common in files of phones, all bytes of pixels are there
    case JWRN_NOT_SEQUENTIAL:   // a sequential scan has no use for these parameters
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
      return;
    case JWRN_BOGUS_PROGRESSION:
      if (is_harmless_scan(*reinterpret_cast<j_decompress_ptr>(decompressor), handlers.msg_parm.i[0],
                           handlers.msg_parm.i[1])) {
        return;
      }
      break;
    default:
      break;
  }
  on_error(decompressor);
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

// Called while the scans of a progressive picture are read, before the first row is there.
void on_progress(j_common_ptr common) {
  Session& session = session_of(common);
  if (reinterpret_cast<j_decompress_ptr>(common)->input_scan_number > session.max_scans) {
    char text[96];
    std::snprintf(text, sizeof text, "more than %d scans: not a picture but an attack", session.max_scans);
    fail(session, ErrorCode::kTooLarge, text);
  }
  const double left = static_cast<double>(session.source.bytes_in_buffer);
  if (!session.progress.report(kScansShare * (1 - left / static_cast<double>(session.n_bytes)))) {
    fail(session, ErrorCode::kCancelled, "");
  }
}

// Reads up to the first scan. false: session.error() says why.
bool read_header(Session& session, std::span<const std::byte> bytes) {
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
  session.source.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
  session.source.bytes_in_buffer = session.n_bytes = bytes.size();
  d.src = &session.source;
  session.monitor.progress_monitor = on_progress;
  d.progress = &session.monitor;
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

// A component that no DC scan was sent for would be grey. Only progressive pictures keep account.
bool has_all_dc(const jpeg_decompress_struct& d) {
  for (int i = 0; d.coef_bits != nullptr && i < d.num_components; ++i) {
    if (d.coef_bits[i][0] < 0) return false;
  }
  return true;
}

bool start(Session& session) {
  jpeg_decompress_struct& d = session.decompressor;
  if (setjmp(session.jump) != 0) return false;
  d.out_color_space = d.num_components == 4 ? JCS_CMYK : JCS_RGB;
  d.dct_method = JDCT_ISLOW;
  d.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&d);
  if (!has_all_dc(d)) fail(session, ErrorCode::kTruncated, "the file ends before the first scan of a component");
  return true;
}

// The next rows to `rgb`. cmyk_row: width * 4 bytes when the file has four components, else nullptr.
bool next_rows(Session& session, int64_t n_rows, uint8_t* rgb, uint8_t* cmyk_row) {
  jpeg_decompress_struct& d = session.decompressor;
  if (setjmp(session.jump) != 0) return false;
  const size_t width = d.output_width;
  for (int64_t y = 0; y < n_rows; ++y) {
    uint8_t* out = rgb + static_cast<size_t>(y) * width * 3;
    JSAMPROW row = cmyk_row != nullptr ? cmyk_row : out;
    jpeg_read_scanlines(&d, &row, 1);
    if (cmyk_row != nullptr) cmyk_to_rgb(cmyk_row, width, out);
  }
  // To the end-of-image marker: only it says that the entropy-coded data before are whole.
  if (d.output_scanline == d.output_height) jpeg_finish_decompress(&d);
  return true;
}

// APP1 segments up to the first scan, as Pillow finds them: parts of EXIF are joined, of XMP the last packet counts.
// bytes: begins with SOI.
OrientationTags find_tags(std::span<const std::byte> bytes) {
  constexpr char kXmp[] = "http://ns.adobe.com/xap/1.0/";  // and a zero byte
  OrientationTags tags;
  for (size_t at = 2; at + 4 <= bytes.size();) {
    const uint32_t marker = load_be16(&bytes[at]);
    if (marker < 0xff01 || marker == 0xffff || (marker >= 0xffd0 && marker <= 0xffd8)) {
      at += marker == 0xff00 || (marker >= 0xffd0 && marker <= 0xffd8) ? 2 : 1;  // stuffing, or a marker without a body
      continue;
    }
    if (marker == 0xffda || marker == 0xffd9) break;
    const size_t length = load_be16(&bytes[at + 2]);
    if (length < 2 || length > bytes.size() - at - 2) break;
    const std::span<const std::byte> body = bytes.subspan(at + 4, length - 2);
    at += 2 + length;
    if (marker != 0xffe1) continue;
    if (body.size() >= 6 && std::memcmp(body.data(), "Exif\0\0", 6) == 0) {
      const auto part = tags.exif.empty() ? body : body.subspan(6);
      if (tags.exif.size() + part.size() <= OrientationTags::kMost) {
        tags.exif.insert(tags.exif.end(), part.begin(), part.end());
      }
    } else if (body.size() >= sizeof kXmp && std::memcmp(body.data(), kXmp, sizeof kXmp) == 0) {
      tags.xmp.assign(body.begin() + sizeof kXmp, body.end());
    }
  }
  return tags;
}

// What libjpeg holds at most: rows on their way through upsampling and colour conversion, tables, and, when the picture
// comes in several scans, every coefficient.
uint64_t memory_of(jpeg_decompress_struct& d) {
  constexpr uint64_t kTables = 160 << 10;  // pools of Huffman, quantisation and colour tables
  constexpr uint64_t kRowsOfComponent = 2 * (DCTSIZE + 2) * 2 + 8;
  uint64_t n_bytes = kTables + uint64_t{d.image_width} * 8;
  for (int i = 0; i < d.num_components; ++i) {
    const jpeg_component_info& c = d.comp_info[i];
    const auto blocks = [](uint64_t pixels, int samples, int most) {
      const uint64_t unit = uint64_t{DCTSIZE} * static_cast<uint64_t>(most);
      return (pixels + unit - 1) / unit * static_cast<uint64_t>(samples);
    };
    const uint64_t across = blocks(d.image_width, c.h_samp_factor, d.max_h_samp_factor);
    const uint64_t down = blocks(d.image_height, c.v_samp_factor, d.max_v_samp_factor);
    n_bytes += across * DCTSIZE * kRowsOfComponent * static_cast<uint64_t>(c.v_samp_factor);
    n_bytes += (uint64_t{d.image_width} + 64) * static_cast<uint64_t>(d.max_v_samp_factor);
    if (jpeg_has_multiple_scans(&d)) n_bytes += across * down * sizeof(JBLOCK) + down * sizeof(void*);
  }
  return n_bytes;
}

uint64_t blocks_of(const jpeg_decompress_struct& d) {
  uint64_t n_blocks = 0;
  for (int i = 0; i < d.num_components; ++i) {
    n_blocks += uint64_t{d.comp_info[i].width_in_blocks} * d.comp_info[i].height_in_blocks;
  }
  return n_blocks;
}

class JpegReader final : public ImageReader {
 public:
  explicit JpegReader(const DecodeOptions& options) : session_(options) { progress_ = options.progress; }

  Status open(std::span<const std::byte> bytes, const DecodeOptions& options) {
    if (!read_header(session_, bytes)) return session_.error();
    jpeg_decompress_struct& d = session_.decompressor;
    GLIMPSE_TRY(check_size("JPEG", d.image_width, d.image_height, options.limits));
    if (d.num_components != 1 && d.num_components != 3 && d.num_components != 4) {
      return make_error(ErrorCode::kUnsupported, "JPEG: %d colour components; 1, 3 and 4 are known", d.num_components);
    }
    // Huffman codes have at least one bit: a sequential block is a DC code and an end of block, and progressive scans
    // send at least a DC code for each. So few bytes cannot be a large picture.
    const uint64_t n_bits = blocks_of(d) * (jpeg_has_multiple_scans(&d) ? 1 : 2);
    if (!d.arith_code && n_bits / 8 > bytes.size()) {
      return make_error(ErrorCode::kTruncated, "JPEG: %d bytes cannot hold %d x %d pixels", bytes.size(), d.image_width,
                        d.image_height);
    }
    info_.width = d.image_width;
    info_.height = d.image_height;
    info_.memory = sizeof *this + memory_of(d) + (d.num_components == 4 ? info_.width * 4 : 0);
    GLIMPSE_TRY(check_memory(jpeg_has_multiple_scans(&d) ? "JPEG in several scans (progressive)" : "JPEG", info_.memory,
                             options.limits));
    if (jpeg_has_multiple_scans(&d)) rows_begin_ = kScansShare;
    d.mem->max_memory_to_use = static_cast<long>(info_.memory);
    if (options.apply_exif_orientation) info_.orientation = find_tags(bytes).orientation();
    return {};
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    if (!started_) {
      started_ = true;
      if (session_.decompressor.num_components == 4) cmyk_row_.resize(static_cast<size_t>(info_.width) * 4);
      if (!start(session_)) return session_.error();
    }
    if (!next_rows(session_, n_rows, rgb, cmyk_row_.empty() ? nullptr : cmyk_row_.data())) {
      return session_.error();
    }
    return {};
  }

 private:
  Session session_;
  std::vector<uint8_t> cmyk_row_;
  bool started_ = false;
};

}  // namespace

ImageReaderResult open_jpeg(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return opened<JpegReader>(bytes, options, options);
}

}  // namespace glimpse
