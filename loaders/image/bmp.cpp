// Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits, palettes, bit fields, RLE4, RLE8, bottom-up and top-down.
// Source: Microsoft "Bitmap Storage" (BITMAPCOREHEADER to BITMAPV5HEADER, "Bitmap Compression").
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"

namespace glimpse {
namespace {

constexpr size_t kFileHeaderBytes = 14;
constexpr uint32_t kCoreHeaderBytes = 12, kInfoHeaderBytes = 40, kV3HeaderBytes = 56;

enum Compression : uint32_t {
  kRgb = 0,
  kRle8 = 1,
  kRle4 = 2,
  kBitFields = 3,
  kJpeg = 4,
  kPng = 5,
  kAlphaBitFields = 6
};

// One channel of a 16 or 32 bit pixel: a run of bits, scaled to 0..255 (truncating, as Pillow scales 5 and 6 bits).
struct BitField {
  uint32_t mask = 0;
  int shift = 0;
  uint32_t maximum = 0;

  uint8_t extract(uint32_t pixel) const {
    if (maximum == 0) return 0;
    const uint64_t value = (pixel & mask) >> shift;
    return static_cast<uint8_t>(maximum == 255 ? value : value * 255 / maximum);
  }
};

struct Header {
  int64_t width = 0, height = 0;
  bool top_down = false;
  uint32_t bits = 0;
  uint32_t compression = kRgb;
  size_t data_offset = 0;
  std::array<std::array<uint8_t, 3>, 256> palette = {};  // RGB; entries that the file lacks are black
  std::array<BitField, 4> fields;                        // R, G, B, alpha
};

Error truncated_header() {
  return make_error(ErrorCode::kTruncated, "BMP: the file ends inside its header");
}

Status set_fields(Header& header, const std::array<uint32_t, 4>& masks) {
  uint32_t seen = 0;
  for (size_t i = 0; i < 4; ++i) {
    const uint32_t mask = masks[i];
    if (mask == 0) continue;
    const int shift = std::countr_zero(mask);
    const uint32_t maximum = mask >> shift;
    if ((maximum & (maximum + 1)) != 0 || (seen & mask) != 0) {
      return make_error(ErrorCode::kCorrupt, "BMP: the colour masks %08x %08x %08x %08x overlap or have holes",
                        masks[0], masks[1], masks[2], masks[3]);
    }
    seen |= mask;
    header.fields[i] = {mask, shift, maximum};
  }
  return {};
}

Status check_compression(const Header& header) {
  const uint32_t bits = header.bits;
  if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) {
    return make_error(ErrorCode::kUnsupported, "BMP: %d bits per pixel; 1, 4, 8, 16, 24 and 32 are known", bits);
  }
  switch (header.compression) {
    case kRgb:
      return {};
    case kRle8:
      if (bits == 8) return {};
      break;
    case kRle4:
      if (bits == 4) return {};
      break;
    case kBitFields:
    case kAlphaBitFields:
      if (bits == 16 || bits == 32) return {};
      break;
    case kJpeg:
    case kPng:
      return make_error(ErrorCode::kUnsupported, "BMP: a JPEG or PNG inside a BMP");
    default:
      break;
  }
  return make_error(ErrorCode::kUnsupported, "BMP: compression %d with %d bits per pixel", header.compression, bits);
}

// Masks of 16 and 32 bit pixels. dib: from the size field of the DIB header on, to the end of the file.
Status read_masks(std::span<const std::byte> dib, uint32_t dib_size, Header& header) {
  if (header.bits != 16 && header.bits != 32) return {};
  std::array<uint32_t, 4> masks = {};
  if (header.compression == kBitFields || header.compression == kAlphaBitFields) {
    // After a 40 byte header come three masks (four when the compression says so), V3 headers and later hold four.
    // An OS/2 2.x header of 64 bytes has other fields there, but no bit fields either.
    const size_t n = dib_size >= kV3HeaderBytes || header.compression == kAlphaBitFields ? 4 : 3;
    if (dib.size() < kInfoHeaderBytes + n * 4) return truncated_header();
    for (size_t i = 0; i < n; ++i) masks[i] = load_le32(dib.data() + kInfoHeaderBytes + i * 4);
  }
  if (masks[0] == 0 && masks[1] == 0 && masks[2] == 0) {
    masks = header.bits == 16 ? std::array<uint32_t, 4>{0x7c00, 0x03e0, 0x001f, 0}
                              : std::array<uint32_t, 4>{0xff0000, 0x00ff00, 0x0000ff, 0};
  }
  return set_fields(header, masks);
}

void read_palette(std::span<const std::byte> file, size_t offset, size_t entry_bytes, size_t n_entries,
                  Header& header) {
  // Some writers promise more colours than fit before the pixels.
  const size_t end = std::min(header.data_offset, file.size());
  n_entries = std::min({n_entries, size_t{1} << header.bits, end > offset ? (end - offset) / entry_bytes : 0});
  for (size_t i = 0; i < n_entries; ++i) {
    const std::byte* entry = file.data() + offset + i * entry_bytes;  // blue, green, red
    for (size_t c = 0; c < 3; ++c) header.palette[i][c] = static_cast<uint8_t>(load_u8(entry + 2 - c));
  }
}

Result<Header> read_header(std::span<const std::byte> file, const ImageLimits& limits) {
  if (file.size() < kFileHeaderBytes + kCoreHeaderBytes) return truncated_header();
  Header header;
  header.data_offset = load_le32(file.data() + 10);
  const std::span<const std::byte> dib = file.subspan(kFileHeaderBytes);
  const uint32_t dib_size = load_le32(dib.data());
  if (dib_size != kCoreHeaderBytes && (dib_size < 16 || dib_size > 124)) {
    return make_error(ErrorCode::kUnsupported, "BMP: a header of %d bytes", dib_size);
  }
  if (dib.size() < dib_size) return truncated_header();
  uint32_t n_colors = 0;
  if (dib_size == kCoreHeaderBytes) {
    header.width = load_le16(dib.data() + 4);
    header.height = load_le16(dib.data() + 6);
    header.bits = load_le16(dib.data() + 10);
  } else {
    header.width = static_cast<int32_t>(load_le32(dib.data() + 4));
    const int64_t height = static_cast<int32_t>(load_le32(dib.data() + 8));
    header.top_down = height < 0;
    header.height = height < 0 ? -height : height;
    header.bits = load_le16(dib.data() + 14);
    if (dib_size >= 20) header.compression = load_le32(dib.data() + 16);
    if (dib_size >= 36) n_colors = load_le32(dib.data() + 32);
  }
  GLIMPSE_TRY(check_size("BMP", header.width, header.height, limits));
  GLIMPSE_TRY(check_compression(header));
  GLIMPSE_TRY(read_masks(dib, dib_size, header));

  const size_t palette_offset = kFileHeaderBytes + dib_size;
  if (header.bits <= 8) {
    const size_t entry_bytes = dib_size == kCoreHeaderBytes ? 3 : 4;
    if (n_colors == 0 || n_colors > 256) n_colors = 1u << header.bits;
    // Some writers forget the palette when they say where the pixels begin.
    if (header.data_offset == palette_offset) header.data_offset += n_colors * entry_bytes;
    read_palette(file, palette_offset, entry_bytes, n_colors, header);
  }
  if (header.data_offset < palette_offset) {
    return make_error(ErrorCode::kCorrupt, "BMP: the pixels begin at offset %d, inside the header", header.data_offset);
  }
  if (header.data_offset > file.size()) {
    return make_error(ErrorCode::kTruncated, "BMP: the file ends before its pixels");
  }
  return header;
}

void unpack_row(const Header& header, const std::byte* in, uint8_t* out) {
  for (int64_t x = 0; x < header.width; ++x, out += 3) {
    if (header.bits <= 8) {
      const int64_t bit = x * header.bits;  // the leftmost pixel is in the high bits
      const uint32_t index = load_u8(in + bit / 8) >> (8 - header.bits - bit % 8) & ((1u << header.bits) - 1);
      std::copy_n(header.palette[index].data(), 3, out);
    } else if (header.bits == 24) {
      for (int64_t c = 0; c < 3; ++c) out[c] = static_cast<uint8_t>(load_u8(in + x * 3 + 2 - c));
    } else {
      const uint32_t pixel = header.bits == 16 ? load_le16(in + x * 2) : load_le32(in + x * 4);
      const uint8_t alpha = header.fields[3].mask == 0 ? 255 : header.fields[3].extract(pixel);
      for (size_t c = 0; c < 3; ++c) out[c] = over_white(header.fields[c].extract(pixel), alpha);
    }
  }
}

// True when no pixel has any alpha: writers that fill the channel with zeros mean an opaque picture.
bool alpha_is_unused(const Header& header, const std::byte* data, size_t stride) {
  for (int64_t y = 0; y < header.height; ++y) {
    for (int64_t x = 0; x < header.width; ++x) {
      const std::byte* in = data + static_cast<size_t>(y) * stride + x * (header.bits / 8);
      const uint32_t pixel = header.bits == 16 ? load_le16(in) : load_le32(in);
      if ((pixel & header.fields[3].mask) != 0) return false;
    }
  }
  return true;
}

// Uncompressed rows, which may be taken in any order.
class BmpReader final : public ImageReader {
 public:
  BmpReader(Header header, const DecodeOptions& options) : header_(std::move(header)) {
    progress_ = options.progress;
    info_.width = header_.width;
    info_.height = header_.height;
    info_.memory = sizeof *this;
  }

  Status open(std::span<const std::byte> data) {
    data_ = data.data();
    stride_ = (static_cast<size_t>(header_.width) * header_.bits + 31) / 32 * 4;
    // Some writers leave out the padding of the last row.
    const size_t last_row = (static_cast<size_t>(header_.width) * header_.bits + 7) / 8;
    const size_t needed = stride_ * static_cast<size_t>(header_.height - 1) + last_row;
    if (data.size() < needed) {
      return make_error(ErrorCode::kTruncated, "BMP: %d bytes of pixels, %d needed for %d x %d", data.size(), needed,
                        header_.width, header_.height);
    }
    if (header_.fields[3].mask != 0 && alpha_is_unused(header_, data_, stride_)) header_.fields[3] = {};
    return {};
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    for (int64_t i = 0; i < n_rows; ++i, ++y_, rgb += header_.width * 3) {
      const int64_t stored = header_.top_down ? y_ : header_.height - 1 - y_;
      unpack_row(header_, data_ + static_cast<size_t>(stored) * stride_, rgb);
    }
    return {};
  }

 private:
  Header header_;
  const std::byte* data_ = nullptr;
  size_t stride_ = 0;
  int64_t y_ = 0;
};

// Writes runs of palette indices to a picture stored from the bottom. What a run of one colour puts past the end of its
// row is dropped, as Pillow drops it.
class RleCanvas {
 public:
  RleCanvas(const Header& header, uint8_t* indices) : header_(header), indices_(indices) {}
  bool below_last_row() const { return y_ >= header_.height; }
  bool complete() const { return y_ >= header_.height || (y_ == header_.height - 1 && x_ >= header_.width); }
  // Whether `n` more pixels pass the end of the row, or lie below the last one.
  bool has_room(int64_t n) const { return y_ < header_.height && n <= header_.width - x_; }
  int64_t y() const { return y_; }
  void end_line() {
    x_ = 0;
    ++y_;
  }
  void move(int64_t right, int64_t up) {
    x_ += right;
    y_ += up;
  }
  void put(uint32_t index) {
    if (x_ < header_.width && y_ < header_.height) {
      indices_[y_ * header_.width + x_] = static_cast<uint8_t>(index);
    }
    ++x_;
  }

 private:
  const Header& header_;
  uint8_t* indices_;
  int64_t x_ = 0, y_ = 0;
};

// Runs, which must be read from the first: the whole picture is held as indices.
class RleReader final : public ImageReader {
 public:
  RleReader(Header header, std::span<const std::byte> data, const DecodeOptions& options)
      : header_(std::move(header)), data_(data) {
    progress_ = options.progress;
    rows_begin_ = kRunsShare;
    info_.width = header_.width;
    info_.height = header_.height;
    info_.memory = sizeof *this + static_cast<uint64_t>(header_.width) * static_cast<uint64_t>(header_.height);
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    if (indices_.empty()) {
      indices_.resize(static_cast<size_t>(header_.width) * static_cast<size_t>(header_.height));
      GLIMPSE_TRY(decode_runs());
    }
    for (int64_t i = 0; i < n_rows; ++i, ++y_) {
      const int64_t stored = header_.top_down ? y_ : header_.height - 1 - y_;
      const uint8_t* in = indices_.data() + stored * header_.width;
      for (int64_t x = 0; x < header_.width; ++x, rgb += 3) std::copy_n(header_.palette[in[x]].data(), 3, rgb);
    }
    return {};
  }

 private:
  static constexpr double kRunsShare = 0.5;

  Status decode_runs();

  const Header header_;
  const std::span<const std::byte> data_;
  std::vector<uint8_t> indices_;  // 0 where no run reaches
  int64_t y_ = 0;
};

// Runs are (count, value); a count of 0 escapes: 0 end of line, 1 end of bitmap, 2 move, n >= 3 that many pixels
// verbatim, padded to 16 bits. RLE4 values hold two pixels, the high nibble first.
Status RleReader::decode_runs() {
  RleCanvas canvas(header_, indices_.data());
  const std::span<const std::byte> data = data_;
  const bool rle4 = header_.compression == kRle4;
  const auto pixel = [rle4](uint32_t value, uint32_t i) {
    return !rle4 ? value : i % 2 == 0 ? value >> 4 : value & 15;
  };
  size_t at = 0;
  for (int64_t n_escapes = 0; !canvas.below_last_row();) {
    if (data.size() - at < 2) {
      if (canvas.complete()) break;  // every pixel was there: only the end mark is missing
      return make_error(ErrorCode::kTruncated, "BMP: the run-length data end in the middle of the picture");
    }
    const uint32_t count = load_u8(&data[at]), value = load_u8(&data[at + 1]);
    at += 2;
    if (count == 0 && ++n_escapes % 4096 == 0) {
      GLIMPSE_TRY(report(kRunsShare * (static_cast<double>(canvas.y()) / static_cast<double>(header_.height))));
    }
    if (count > 0) {
      for (uint32_t i = 0; i < count; ++i) canvas.put(pixel(value, i));
    } else if (value == 0) {
      canvas.end_line();
    } else if (value == 1) {
      break;
    } else if (value == 2) {
      if (data.size() - at < 2) return make_error(ErrorCode::kTruncated, "BMP: the run-length data end in a move");
      canvas.move(load_u8(&data[at]), load_u8(&data[at + 1]));
      if (!canvas.has_room(0)) return make_error(ErrorCode::kCorrupt, "BMP: a move leaves the picture");
      at += 2;
    } else {
      if (!canvas.has_room(value)) {
        return make_error(ErrorCode::kCorrupt, "BMP: a run of %d pixels leaves its row", value);
      }
      const size_t n_bytes = rle4 ? (value + 1) / 2 : value;
      if (data.size() - at < n_bytes) return make_error(ErrorCode::kTruncated, "BMP: the run-length data end in a run");
      for (uint32_t i = 0; i < value; ++i) canvas.put(pixel(load_u8(&data[at + (rle4 ? i / 2 : i)]), i));
      at = std::min(data.size(), at + n_bytes + (n_bytes & 1));
    }
  }
  return {};
}

}  // namespace

ImageReaderResult open_bmp(std::span<const std::byte> bytes, const DecodeOptions& options) {
  GLIMPSE_ASSIGN(Header header, read_header(bytes, options.limits));
  const std::span<const std::byte> data = bytes.subspan(header.data_offset);
  if (header.compression == kRle4 || header.compression == kRle8) {
    auto reader = std::make_unique<RleReader>(std::move(header), data, options);
    GLIMPSE_TRY(check_memory("run-length BMP", reader->info().memory, options.limits));
    return std::unique_ptr<ImageReader>(std::move(reader));
  }
  auto reader = std::make_unique<BmpReader>(std::move(header), options);
  GLIMPSE_TRY(reader->open(data));
  return std::unique_ptr<ImageReader>(std::move(reader));
}

}  // namespace glimpse
