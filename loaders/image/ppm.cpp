// Portable anymaps: PGM and PPM, binary (P5, P6) and plain (P2, P3), maxval up to 65535.
// Source: netpbm's pgm(5) and ppm(5). Samples v of a file with another maxval than 255 become round(v * 255 / maxval),
// halves to even, as Pillow's PPM decoder does.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "loaders/image/decoder.h"

namespace glimpse {
namespace {

bool is_space(uint32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

class Scanner {
 public:
  explicit Scanner(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> rest() const { return bytes_.subspan(at_); }
  void skip(size_t n) { at_ += n; }

  /// The next decimal number, after white space and comments. Errors: kTruncated, kCorrupt, also when above `limit`.
  Result<int64_t> number(const char* what, int64_t limit) {
    skip_blank();
    if (at_ == bytes_.size()) return make_error(ErrorCode::kTruncated, "PPM: the file ends before the %s", what);
    int64_t value = 0;
    const size_t start = at_;
    for (; at_ < bytes_.size(); ++at_) {
      const uint32_t c = load_u8(&bytes_[at_]);
      if (c < '0' || c > '9') break;
      value = value * 10 + static_cast<int64_t>(c - '0');
      if (value > limit) {
        return make_error(ErrorCode::kCorrupt, "PPM: %s at offset %d is above %d", what, start, limit);
      }
    }
    if (at_ == start || (at_ < bytes_.size() && !is_space(load_u8(&bytes_[at_])) && load_u8(&bytes_[at_]) != '#')) {
      return make_error(ErrorCode::kCorrupt, "PPM: %s at offset %d is not a number", what, start);
    }
    return value;
  }

 private:
  void skip_blank() {
    for (; at_ < bytes_.size(); ++at_) {
      const uint32_t c = load_u8(&bytes_[at_]);
      if (c == '#') {
        while (at_ < bytes_.size() && load_u8(&bytes_[at_]) != '\n' && load_u8(&bytes_[at_]) != '\r') ++at_;
        if (at_ == bytes_.size()) return;
      } else if (!is_space(c)) {
        return;
      }
    }
  }

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

struct Header {
  int64_t width = 0, height = 0, max_value = 0;
  size_t channels = 0;
  bool plain = false;
};

// max_value + 1 entries: a sample to 8 bits.
std::vector<uint8_t> scale_table(int64_t max_value) {
  std::vector<uint8_t> table(static_cast<size_t>(max_value) + 1);
  for (int64_t v = 0; v <= max_value; ++v) {
    table[static_cast<size_t>(v)] =
        static_cast<uint8_t>(std::nearbyint(static_cast<double>(v) / static_cast<double>(max_value) * 255.0));
  }
  return table;
}

class PpmReader final : public ImageReader {
 public:
  PpmReader(const Header& header, Scanner scanner, const DecodeOptions& options)
      : header_(header), scanner_(scanner), table_(scale_table(header.max_value)) {
    progress_ = options.progress;
    info_.width = header.width;
    info_.height = header.height;
    info_.memory = sizeof *this + table_.size();
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    const size_t n_pixels = static_cast<size_t>(n_rows) * static_cast<size_t>(header_.width);
    GLIMPSE_TRY(header_.plain ? read_plain(n_pixels, rgb) : read_binary(n_pixels, rgb));
    return {};
  }

 private:
  void store(uint8_t* pixel, size_t channel, uint32_t value) const {
    pixel[channel] = table_[value];
    if (header_.channels == 1) pixel[1] = pixel[2] = pixel[0];
  }

  Status read_plain(size_t n_pixels, uint8_t* rgb) {
    for (size_t i = 0; i < n_pixels; ++i, rgb += 3) {
      for (size_t c = 0; c < header_.channels; ++c) {
        GLIMPSE_ASSIGN(const int64_t value, scanner_.number("sample", header_.max_value));
        store(rgb, c, static_cast<uint32_t>(value));
      }
    }
    return {};
  }

  // That the bytes are there was checked when the file was opened.
  Status read_binary(size_t n_pixels, uint8_t* rgb) {
    const std::byte* p = scanner_.rest().data();
    const size_t sample_bytes = header_.max_value > 255 ? 2 : 1;  // 16 bits: most significant byte first
    for (size_t i = 0; i < n_pixels; ++i, rgb += 3) {
      for (size_t c = 0; c < header_.channels; ++c, p += sample_bytes) {
        const uint32_t value = sample_bytes == 2 ? load_be16(p) : load_u8(p);
        if (value > header_.max_value) {
          return make_error(ErrorCode::kCorrupt, "PPM: a sample is %d, above the maximum %d", value, header_.max_value);
        }
        store(rgb, c, value);
      }
    }
    scanner_.skip(n_pixels * header_.channels * sample_bytes);
    return {};
  }

  const Header header_;
  Scanner scanner_;
  const std::vector<uint8_t> table_;
};

}  // namespace

ImageReaderResult open_ppm(std::span<const std::byte> bytes, const DecodeOptions& options) {
  Header header;
  const uint32_t kind = load_u8(&bytes[1]);  // '2', '3', '5' or '6': sniff_format() saw to that
  header.channels = kind == '3' || kind == '6' ? 3 : 1;
  header.plain = kind == '2' || kind == '3';
  Scanner scanner(bytes);
  scanner.skip(2);
  GLIMPSE_ASSIGN(header.width, scanner.number("width", INT32_MAX));
  GLIMPSE_ASSIGN(header.height, scanner.number("height", INT32_MAX));
  GLIMPSE_TRY(check_size("PPM", header.width, header.height, options.limits));
  GLIMPSE_ASSIGN(header.max_value, scanner.number("maximum value", 65535));
  if (header.max_value == 0) return make_error(ErrorCode::kCorrupt, "PPM: the maximum value is 0");

  const size_t n_samples = static_cast<size_t>(header.width) * static_cast<size_t>(header.height) * header.channels;
  const size_t available = scanner.rest().size();
  // After the header one white-space byte; then n samples, or n numbers of at least a digit with blanks between.
  const size_t needed = header.plain ? 2 * n_samples : 1 + n_samples * (header.max_value > 255 ? 2 : 1);
  if (available < needed) {
    return make_error(ErrorCode::kTruncated, "PPM: %d bytes of samples, %d needed for %d x %d pixels", available,
                      needed, header.width, header.height);
  }
  if (!header.plain) {
    if (!is_space(load_u8(scanner.rest().data()))) {
      return make_error(ErrorCode::kCorrupt, "PPM: no white space between the header and the samples");
    }
    scanner.skip(1);
  }
  return std::unique_ptr<ImageReader>(std::make_unique<PpmReader>(header, scanner, options));
}

}  // namespace glimpse
