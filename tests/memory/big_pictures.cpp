#include "tests/memory/big_pictures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <tuple>
#include <utility>

extern "C" {
#include <jpeglib.h>
}
#include <png.h>
#ifdef GLIMPSE_HAS_WEBP
#include <webp/encode.h>
#endif
#ifdef GLIMPSE_HAS_HEIF
#include <libheif/heif.h>
#endif
#ifdef GLIMPSE_HAS_TIFF
#include <tiffio.h>
#include <unistd.h>
#endif

namespace glimpse::testing {
namespace {

// Waves: compress well, but not to nothing.
uint8_t sample(int x, int y, int c) {
  return static_cast<uint8_t>((x * (c + 1) >> 3) ^ (y >> 2));
}

std::vector<uint8_t> rows_of(int width, int height, int channels) {
  std::vector<uint8_t> rows;
  rows.reserve(static_cast<size_t>(width) * height * channels);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) rows.push_back(sample(x, y, c));
    }
  }
  return rows;
}

std::vector<std::byte> as_bytes_vector(const void* data, size_t n) {
  const auto* p = static_cast<const std::byte*>(data);
  return {p, p + n};
}

// channels: 1, 3 or 4 (CMYK).
std::vector<std::byte> jpeg(int width, int height, int channels, int chroma, bool progressive) {
  jpeg_compress_struct c;
  jpeg_error_mgr errors;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  unsigned char* out = nullptr;
  unsigned long n = 0;
  jpeg_mem_dest(&c, &out, &n);
  c.image_width = static_cast<JDIMENSION>(width);
  c.image_height = static_cast<JDIMENSION>(height);
  c.input_components = channels;
  c.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, 60, TRUE);
  if (channels == 3) c.comp_info[0].h_samp_factor = c.comp_info[0].v_samp_factor = chroma;
  if (progressive) jpeg_simple_progression(&c);
  jpeg_start_compress(&c, TRUE);
  std::vector<uint8_t> row(static_cast<size_t>(width) * channels);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int k = 0; k < channels; ++k) row[static_cast<size_t>(x) * channels + k] = sample(x, y, k);
    }
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&c, &rows, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  const auto bytes = as_bytes_vector(out, n);
  std::free(out);
  return bytes;
}

void append(png_structp png, png_bytep data, size_t n) {
  auto& out = *static_cast<std::vector<std::byte>*>(png_get_io_ptr(png));
  out.insert(out.end(), reinterpret_cast<std::byte*>(data), reinterpret_cast<std::byte*>(data) + n);
}

std::vector<std::byte> png(int width, int height, int type, int channels, int depth, bool interlaced) {
  std::vector<std::byte> out;
  png_structp writer = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(writer);
  png_set_write_fn(writer, &out, append, nullptr);
  png_set_IHDR(writer, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), depth, type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(writer, 1);
  png_write_info(writer, info);
  const int row_bytes = (width * channels * depth + 7) / 8;
  std::vector<uint8_t> rows = rows_of(row_bytes, height, 1);
  std::vector<png_bytep> pointers;
  for (int y = 0; y < height; ++y) pointers.push_back(rows.data() + static_cast<size_t>(y) * row_bytes);
  png_write_image(writer, pointers.data());
  png_write_end(writer, nullptr);
  png_destroy_write_struct(&writer, &info);
  return out;
}

std::vector<std::byte> ppm(int width, int height) {
  const std::string head = "P6 " + std::to_string(width) + " " + std::to_string(height) + " 255\n";
  std::vector<std::byte> bytes = as_bytes_vector(head.data(), head.size());
  const std::vector<uint8_t> rows = rows_of(width, height, 3);
  const auto more = std::as_bytes(std::span(rows));
  bytes.insert(bytes.end(), more.begin(), more.end());
  return bytes;
}

void append_le(std::vector<std::byte>& out, uint32_t value, int n) {
  for (int i = 0; i < n; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// bits: 24, or 8 with runs.
std::vector<std::byte> bmp(int width, int height, int bits) {
  std::vector<std::byte> out = {std::byte{'B'}, std::byte{'M'}};
  const uint32_t palette = bits == 8 ? 1024 : 0;
  for (const uint32_t v : {0u, 0u, 54 + palette, 40u, static_cast<uint32_t>(width), static_cast<uint32_t>(height)}) {
    append_le(out, v, 4);
  }
  append_le(out, 1, 2);
  append_le(out, static_cast<uint32_t>(bits), 2);
  append_le(out, bits == 8 ? 1 : 0, 4);
  for (int i = 0; i < 5; ++i) append_le(out, 0, 4);
  out.resize(out.size() + palette, std::byte{77});
  for (int y = 0; y < height; ++y) {
    if (bits == 8) {
      for (int x = 0; x < width; x += 255) {
        append_le(out, static_cast<uint32_t>(std::min(255, width - x)), 1);
        append_le(out, sample(x, y, 0), 1);
      }
      append_le(out, 0, 2);
    } else {
      for (int i = 0; i < (width * 3 + 3) / 4 * 4; ++i) out.push_back(static_cast<std::byte>(sample(i, y, 0)));
    }
  }
  append_le(out, 0x0100, 2);
  return out;
}

#ifdef GLIMPSE_HAS_WEBP
std::vector<std::byte> webp(int width, int height, bool alpha, bool lossless) {
  const int channels = alpha ? 4 : 3;
  const std::vector<uint8_t> rows = rows_of(width, height, channels);
  uint8_t* out = nullptr;
  WebPConfig config;
  WebPConfigInit(&config);
  config.method = 0;
  config.lossless = lossless ? 1 : 0;
  config.quality = lossless ? 0 : 50;
  WebPPicture picture;
  WebPPictureInit(&picture);
  picture.use_argb = lossless ? 1 : 0;
  picture.width = width;
  picture.height = height;
  WebPMemoryWriter writer;
  WebPMemoryWriterInit(&writer);
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = &writer;
  (alpha ? WebPPictureImportRGBA : WebPPictureImportRGB)(&picture, rows.data(), width * channels);
  WebPEncode(&config, &picture);
  out = writer.mem;
  const auto bytes = as_bytes_vector(out, writer.size);
  WebPMemoryWriterClear(&writer);
  WebPPictureFree(&picture);
  return bytes;
}
#endif

#ifdef GLIMPSE_HAS_HEIF
// Empty when this libheif has no encoder of that format.
std::vector<std::byte> heif(int width, int height, heif_compression_format format, heif_chroma chroma) {
  std::vector<std::byte> out;
  heif_context* context = heif_context_alloc();
  heif_encoder* encoder = nullptr;
  if (heif_context_get_encoder_for_format(context, format, &encoder).code == heif_error_Ok) {
    heif_encoder_set_lossy_quality(encoder, 40);
    heif_encoder_set_parameter(encoder, "preset", "ultrafast");
    heif_encoder_set_parameter(encoder, "speed", "9");
    heif_encoder_set_parameter(encoder, "chroma", chroma == heif_chroma_420 ? "420" : "444");
    heif_image* image = nullptr;
    heif_image_create(width, height, heif_colorspace_YCbCr, chroma, &image);
    for (const heif_channel channel : {heif_channel_Y, heif_channel_Cb, heif_channel_Cr}) {
      const bool half = chroma == heif_chroma_420 && channel != heif_channel_Y;
      const int w = half ? width / 2 : width, h = half ? height / 2 : height;
      heif_image_add_plane(image, channel, w, h, 8);
      int stride = 0;
      uint8_t* plane = heif_image_get_plane(image, channel, &stride);
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) plane[y * stride + x] = static_cast<uint8_t>((x >> 4) + (y >> 3));
      }
    }
    if (heif_context_encode_image(context, image, encoder, nullptr, nullptr).code == heif_error_Ok) {
      heif_writer writer = {1, [](heif_context*, const void* data, size_t n, void* user) {
                              *static_cast<std::vector<std::byte>*>(user) = as_bytes_vector(data, n);
                              return heif_error{heif_error_Ok, heif_suberror_Unspecified, ""};
                            }};
      heif_context_write(context, &writer, &out);
    }
    heif_image_release(image);
    heif_encoder_release(encoder);
  }
  heif_context_free(context);
  return out;
}
#endif

#ifdef GLIMPSE_HAS_TIFF
// RGB. band: rows of a strip, or the side of a tile.
std::vector<std::byte> tiff(int width, int height, uint16_t compression, int band, bool tiled) {
  const std::string path = ::testing::TempDir() + "big_" + std::to_string(getpid()) + ".tif";
  TIFF* out = TIFFOpen(path.c_str(), "w");
  TIFFSetField(out, TIFFTAG_IMAGEWIDTH, width);
  TIFFSetField(out, TIFFTAG_IMAGELENGTH, height);
  TIFFSetField(out, TIFFTAG_BITSPERSAMPLE, 8);
  TIFFSetField(out, TIFFTAG_SAMPLESPERPIXEL, 3);
  TIFFSetField(out, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(out, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_RGB);
  TIFFSetField(out, TIFFTAG_COMPRESSION, compression);
  if (tiled) {
    TIFFSetField(out, TIFFTAG_TILEWIDTH, band);
    TIFFSetField(out, TIFFTAG_TILELENGTH, band);
    std::vector<uint8_t> tile = rows_of(band, band, 3);
    for (uint32_t i = 0; i < TIFFNumberOfTiles(out); ++i) {
      TIFFWriteEncodedTile(out, i, tile.data(), static_cast<tmsize_t>(tile.size()));
    }
  } else {
    TIFFSetField(out, TIFFTAG_ROWSPERSTRIP, band);
    std::vector<uint8_t> rows = rows_of(width, height, 3);
    for (int y = 0; y < height; ++y) {
      TIFFWriteScanline(out, rows.data() + static_cast<size_t>(y) * static_cast<size_t>(width) * 3,
                        static_cast<uint32_t>(y), 0);
    }
  }
  TIFFClose(out);
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  unlink(path.c_str());
  return as_bytes_vector(text.data(), text.size());
}
#endif

}  // namespace

const std::vector<BigPicture>& big_pictures() {
  static const std::vector<BigPicture> all = [] {
    std::vector<BigPicture> made = {
        {"JPEG 4:2:0 4000 x 3000", jpeg(4000, 3000, 3, 2, false), true},
        {"JPEG 4:4:4 3000 x 2000", jpeg(3000, 2000, 3, 1, false), true},
        {"JPEG grey 9000 x 600", jpeg(9000, 600, 1, 1, false), true},
        {"JPEG CMYK 2000 x 1500", jpeg(2000, 1500, 4, 1, false), true},
        {"JPEG 4:2:0 progressive 3000 x 2000", jpeg(3000, 2000, 3, 2, true), false},
        {"JPEG 4:4:4 progressive 2000 x 1500", jpeg(2000, 1500, 3, 1, true), false},
        {"PNG RGB 4000 x 3000", png(4000, 3000, PNG_COLOR_TYPE_RGB, 3, 8, false), true},
        {"PNG RGBA 16 bits 2000 x 1500", png(2000, 1500, PNG_COLOR_TYPE_RGB_ALPHA, 4, 16, false), true},
        {"PNG interlaced RGBA 2000 x 1500", png(2000, 1500, PNG_COLOR_TYPE_RGB_ALPHA, 4, 8, true), false},
        {"PNG interlaced 1 bit 8000 x 8000", png(8000, 8000, PNG_COLOR_TYPE_GRAY, 1, 1, true), false},
        {"PPM 3000 x 2000", ppm(3000, 2000), true},
        {"BMP 3000 x 2000", bmp(3000, 2000, 24), true},
        {"BMP run-length 4000 x 3000", bmp(4000, 3000, 8), false},
    };
#ifdef GLIMPSE_HAS_WEBP
    made.push_back({"WebP lossy 2500 x 2000", webp(2500, 2000, false, false), false});
    made.push_back({"WebP lossy with alpha 2500 x 2000", webp(2500, 2000, true, false), false});
    made.push_back({"WebP lossless 2500 x 2000", webp(2500, 2000, false, true), false});
    made.push_back({"WebP lossless with alpha 2500 x 2000", webp(2500, 2000, true, true), false});
#endif
#ifdef GLIMPSE_HAS_HEIF
    for (const auto& [name, format, chroma] :
         {std::tuple{"HEIC 4:2:0 2048 x 1536", heif_compression_HEVC, heif_chroma_420},
          std::tuple{"HEIC 4:4:4 2048 x 1536", heif_compression_HEVC, heif_chroma_444},
          std::tuple{"AVIF 4:2:0 2048 x 1536", heif_compression_AV1, heif_chroma_420},
          std::tuple{"AVIF 4:4:4 2048 x 1536", heif_compression_AV1, heif_chroma_444}}) {
      std::vector<std::byte> bytes = heif(2048, 1536, format, chroma);
      if (!bytes.empty()) made.push_back({name, std::move(bytes), false});
    }
#endif
#ifdef GLIMPSE_HAS_TIFF
    made.push_back({"TIFF strips 3000 x 2000", tiff(3000, 2000, COMPRESSION_NONE, 16, false), true});
    made.push_back({"TIFF LZW strips 3000 x 2000", tiff(3000, 2000, COMPRESSION_LZW, 16, false), true});
    made.push_back({"TIFF Deflate tiles 3000 x 2000", tiff(3000, 2000, COMPRESSION_ADOBE_DEFLATE, 256, true), true});
    made.push_back({"TIFF one strip 3000 x 2000", tiff(3000, 2000, COMPRESSION_PACKBITS, 2000, false), false});
    made.push_back({"TIFF JPEG 3000 x 2000", tiff(3000, 2000, COMPRESSION_JPEG, 16, false), true});
#endif
    return made;
  }();
  return all;
}

std::vector<SmallPicture> small_pictures() {
  std::vector<SmallPicture> all;
  for (const char* name : {
           "jpeg_420.jpg",
           "jpeg_420_progressive.jpg",
           "jpeg_cmyk.jpg",
           "exif_6.jpg",
           "png_rgb8.png",
           "png_palette4_trns.png",
           "png_rgba16_interlaced.png",
           "turned_xmp_deflated.png",
           "turned_raw_profile.png",
           "bmp_rle8.bmp",
           "ppm_p6.ppm",
#ifdef GLIMPSE_HAS_WEBP
           "webp_lossy.webp",
#endif
#ifdef GLIMPSE_HAS_TIFF
           "tiff_lzw.tif",
           "tiff_jpeg.tif",
           "tiff_tiles.tif",
           "tiff_palette4.tif",
#endif
#ifdef GLIMPSE_HAS_GIF
           "gif_interlaced.gif",
           "gif_part.gif",
#endif
       }) {
    std::ifstream in(std::string(GLIMPSE_TEST_DIR "/loaders/data/image/") + name, std::ios::binary);
    const std::vector<char> text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    all.push_back({name, as_bytes_vector(text.data(), text.size())});
  }
  return all;
}

}  // namespace glimpse::testing
