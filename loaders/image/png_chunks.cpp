#include "loaders/image/png_chunks.h"

#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

// PNG (W3C, third edition), section 5: 8 bytes of signature, then chunks of length, type, data, CRC.
constexpr size_t kSignatureBytes = 8, kChunkOverhead = 12;

using Bytes = std::span<const std::byte>;

// The bytes before the next zero, which both are cut from `rest`; false when there is none.
bool cut_string(Bytes& rest, std::string_view& text) {
  const auto end = std::find(rest.begin(), rest.end(), std::byte{0});
  if (end == rest.end()) return false;
  const auto n = static_cast<size_t>(end - rest.begin());
  text = {reinterpret_cast<const char*>(rest.data()), n};
  rest = rest.subspan(n + 1);
  return true;
}

// Texts that may tell the orientation. type: tEXt, zTXt or iTXt.
void take_text(std::string_view type, Bytes data, PngChunks& chunks) {
  std::string_view keyword, skipped;
  if (!cut_string(data, keyword)) return;
  bool deflated = false;
  if (type == "zTXt") {  // method, text
    if (data.empty() || data[0] != std::byte{0}) return;
    deflated = true;
    data = data.subspan(1);
  } else if (type == "iTXt") {  // whether deflated, method, language, translated keyword, text
    if (data.size() < 2) return;
    deflated = data[0] != std::byte{0};
    if (deflated && data[1] != std::byte{0}) return;
    data = data.subspan(2);
    if (!cut_string(data, skipped) || !cut_string(data, skipped)) return;
  }
  if (keyword == "Raw profile type exif") {
    chunks.raw_profile = data;
    chunks.raw_profile_is_deflated = deflated;
  } else if (keyword == "XML:com.adobe.xmp") {
    chunks.xmp = data;
    chunks.xmp_is_deflated = deflated;
  } else if (keyword == "exif" && type == "tEXt") {
    chunks.exif = data;
  }
}

// Empty when it is damaged or longer than what is looked at: a text does not damage the picture.
std::vector<std::byte> inflate_text(Bytes data, bool deflated) {
  if (data.size() > OrientationTags::kMost) return {};
  if (!deflated) return {data.begin(), data.end()};
  std::vector<std::byte> out(OrientationTags::kMost);
  uLongf n = static_cast<uLongf>(out.size());
  if (uncompress(reinterpret_cast<Bytef*>(out.data()), &n, reinterpret_cast<const Bytef*>(data.data()),
                 static_cast<uLong>(data.size())) != Z_OK) {
    return {};
  }
  out.resize(n);
  return out;
}

Status take_header(Bytes data, const ImageLimits& limits, PngChunks& chunks) {
  chunks.width = load_be32(data.data());
  chunks.height = load_be32(data.data() + 4);
  chunks.bit_depth = static_cast<int>(load_u8(data.data() + 8));
  chunks.color_type = static_cast<int>(load_u8(data.data() + 9));
  chunks.interlaced = load_u8(data.data() + 12) != 0;
  GLIMPSE_TRY(check_size("PNG", chunks.width, chunks.height, limits));
  const int d = chunks.bit_depth, c = chunks.color_type;
  const bool packed = d == 1 || d == 2 || d == 4;
  const bool known = c == PNG_COLOR_TYPE_GRAY      ? packed || d == 8 || d == 16
                     : c == PNG_COLOR_TYPE_PALETTE ? packed || d == 8
                     : c == PNG_COLOR_TYPE_RGB || c == PNG_COLOR_TYPE_GRAY_ALPHA || c == PNG_COLOR_TYPE_RGB_ALPHA
                         ? d == 8 || d == 16
                         : false;
  if (!known) return make_error(ErrorCode::kCorrupt, "PNG: %d bits of colour type %d do not exist", d, c);
  return {};
}

size_t n_channels(int color_type) {
  return color_type == PNG_COLOR_TYPE_RGB          ? 3
         : color_type == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
         : color_type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                   : 1;
}

size_t bytes_of_row(const PngChunks& chunks, int bit_depth) {
  return (n_channels(chunks.color_type) * static_cast<size_t>(bit_depth) * chunks.width + 7) / 8;
}

// The colours of grey samples and palette indices. Indices that the palette lacks are black, as in Pillow.
void make_colours(PngChunks& chunks) {
  const Bytes alpha = chunks.transparency;
  if (chunks.color_type == PNG_COLOR_TYPE_PALETTE) {
    for (size_t i = 0; i < 256; ++i) {
      const unsigned a = i < alpha.size() ? load_u8(&alpha[i]) : 255;
      for (size_t c = 0; c < 3; ++c) {
        const size_t at = i * 3 + c;
        chunks.colours[i][c] = over_white(at < chunks.palette.size() ? load_u8(&chunks.palette[at]) : 0, a);
      }
    }
  } else if (chunks.color_type == PNG_COLOR_TYPE_GRAY) {
    const unsigned most = (1u << std::min(chunks.bit_depth, 8)) - 1;
    const uint32_t key = chunks.has_key() ? load_be16(alpha.data()) : 0x10000;
    for (unsigned i = 0; i <= most; ++i) chunks.colours[i].fill(static_cast<uint8_t>(i == key ? 255 : i * 255 / most));
  }
}

uint32_t sample(const uint8_t* p, bool wide) {
  return wide ? uint32_t{p[0]} << 8 | p[1] : p[0];
}

}  // namespace

size_t PngChunks::stored_row_bytes() const {
  return bytes_of_row(*this, bit_depth);
}

size_t PngChunks::row_bytes() const {
  return bytes_of_row(*this, strips_16() ? 8 : bit_depth);
}

bool PngChunks::has_key() const {
  return (color_type == PNG_COLOR_TYPE_GRAY && transparency.size() >= 2) ||
         (color_type == PNG_COLOR_TYPE_RGB && transparency.size() >= 6);
}

int PngChunks::orientation() const {
  OrientationTags tags;
  if (!exif.empty()) {  // counts before the profile
    if (exif.size() <= OrientationTags::kMost) tags.exif.assign(exif.begin(), exif.end());
  } else if (!raw_profile.empty()) {
    const std::vector<std::byte> text = inflate_text(raw_profile, raw_profile_is_deflated);
    tags.exif = decode_raw_profile({reinterpret_cast<const char*>(text.data()), text.size()});
  }
  if (!xmp.empty()) tags.xmp = inflate_text(xmp, xmp_is_deflated);
  return tags.orientation();
}

void PngChunks::expand_row(const uint8_t* stored, uint8_t* rgb) const {
  const size_t depth = strips_16() ? 8 : static_cast<size_t>(bit_depth);
  const size_t n = width, wide = depth == 16 ? 2 : 1;
  if (depth <= 8 && (color_type == PNG_COLOR_TYPE_GRAY || color_type == PNG_COLOR_TYPE_PALETTE)) {
    for (size_t x = 0; x < n; ++x, rgb += 3) {
      const size_t bit = x * depth;  // the leftmost pixel is in the high bits
      const size_t value = stored[bit / 8] >> (8 - depth - bit % 8) & ((1u << depth) - 1);
      std::copy_n(colours[value].data(), 3, rgb);
    }
  } else if (color_type == PNG_COLOR_TYPE_GRAY) {  // 16 bits and a key
    const uint32_t key = load_be16(transparency.data());
    for (size_t x = 0; x < n; ++x, rgb += 3, stored += 2) {
      std::fill_n(rgb, 3, sample(stored, true) == key ? uint8_t{255} : stored[0]);
    }
  } else if (color_type == PNG_COLOR_TYPE_RGB && !has_key()) {
    std::copy_n(stored, n * 3, rgb);
  } else if (color_type == PNG_COLOR_TYPE_RGB) {
    for (size_t x = 0; x < n; ++x, rgb += 3, stored += 3 * wide) {
      bool is_key = true;
      for (size_t c = 0; c < 3; ++c) {
        is_key &= sample(stored + c * wide, wide == 2) == load_be16(transparency.data() + c * 2);
      }
      for (size_t c = 0; c < 3; ++c) rgb[c] = is_key ? uint8_t{255} : stored[c * wide];
    }
  } else if (color_type == PNG_COLOR_TYPE_GRAY_ALPHA) {
    for (size_t x = 0; x < n; ++x, rgb += 3, stored += 2) std::fill_n(rgb, 3, over_white(stored[0], stored[1]));
  } else {
    composite_over_white(stored, static_cast<int64_t>(n), rgb);
  }
}

Result<PngChunks> scan_png_chunks(std::span<const std::byte> bytes, const ImageLimits& limits) {
  PngChunks chunks;
  bool after_pixels = false;
  for (size_t at = kSignatureBytes; bytes.size() - at >= 8;) {
    const std::byte* chunk = bytes.data() + at;
    const uint64_t length = load_be32(chunk);
    const std::string_view type(reinterpret_cast<const char*>(chunk + 4), 4);
    const bool whole = bytes.size() - at >= kChunkOverhead && length <= bytes.size() - at - kChunkOverhead;
    if (at == kSignatureBytes && (type != "IHDR" || length != 13)) {
      return make_error(ErrorCode::kCorrupt, "PNG: the file does not begin with a header chunk");
    }
    const bool pixels = type == "IDAT";
    after_pixels |= chunks.pixels_end > 0 && !pixels;
    if (pixels && !after_pixels) {
      chunks.n_idat_bytes += std::min<uint64_t>(length, bytes.size() - at - 8);
      chunks.pixels_are_whole = whole;
      chunks.pixels_end = whole ? at + kChunkOverhead + static_cast<size_t>(length) : bytes.size();
    }
    if (!whole) {
      if (pixels || length <= bytes.size() - at - 8) break;  // cut in the pixels, which are read first; in a checksum
      return make_error(ErrorCode::kTruncated, "PNG: the file ends inside a chunk");
    }
    const Bytes data = bytes.subspan(at + 8, static_cast<size_t>(length));
    if (at == kSignatureBytes) GLIMPSE_TRY(take_header(data, limits, chunks));
    if (type == "PLTE") chunks.palette = data;
    if (type == "tRNS") chunks.transparency = data;
    if (type == "eXIf") chunks.exif = data;
    if (type == "tEXt" || type == "zTXt" || type == "iTXt") take_text(type, data, chunks);
    if (type == "IEND") break;
    at += kChunkOverhead + static_cast<size_t>(length);
  }
  if (chunks.pixels_end == 0) return make_error(ErrorCode::kTruncated, "PNG: the file ends before its pixels");
  make_colours(chunks);
  return chunks;
}

}  // namespace glimpse
