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
        return make_error(ErrorCode::kCorrupt, "PPM: %s at offset %zu is above %lld", what, start,
                          static_cast<long long>(limit));
      }
    }
    if (at_ == start || (at_ < bytes_.size() && !is_space(load_u8(&bytes_[at_])) && load_u8(&bytes_[at_]) != '#')) {
      return make_error(ErrorCode::kCorrupt, "PPM: %s at offset %zu is not a number", what, start);
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

void store(uint8_t* pixels, size_t sample, size_t channels, uint8_t value) {
  if (channels == 3) {
    pixels[sample] = value;
  } else {
    pixels[sample * 3] = pixels[sample * 3 + 1] = pixels[sample * 3 + 2] = value;
  }
}

Status read_plain(Scanner& scanner, const Header& header, size_t n_samples, uint8_t* pixels) {
  const std::vector<uint8_t> table = scale_table(header.max_value);
  for (size_t i = 0; i < n_samples; ++i) {
    GLIMPSE_ASSIGN(const int64_t value, scanner.number("sample", header.max_value));
    store(pixels, i, header.channels, table[static_cast<size_t>(value)]);
  }
  return {};
}

Status read_binary(std::span<const std::byte> data, const Header& header, size_t n_samples, uint8_t* pixels) {
  const std::vector<uint8_t> table = scale_table(header.max_value);
  const size_t sample_bytes = header.max_value > 255 ? 2 : 1;  // 16 bits: most significant byte first
  for (size_t i = 0; i < n_samples; ++i) {
    const std::byte* p = data.data() + i * sample_bytes;
    const uint32_t value = sample_bytes == 2 ? load_u8(p) << 8 | load_u8(p + 1) : load_u8(p);
    if (value > table.size() - 1) {
      return make_error(ErrorCode::kCorrupt, "PPM: sample %zu is %u, above the maximum %lld", i, value,
                        static_cast<long long>(header.max_value));
    }
    store(pixels, i, header.channels, table[value]);
  }
  return {};
}

}  // namespace

Result<DecodedImage> decode_ppm(std::span<const std::byte> bytes, const ImageLimits& limits) {
  Header header;
  const uint32_t kind = load_u8(&bytes[1]);  // '2', '3', '5' or '6': sniff_format() saw to that
  header.channels = kind == '3' || kind == '6' ? 3 : 1;
  header.plain = kind == '2' || kind == '3';
  Scanner scanner(bytes);
  scanner.skip(2);
  GLIMPSE_ASSIGN(header.width, scanner.number("width", INT32_MAX));
  GLIMPSE_ASSIGN(header.height, scanner.number("height", INT32_MAX));
  GLIMPSE_TRY(check_size("PPM", header.width, header.height, limits));
  GLIMPSE_ASSIGN(header.max_value, scanner.number("maximum value", 65535));
  if (header.max_value == 0) return make_error(ErrorCode::kCorrupt, "PPM: the maximum value is 0");

  const size_t n_samples = static_cast<size_t>(header.width) * static_cast<size_t>(header.height) * header.channels;
  const size_t available = scanner.rest().size();
  // After the header one white-space byte; then n samples, or n numbers of at least a digit with blanks between.
  const size_t needed = header.plain ? 2 * n_samples : 1 + n_samples * (header.max_value > 255 ? 2 : 1);
  if (available < needed) {
    return make_error(ErrorCode::kTruncated, "PPM: %zu bytes of samples, %zu needed for %lld x %lld pixels", available,
                      needed, static_cast<long long>(header.width), static_cast<long long>(header.height));
  }
  DecodedImage decoded;
  decoded.image = allocate_image(header.width, header.height);
  if (header.plain) {
    GLIMPSE_TRY(read_plain(scanner, header, n_samples, decoded.image.pixels.data()));
  } else {
    if (!is_space(load_u8(scanner.rest().data()))) {
      return make_error(ErrorCode::kCorrupt, "PPM: no white space between the header and the samples");
    }
    scanner.skip(1);
    GLIMPSE_TRY(read_binary(scanner.rest(), header, n_samples, decoded.image.pixels.data()));
  }
  return decoded;
}

}  // namespace glimpse
