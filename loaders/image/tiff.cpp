// TIFF through libtiff: the first picture of the file, grey, RGB, CMYK or palette, with 1 to 16 bits a sample. Read in
// bands: a strip, or a row of tiles. Left out of the build when libtiff is missing.
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

// A file in memory, as libtiff asks for one, and the first error it told of.
struct Source {
  std::span<const std::byte> bytes;
  uint64_t at = 0;
  char message[160] = "";
  // Where memory runs out, libtiff (4.5) goes on with what it lacks, and crashes: it is left by a jump.
  std::jmp_buf escape;
  TIFF* left = nullptr;
};

// libtiff has words alone for that.
bool says_no_memory(std::string_view message) {
  for (const char* word : {"memory", "alloc", "No space", "Insertion in"}) {
    if (message.find(word) != message.npos) return true;
  }
  return false;
}

Source& source_of(thandle_t handle) {
  return *static_cast<Source*>(handle);
}

tmsize_t read_source(thandle_t handle, void* out, tmsize_t n) {
  Source& source = source_of(handle);
  if (source.at > source.bytes.size() || n < 0) return 0;
  const size_t count = std::min(static_cast<size_t>(n), source.bytes.size() - static_cast<size_t>(source.at));
  if (count > 0) std::memcpy(out, source.bytes.data() + source.at, count);
  source.at += count;
  return static_cast<tmsize_t>(count);
}
tmsize_t write_nothing(thandle_t, void*, tmsize_t) {
  return 0;
}
toff_t seek_source(thandle_t handle, toff_t offset, int whence) {
  Source& source = source_of(handle);
  const uint64_t from = whence == SEEK_CUR ? source.at : whence == SEEK_END ? source.bytes.size() : 0;
  source.at = from + offset;
  return source.at;
}
int close_source(thandle_t) {
  return 0;
}
toff_t size_of_source(thandle_t handle) {
  return source_of(handle).bytes.size();
}

int keep_error(TIFF* tiff, void* user, const char*, const char* format, va_list arguments) {
  Source& source = *static_cast<Source*>(user);
  if (source.message[0] == '\0') std::vsnprintf(source.message, sizeof source.message, format, arguments);
  if (says_no_memory(source.message)) {
    source.left = tiff;
    std::longjmp(source.escape, 1);
  }
  return 1;  // and no more is done about it
}
int drop_warning(TIFF*, void*, const char*, const char*, va_list) {
  return 1;
}

// The calls that may allocate, each with a setjmp and no object in its frame. nullptr, or less than wanted:
// source.message says why.
TIFF* read_directory(Source& source, TIFFOpenOptions* options) {
  if (setjmp(source.escape) != 0) {
    if (source.left != nullptr) TIFFCleanup(source.left);
    return nullptr;
  }
  return TIFFClientOpenExt("picture", "rm", &source, read_source, write_nothing, seek_source, close_source,
                           size_of_source, nullptr, nullptr, options);
}
tmsize_t read_strip(Source& source, TIFF* tiff, uint32_t i, uint8_t* to, tmsize_t n_bytes) {
  if (setjmp(source.escape) != 0) return 0;
  return TIFFReadEncodedStrip(tiff, i, to, n_bytes);
}
tmsize_t read_tile(Source& source, TIFF* tiff, uint32_t i, uint8_t* to, tmsize_t n_bytes) {
  if (setjmp(source.escape) != 0) return 0;
  return TIFFReadEncodedTile(tiff, i, to, n_bytes);
}
bool give_rgb(Source& source, TIFF* tiff) {  // of a JPEG stream in YCbCr
  if (setjmp(source.escape) != 0) return false;
  return TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB) == 1;
}

struct Close {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
};
struct FreeOptions {
  void operator()(TIFFOpenOptions* options) const { TIFFOpenOptionsFree(options); }
};

Error no_memory() {
  return make_error(ErrorCode::kOutOfMemory, "TIFF: out of memory");
}
Error unsupported(const char* what, int number) {
  return make_error(ErrorCode::kUnsupported,
                    "TIFF: %s %d is not read; convert it to PNG, for example: magick picture.tif picture.png", what,
                    number);
}

// What is looked at in the first directory before libtiff reads it.
struct Directory {
  uint32_t photometric = 0;  // 0 also when it says none
  uint64_t memory = 0;       // that the values of its tags take in libtiff, which reads them all
};

// libtiff calls a palette picture of 8 bits grey where its colour map is missing, and has no limit for all tags
// together: thousands of them may name the same bytes of the file.
Directory scan_directory(std::span<const std::byte> bytes) {
  Directory d;
  if (bytes.size() < 8) return d;
  const bool little = load_u8(bytes.data()) == 'I';
  const auto u16 = [&](uint64_t at) -> uint32_t {
    if (at + 2 > bytes.size()) return 0;
    return little ? load_le16(&bytes[at]) : load_be16(&bytes[at]);
  };
  const auto u32 = [&](uint64_t at) -> uint64_t {
    if (at + 4 > bytes.size()) return 0;
    return little ? load_le32(&bytes[at]) : load_be32(&bytes[at]);
  };
  constexpr uint8_t kTypeBytes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};
  uint64_t largest = 0;
  const uint64_t begin = u32(4), n_entries = u16(begin);
  for (uint64_t at = begin + 2; at < begin + 2 + 12 * n_entries; at += 12) {
    const uint32_t tag = u16(at), type = u16(at + 2);
    const uint64_t value_bytes = type < std::size(kTypeBytes) ? u32(at + 4) * kTypeBytes[type] : 0;
    const bool places = tag == TIFFTAG_STRIPOFFSETS || tag == TIFFTAG_STRIPBYTECOUNTS || tag == TIFFTAG_TILEOFFSETS ||
                        tag == TIFFTAG_TILEBYTECOUNTS;
    largest = std::max(largest, value_bytes);
    d.memory += value_bytes + (places ? u32(at + 4) * 8 : 0);  // places are kept in 8 bytes
    if (tag == TIFFTAG_PHOTOMETRIC) d.photometric = u16(at + 8);
  }
  d.memory += largest;  // its bytes, while they are converted
  return d;
}

// What the tags say about samples.
struct Layout {
  uint16_t bits = 1, samples = 1, photometric = PHOTOMETRIC_MINISBLACK, compression = COMPRESSION_NONE;
  int alpha = -1;  // the sample that is alpha
  bool premultiplied = false;
  uint32_t band_rows = 0;                                // of a strip or a tile
  uint32_t tile_width = 0;                               // 0: strips
  std::array<std::array<uint8_t, 3>, 256> colours = {};  // of grey samples and indices of up to 8 bits
};

class TiffReader final : public ImageReader {
 public:
  explicit TiffReader(const DecodeOptions& options) : limits_(options.limits), turns_(options.apply_exif_orientation) {
    progress_ = options.progress;
  }

  Status open(std::span<const std::byte> bytes) {
    source_.bytes = bytes;
    directory_ = scan_directory(bytes);
    GLIMPSE_TRY(check_memory("TIFF", directory_.memory, limits_));
    const std::unique_ptr<TIFFOpenOptions, FreeOptions> options(TIFFOpenOptionsAlloc());
    if (options == nullptr) return no_memory();
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), static_cast<tmsize_t>(limits_.max_memory));
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_error, &source_);
    TIFFOpenOptionsSetWarningHandlerExtR(options.get(), drop_warning, nullptr);
    tiff_.reset(read_directory(source_, options.get()));
    if (tiff_ == nullptr) return damaged(ErrorCode::kCorrupt);
    uint32_t width = 0, height = 0;
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGELENGTH, &height);
    GLIMPSE_TRY(check_size("TIFF", width, height, limits_));
    info_.width = width;
    info_.height = height;
    GLIMPSE_TRY(read_layout());
    if (turns_) info_.orientation = orientation();
    return plan_bands();
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    for (int64_t i = 0; i < n_rows; ++i, ++y_, rgb += info_.width * 3) {
      const int64_t in_band = y_ % layout_.band_rows;
      if (in_band == 0) GLIMPSE_TRY(read_band());
      expand_row(band_.data() + static_cast<size_t>(in_band) * row_bytes_, rgb);
    }
    return {};
  }

 private:
  // code: when it is not memory that lacks.
  Error damaged(ErrorCode code) const {
    if (says_no_memory(source_.message)) code = ErrorCode::kOutOfMemory;
    return make_error(code, "TIFF: %s", source_.message[0] != '\0' ? source_.message : "damaged");
  }

  template <typename T>
  T tag(uint32_t name, T missing) const {
    T value = missing;
    return TIFFGetFieldDefaulted(tiff_.get(), name, &value) == 1 ? value : missing;
  }

  int orientation() const {
    uint16_t said = 0;
    if (TIFFGetField(tiff_.get(), TIFFTAG_ORIENTATION, &said) == 1) return said >= 1 && said <= 8 ? said : 1;
    uint32_t n = 0;
    const char* xmp = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_XMLPACKET, &n, &xmp) != 1 || xmp == nullptr) return 1;
    return xmp_orientation({xmp, std::min<size_t>(n, OrientationTags::kMost)}).value_or(1);
  }

  Status read_layout() {
    Layout& l = layout_;
    l.bits = tag<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
    l.samples = tag<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
    l.compression = tag<uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    // libtiff says nothing where the values of a tag cannot be kept, and libjpeg reads them.
    uint32_t n_tables = 0;
    const void* tables = nullptr;
    if (l.compression == COMPRESSION_JPEG && TIFFGetField(tiff_.get(), TIFFTAG_JPEGTABLES, &n_tables, &tables) == 1 &&
        tables == nullptr) {
      return no_memory();
    }
    // Of these it is known how much memory they take.
    constexpr uint16_t kKnown[] = {COMPRESSION_NONE,          COMPRESSION_CCITTRLE, COMPRESSION_CCITTFAX3,
                                   COMPRESSION_CCITTFAX4,     COMPRESSION_LZW,      COMPRESSION_JPEG,
                                   COMPRESSION_ADOBE_DEFLATE, COMPRESSION_DEFLATE,  COMPRESSION_PACKBITS};
    if (std::find(std::begin(kKnown), std::end(kKnown), l.compression) == std::end(kKnown)) {
      return unsupported("compression", l.compression);
    }
    if (TIFFGetField(tiff_.get(), TIFFTAG_PHOTOMETRIC, &l.photometric) != 1) return damaged(ErrorCode::kCorrupt);
    if (l.photometric != PHOTOMETRIC_PALETTE && directory_.photometric == PHOTOMETRIC_PALETTE) {
      return make_error(ErrorCode::kCorrupt, "TIFF: a palette picture without its colour map");
    }
    if (l.photometric == PHOTOMETRIC_YCBCR && l.compression == COMPRESSION_JPEG) {
      if (!give_rgb(source_, tiff_.get())) return damaged(ErrorCode::kCorrupt);
      l.photometric = PHOTOMETRIC_RGB;
    }
    const uint16_t format = tag<uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    if (format != SAMPLEFORMAT_UINT) return unsupported("sample format", format);
    const uint16_t planar = tag<uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    if (planar != PLANARCONFIG_CONTIG && l.samples > 1) return unsupported("planar configuration", planar);
    return check_samples();
  }

  Status check_samples() {
    Layout& l = layout_;
    const bool grey = l.photometric == PHOTOMETRIC_MINISBLACK || l.photometric == PHOTOMETRIC_MINISWHITE;
    const bool palette = l.photometric == PHOTOMETRIC_PALETTE, ink = l.photometric == PHOTOMETRIC_SEPARATED;
    if (!grey && !palette && !ink && l.photometric != PHOTOMETRIC_RGB) return unsupported("photometric", l.photometric);
    const uint16_t colours = grey || palette ? 1 : ink ? 4 : 3;
    if (l.samples < colours || l.samples > 8) return unsupported("number of samples", l.samples);
    const bool packed = l.bits == 1 || l.bits == 2 || l.bits == 4;
    if (!(l.bits == 8 || (l.bits == 16 && !palette) || (packed && l.samples == 1))) {
      return unsupported("number of bits", l.bits);
    }
    uint16_t n_extra = 0;
    const uint16_t* extra = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_EXTRASAMPLES, &n_extra, &extra) != 1) n_extra = 0;
    if (n_extra > 0 && extra == nullptr) return no_memory();
    if (n_extra > 0 && l.samples > colours) {
      if (extra[0] == EXTRASAMPLE_ASSOCALPHA || extra[0] == EXTRASAMPLE_UNASSALPHA) l.alpha = colours;
      l.premultiplied = extra[0] == EXTRASAMPLE_ASSOCALPHA;
    } else if (l.photometric == PHOTOMETRIC_RGB && l.samples == 4) {
      l.alpha = 3;  // not said, but so writers mean it, and Pillow takes it
    }
    return make_colours();
  }

  Status make_colours() {
    Layout& l = layout_;
    if (l.photometric == PHOTOMETRIC_PALETTE) {
      uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
      if (TIFFGetField(tiff_.get(), TIFFTAG_COLORMAP, &red, &green, &blue) != 1) return damaged(ErrorCode::kCorrupt);
      if (red == nullptr || green == nullptr || blue == nullptr) return no_memory();
      for (size_t i = 0; i < size_t{1} << l.bits; ++i) {
        l.colours[i] = {static_cast<uint8_t>(red[i] >> 8), static_cast<uint8_t>(green[i] >> 8),
                        static_cast<uint8_t>(blue[i] >> 8)};
      }
      return {};
    }
    const unsigned most = l.bits <= 8 ? (1u << l.bits) - 1 : 255;
    for (unsigned i = 0; i <= most; ++i) {
      const unsigned level = i * 255 / most;
      l.colours[i].fill(static_cast<uint8_t>(l.photometric == PHOTOMETRIC_MINISWHITE ? 255 - level : level));
    }
    return {};
  }

  Status plan_bands() {
    Layout& l = layout_;
    const auto width = static_cast<uint64_t>(info_.width), height = static_cast<uint64_t>(info_.height);
    uint64_t band_width = width;
    if (TIFFIsTiled(tiff_.get()) != 0) {
      uint32_t tile_rows = 0;
      TIFFGetField(tiff_.get(), TIFFTAG_TILEWIDTH, &l.tile_width);
      TIFFGetField(tiff_.get(), TIFFTAG_TILELENGTH, &tile_rows);
      if (l.tile_width < 1 || tile_rows < 1 || l.tile_width > 65536 || tile_rows > 65536 || l.tile_width % 8 != 0) {
        return make_error(ErrorCode::kCorrupt, "TIFF: tiles of %u x %u pixels", l.tile_width, tile_rows);
      }
      l.band_rows = tile_rows;
      band_width = (width + l.tile_width - 1) / l.tile_width * l.tile_width;
      tile_row_bytes_ = static_cast<size_t>(uint64_t{l.tile_width} * l.bits * l.samples / 8);
    } else {
      l.band_rows =
          static_cast<uint32_t>(std::clamp<uint64_t>(tag<uint32_t>(TIFFTAG_ROWSPERSTRIP, UINT32_MAX), 1, height));
    }
    row_bytes_ = static_cast<size_t>((band_width * l.bits * l.samples + 7) / 8);
    constexpr uint64_t kLibrary = 256 << 10, kJpeg = 12 << 20;  // libtiff lets libjpeg have 10 MB
    const uint64_t tile = uint64_t{tile_row_bytes_} * l.band_rows;
    info_.memory = sizeof *this + kLibrary + directory_.memory + uint64_t{row_bytes_} * l.band_rows + tile +
                   coded_bytes() + (l.compression == COMPRESSION_JPEG ? kJpeg : 0);
    return check_memory("TIFF", info_.memory, limits_);
  }

  // What libtiff holds of the file: the compressed bytes of a strip or tile.
  uint64_t coded_bytes() const {
    if (layout_.compression == COMPRESSION_NONE) return 0;
    const bool tiled = layout_.tile_width > 0;
    const uint32_t n = tiled ? TIFFNumberOfTiles(tiff_.get()) : TIFFNumberOfStrips(tiff_.get());
    uint64_t most = 0;
    for (uint32_t i = 0; i < n; ++i) most = std::max<uint64_t>(most, TIFFGetStrileByteCount(tiff_.get(), i));
    return std::min<uint64_t>(most, source_.bytes.size());
  }

  Status read_band() {
    if (band_.empty()) {
      band_.resize(row_bytes_ * layout_.band_rows);
      tile_.resize(tile_row_bytes_ * layout_.band_rows);
    }
    const auto band = static_cast<uint32_t>(y_ / layout_.band_rows);
    if (layout_.tile_width > 0) return read_tiles(band);
    const auto n_rows = static_cast<size_t>(std::min<int64_t>(layout_.band_rows, info_.height - y_));
    const auto want = static_cast<tmsize_t>(n_rows * row_bytes_);
    if (read_strip(source_, tiff_.get(), band, band_.data(), want) != want) return damaged(ErrorCode::kTruncated);
    return {};
  }

  Status read_tiles(uint32_t band) {
    const auto across = static_cast<uint32_t>(row_bytes_ / tile_row_bytes_);
    for (uint32_t i = 0; i < across; ++i) {
      const auto want = static_cast<tmsize_t>(tile_.size());
      if (read_tile(source_, tiff_.get(), band * across + i, tile_.data(), want) != want) {
        return damaged(ErrorCode::kTruncated);
      }
      for (size_t row = 0; row < layout_.band_rows; ++row) {
        std::memcpy(band_.data() + row * row_bytes_ + i * tile_row_bytes_, tile_.data() + row * tile_row_bytes_,
                    tile_row_bytes_);
      }
    }
    return {};
  }

  // Sample c of pixel x, of 8 bits, or the high byte of 16 (in the order of this machine).
  unsigned sample(const uint8_t* row, size_t x, size_t c) const {
    const size_t at = x * layout_.samples + c;
    if (layout_.bits == 8) return row[at];
    uint16_t value = 0;
    std::memcpy(&value, row + at * 2, 2);
    return value >> 8;
  }

  void expand_row(const uint8_t* row, uint8_t* rgb) const {
    const Layout& l = layout_;
    const bool indexed = l.photometric != PHOTOMETRIC_RGB && l.photometric != PHOTOMETRIC_SEPARATED;
    for (size_t x = 0; x < static_cast<size_t>(info_.width); ++x, rgb += 3) {
      if (l.bits < 8) {  // the leftmost pixel is in the high bits
        const size_t bit = x * l.bits, value = row[bit / 8] >> (8u - l.bits - bit % 8) & ((1u << l.bits) - 1);
        std::copy_n(l.colours[value].data(), 3, rgb);
        continue;
      }
      std::array<unsigned, 3> colour;
      for (size_t c = 0; c < 3; ++c) {
        colour[c] = indexed ? l.colours[sample(row, x, 0)][c] : sample(row, x, c);
        if (l.photometric == PHOTOMETRIC_SEPARATED) {  // ink C and K, as Pillow: (255 - K) - C * (255 - K) / 255
          const unsigned light = 255 - sample(row, x, 3), t = colour[c] * light + 128;
          colour[c] = light - ((t + (t >> 8)) >> 8);
        }
      }
      const unsigned alpha = l.alpha < 0 ? 255 : sample(row, x, static_cast<size_t>(l.alpha));
      for (size_t c = 0; c < 3; ++c) {
        if (l.premultiplied && alpha > 0 && alpha < 255) colour[c] = std::min(255u, colour[c] * 255 / alpha);
        rgb[c] = over_white(colour[c], alpha);
      }
    }
  }

  const ImageLimits limits_;
  const bool turns_;
  Source source_;
  std::unique_ptr<TIFF, Close> tiff_;
  Directory directory_;
  Layout layout_;
  size_t row_bytes_ = 0, tile_row_bytes_ = 0;  // of a band, of a tile
  std::vector<uint8_t> band_, tile_;
  int64_t y_ = 0;
};

}  // namespace

ImageReaderResult open_tiff(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return opened<TiffReader>(bytes, options);
}

}  // namespace glimpse
