// Bad files: cut short, damaged, too large, bombs. None may crash, and none that is cut short may become a picture.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "tests/loaders/image_support.h"

namespace glimpse {
namespace {

using namespace image_test;
using namespace std::string_view_literals;

// A heap block of exactly n bytes, so that a sanitizer sees the first byte past the end.
Bytes prefix(const Bytes& bytes, size_t n) {
  Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
  cut.shrink_to_fit();
  return cut;
}

TEST(ImageDamage, EveryTruncationIsAnError) {
  for (const Expected& expected : read_expected()) {
    if (!is_readable(expected.name)) continue;
    if (expected.name.starts_with("odd_")) continue;  // what they lack is named in ImageOddities
    const bool plain = expected.name.starts_with("ppm_p3") || expected.name.starts_with("ppm_p2");
    // Nothing is missing from these when their last bytes are: padding, or what follows the picture.
    size_t optional = expected.name == "jpeg_trailing_bytes.jpg" ? 13 : 0;
    if (expected.name == "bmp_rle8.bmp" || expected.name == "bmp_rle4.bmp") optional = 4;  // last row's end, end mark
    if (expected.name == "bmp_rle8_no_end_mark.bmp") optional = 2;                         // last row's end
    // After its pixels a PNG has said all: the end chunk may be missing, and chunks before it.
    if (expected.name.ends_with(".png")) optional = 12;
    if (expected.name.ends_with("_late.png")) continue;
    if (expected.name == "gif_animated.gif") continue;  // its first frame is whole long before its end
    if (expected.name == "tiff_two_pages.tif") continue;
    if (expected.name.ends_with(".gif")) optional = 1;  // the mark that no more frames come
    if (expected.name == "tiff_group4.tif" || expected.name == "tiff_bilevel.tif")
      optional = 4;  // no further directory
    const bool padded_rows = expected.name.starts_with("bmp_") && !expected.name.starts_with("bmp_rle");
    if (padded_rows) optional = 3;
    // "255" cut to "25" is still a number: only whole missing samples show in plain files.
    if (plain) optional = 5;
    const Bytes whole = fixture(expected.name);
    const size_t step = whole.size() > 4000 ? 61 : 1;
    for (size_t n = 0; n + optional < whole.size(); n += step) {
      const auto image = decode_image(prefix(whole, n), {});
      ASSERT_FALSE(image.ok()) << expected.name << " of " << whole.size() << " bytes, cut to " << n;
    }
  }
}

TEST(ImageDamage, TruncationInThePixelsSaysTruncated) {
  for (const char* name : {"jpeg_420.jpg", "jpeg_420_progressive.jpg", "png_rgb8.png", "png_rgba16_interlaced.png",
                           "bmp_rgb24.bmp", "bmp_rle8_no_end_mark.bmp", "ppm_p6.ppm", "ppm_p3.ppm"}) {
    const Bytes whole = fixture(name);
    const auto image = decode_image(prefix(whole, whole.size() * 9 / 10), {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTruncated) << name << ": " << image.error().message;
  }
}

TEST(ImageDamage, BitFlipsNeverCrash) {
  DecodeOptions options;
  options.limits.max_pixels = 1 << 20;
  std::mt19937 random(1);
  size_t n_runs = 0, n_errors = 0;
  for (const Expected& expected : read_expected()) {
    if (!is_readable(expected.name)) continue;
    const Bytes whole = fixture(expected.name);
    for (int round = 0; round < 60; ++round, ++n_runs) {
      Bytes broken = whole;
      // Half of the flips hit the headers.
      const size_t reach = round % 2 == 0 ? std::min<size_t>(broken.size(), 64) : broken.size();
      for (int k = 0; k < 1 + round / 20; ++k) broken[random() % reach] ^= static_cast<std::byte>(1 << random() % 8);
      const auto image = decode_image(broken, options);
      if (!image.ok()) {
        ++n_errors;
        EXPECT_FALSE(image.error().message.empty());
        continue;
      }
      EXPECT_EQ(image->pixels.size(), static_cast<size_t>(image->width) * image->height * 3) << expected.name;
    }
  }
  EXPECT_GT(n_errors, n_runs / 4);  // the flips do hit
}

struct HugeHeader {
  const char* name;
  Bytes bytes;
};

void append_be32(std::string& out, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(v >> shift));
}
void append_le(std::string& out, uint32_t v, int n_bytes) {
  for (int i = 0; i < n_bytes; ++i) out.push_back(static_cast<char>(v >> (8 * i)));
}

Bytes png_header(uint32_t width, uint32_t height) {
  std::string png("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", 16);
  append_be32(png, width);
  append_be32(png, height);
  png += "\x08\x02\0\0\0????\0\0\0\0IDAT????\0\0\0\0IEND????"sv;
  return bytes_of(png);
}
Bytes jpeg_header(uint32_t width, uint32_t height) {
  std::string jpeg("\xff\xd8\xff\xc0\0\x0b\x08", 7);
  for (uint32_t side : {height, width}) {
    jpeg.push_back(static_cast<char>(side >> 8));
    jpeg.push_back(static_cast<char>(side));
  }
  jpeg += "\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0\0\0\xff\xd9"sv;
  return bytes_of(jpeg);
}
Bytes bmp_header(uint32_t width, uint32_t height) {
  std::string bmp("BM????\0\0\0\0\x36\0\0\0\x28\0\0\0", 18);
  append_le(bmp, width, 4);
  append_le(bmp, height, 4);
  bmp += "\x01\0\x18\0"sv;
  bmp += std::string(24, '\0');
  return bytes_of(bmp);
}
Bytes ppm_header(uint32_t width, uint32_t height) {
  return bytes_of("P6 " + std::to_string(width) + " " + std::to_string(height) + " 255\n");
}
Bytes webp_header(uint32_t width, uint32_t height) {
  std::string webp("RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0", 24);  // animated: the canvas is all there is
  append_le(webp, width - 1, 3);
  append_le(webp, height - 1, 3);
  webp += "ANMF"sv;
  return bytes_of(webp);
}

// One directory of entries {tag, type, count, value}, then `n_behind` bytes.
Bytes tiff_file(const std::vector<std::array<uint32_t, 4>>& entries, size_t n_behind) {
  std::string tiff("II*\0\x08\0\0\0", 8);
  append_le(tiff, static_cast<uint32_t>(entries.size()), 2);
  for (const auto& [tag, type, count, value] : entries) {
    append_le(tiff, tag, 2);
    append_le(tiff, type, 2);
    append_le(tiff, count, 4);
    append_le(tiff, value, 4);
  }
  tiff += std::string(4 + n_behind, '\0');
  return bytes_of(tiff);
}
Bytes tiff_header(uint32_t width, uint32_t height) {  // grey, one strip
  return tiff_file({{256, 4, 1, width},
                    {257, 4, 1, height},
                    {258, 3, 1, 8},
                    {262, 3, 1, 1},
                    {273, 4, 1, 8},
                    {277, 3, 1, 1},
                    {278, 4, 1, 1 << 20},
                    {279, 4, 1, 100}},
                   0);
}

std::vector<HugeHeader> headers_of(uint32_t width, uint32_t height) {
  std::vector<HugeHeader> all = {{"PNG", png_header(width, height)},
                                 {"JPEG", jpeg_header(width, height)},
                                 {"BMP", bmp_header(width, height)},
                                 {"PPM", ppm_header(width, height)}};
  if (has_webp() && width > 0 && height > 0) all.push_back({"WebP", webp_header(width, height)});
  if (has_tiff()) all.push_back({"TIFF", tiff_header(width, height)});
  return all;
}

TEST(ImageLimits, HugeHeadersAreRefusedBeforeAllocation) {
  for (const HugeHeader& header : headers_of(65000, 65000)) {
    const auto image = decode_image(header.bytes, {});
    ASSERT_FALSE(image.ok()) << header.name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << header.name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find("65000"), std::string::npos) << header.name << ": " << image.error().message;
  }
}

TEST(ImageLimits, EachSideHasItsOwnLimit) {
  DecodeOptions options;
  options.limits.max_width = 100;
  options.limits.max_height = 50;
  for (const auto& [width, height] : {std::pair{101u, 10u}, std::pair{10u, 51u}}) {
    for (const HugeHeader& header : headers_of(width, height)) {
      const auto image = decode_image(header.bytes, options);
      ASSERT_FALSE(image.ok()) << header.name;
      EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << header.name << ": " << image.error().message;
    }
  }
}

TEST(ImageLimits, EmptyPicturesAreCorrupt) {
  for (const auto& [width, height] : {std::pair{0u, 0u}, std::pair{0u, 7u}, std::pair{7u, 0u}}) {
    for (const HugeHeader& header : headers_of(width, height)) {
      const auto image = decode_image(header.bytes, {});
      ASSERT_FALSE(image.ok()) << header.name;
      EXPECT_EQ(image.error().code, ErrorCode::kCorrupt) << header.name << ": " << image.error().message;
    }
  }
}

TEST(ImageLimits, ExactlyTheLimitIsAllowed) {
  DecodeOptions options;
  options.limits.max_width = 53;
  options.limits.max_height = 37;
  options.limits.max_pixels = 53 * 37;
  const Bytes file = fixture("jpeg_420.jpg");
  options.limits.max_bytes = file.size();
  EXPECT_TRUE(decode_image(file, options).ok());
  options.limits.max_pixels -= 1;
  EXPECT_EQ(decode_image(file, options).error().code, ErrorCode::kTooLarge);
  options.limits.max_pixels += 1;
  options.limits.max_bytes -= 1;
  EXPECT_EQ(decode_image(file, options).error().code, ErrorCode::kTooLarge);
}

TEST(ImageLimits, FewBytesThatPromiseManyPixelsAreRefused) {
  // Within the limits of size, but the pixels cannot be there: nothing may be allocated for them.
  for (const Bytes& bytes : {bmp_header(13000, 13000), ppm_header(13000, 13000), fixture("bad_png_promises.png"),
                             jpeg_header(13000, 13000)}) {
    const auto image = decode_image(bytes, {});
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code, ErrorCode::kTruncated) << image.error().message;
  }
}

TEST(ImageLimits, TagsThatNameTheSameBytesAreCountedEach) {
  if (!has_tiff()) GTEST_SKIP() << "this build has no libtiff";
  constexpr uint32_t kBytes = 1 << 20;
  std::vector<std::array<uint32_t, 4>> entries = {{256, 4, 1, 8}, {257, 4, 1, 8}, {258, 3, 1, 8}, {262, 3, 1, 1},
                                                  {273, 4, 1, 8}, {277, 3, 1, 1}, {279, 4, 1, 64}};
  for (uint32_t tag = 40000; tag < 40300; ++tag) entries.push_back({tag, 7, kBytes, 8});
  const Bytes bytes = tiff_file(entries, kBytes);
  const auto image = decode_image(bytes, {});
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << image.error().message;
  EXPECT_NE(image.error().message.find("MiB"), std::string::npos) << image.error().message;
  entries.resize(10);
  EXPECT_TRUE(decode_image(tiff_file(entries, kBytes), {}).ok());
}

TEST(ImageLimits, ScanBombsAreCut) {
  const auto image = decode_image(fixture("bad_jpeg_128_scans.jpg"), {});
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(image.error().message.find("scans"), std::string::npos) << image.error().message;
}

TEST(ImageLimits, ThePixelLimitIsPillows) {
  for (const HugeHeader& header : headers_of(13378, 13377)) {  // 178957506, 536 above
    const auto image = decode_image(header.bytes, {});
    ASSERT_FALSE(image.ok()) << header.name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << header.name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find("178956970"), std::string::npos) << image.error().message;
  }
  for (const HugeHeader& header : headers_of(13377, 13377)) {  // 178944129: the pixels are not there
    const auto image = decode_image(header.bytes, {});
    ASSERT_FALSE(image.ok()) << header.name;
    EXPECT_NE(image.error().code, ErrorCode::kTooLarge) << header.name << ": " << image.error().message;
  }
}

TEST(ImageLimits, SmallFilesOfHugePicturesAreRefusedBeforeAllocation) {
  for (const char* name : {"bomb_16383_rgb.webp", "bomb_16383_rgba_turned.webp", "bomb_rle8_16384.bmp"}) {
    if (!is_readable(name)) continue;
    DecodeOptions options;
    auto image = decode_image(fixture(name), options);
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << name << ": " << image.error().message;
    options.limits.max_pixels = uint64_t{1} << 40;  // then it is the memory that is too much
    options.limits.max_memory = uint64_t{64} << 20;
    image = decode_image(fixture(name), options);
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kTooLarge) << name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find("MiB"), std::string::npos) << image.error().message;
  }
}

TEST(ImageLimits, MemoryIsKnownFromTheHeaderAndLimited) {
  for (const Expected& expected : read_expected()) {
    if (!is_readable(expected.name)) continue;
    const Bytes file = fixture(expected.name);
    DecodeOptions options;
    const auto reader = open_image(file, options);
    ASSERT_TRUE(reader.ok()) << expected.name << ": " << reader.error().message;
    const uint64_t memory = reader.value()->info().memory;
    EXPECT_GT(memory, 0u);
    options.limits.max_memory = memory;
    EXPECT_TRUE(decode_image(file, options).ok()) << expected.name;
    const bool checked = expected.name.starts_with("ppm_") || expected.name.starts_with("bmp_");
    if (checked && expected.name.find("rle") == std::string::npos) continue;  // these hold nothing of size
    options.limits.max_memory = memory - 1;
    const auto refused = open_image(file, options);
    ASSERT_FALSE(refused.ok()) << expected.name;
    EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge) << expected.name;
  }
}

TEST(ImageLimits, ScansAreAnOption) {
  DecodeOptions options;
  options.limits.max_scans = 2;
  EXPECT_EQ(decode_image(fixture("jpeg_420_progressive.jpg"), options).error().code, ErrorCode::kTooLarge);
  EXPECT_TRUE(decode_image(fixture("jpeg_420.jpg"), options).ok());
  options.limits.max_scans = 200;
  EXPECT_TRUE(decode_image(fixture("bad_jpeg_128_scans.jpg"), options).ok());
}

TEST(ImageProgress, RisesToOneAndCancels) {
  for (const Expected& expected : read_expected()) {
    if (!is_readable(expected.name)) continue;
    const Bytes file = fixture(expected.name);
    DecodeOptions options;
    double last = 0;
    int n_calls = 0;
    options.progress = [&](std::string_view stage, double fraction) {
      EXPECT_EQ(stage, "read image");
      EXPECT_GE(fraction, last) << expected.name;
      EXPECT_LE(fraction, 1) << expected.name;
      last = fraction;
      ++n_calls;
      return true;
    };
    ASSERT_TRUE(decode_image(file, options).ok());
    EXPECT_EQ(last, 1) << expected.name;
    for (const int stop_at : {1, n_calls}) {
      int call = 0;
      options.progress = [&](std::string_view, double) { return ++call < stop_at; };
      const auto image = decode_image(file, options);
      ASSERT_FALSE(image.ok()) << expected.name;
      EXPECT_EQ(image.error().code, ErrorCode::kCancelled) << expected.name << ": " << image.error().message;
      EXPECT_EQ(call, stop_at);
    }
  }
}

TEST(ImageProgress, ExceptionsOfTheSinkReachTheCaller) {
  DecodeOptions options;
  options.progress = [](std::string_view, double) -> bool { throw std::runtime_error("from the host"); };
  for (const char* name : {"jpeg_420_progressive.jpg", "jpeg_420.jpg", "png_rgba8_interlaced.png"}) {
    EXPECT_THROW((void)decode_image(fixture(name), options), std::runtime_error) << name;
  }
}

void expect_refused(const Bytes& bytes, ErrorCode code, std::string_view name) {
  const auto image = decode_image(bytes, {});
  ASSERT_FALSE(image.ok()) << name;
  EXPECT_EQ(image.error().code, code) << name << ": " << image.error().message;
}

TEST(ImageOddities, RealDamageStaysAnError) {
  const std::pair<const char*, ErrorCode> cases[] = {{"bad_jpeg_repeated_refinement.jpg", ErrorCode::kCorrupt},
                                                     {"bad_jpeg_no_dc.jpg", ErrorCode::kTruncated},
                                                     {"bad_png_text_checksum.png", ErrorCode::kCorrupt},
                                                     {"bad_png_stream_checksum.png", ErrorCode::kCorrupt},
                                                     {"bad_png_cut_in_text.png", ErrorCode::kTruncated}};
  for (const auto& [name, code] : cases) expect_refused(fixture(name), code, name);
}

// A PNG without its end chunk must still have every byte of its pixels' chunks.
TEST(ImageOddities, PixelsOfAPngWithoutEndMayNotBeCut) {
  const Bytes whole = fixture("odd_png_no_end.png");
  for (size_t n = 8; n < whole.size(); ++n) {
    expect_refused(prefix(whole, n), ErrorCode::kTruncated, std::to_string(n) + " of " + std::to_string(whole.size()));
  }
}

TEST(ImageDamage, BadPngFilesAreNamed) {
  const auto checksum = decode_image(fixture("bad_png_checksum.png"), {});
  ASSERT_FALSE(checksum.ok());
  EXPECT_EQ(checksum.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(checksum.error().message.find("CRC"), std::string::npos) << checksum.error().message;
  const auto palette = decode_image(fixture("bad_png_no_palette.png"), {});
  ASSERT_FALSE(palette.ok());
  EXPECT_NE(palette.error().message.find("PLTE"), std::string::npos) << palette.error().message;
  const auto rows = decode_image(fixture("bad_png_few_rows.png"), {});
  ASSERT_FALSE(rows.ok());
  EXPECT_NE(rows.error().message.find("PNG"), std::string::npos) << rows.error().message;
}

TEST(ImageDamage, BadPpmHeadersAreErrors) {
  const std::pair<std::string_view, ErrorCode> cases[] = {{"P6 2 2 0\n############"sv, ErrorCode::kCorrupt},
                                                          {"P6 2 2 65536\n############"sv, ErrorCode::kCorrupt},
                                                          {"P6 -2 2 255\n############"sv, ErrorCode::kCorrupt},
                                                          {"P6 2x 2 255\n############"sv, ErrorCode::kCorrupt},
                                                          {"P6 99999999999999999999 2 255\n"sv, ErrorCode::kCorrupt},
                                                          {"P6 2 2 255#x\n############"sv, ErrorCode::kCorrupt},
                                                          {"P6 2 1 9\n\0\0\0\0\0\x0a"sv, ErrorCode::kCorrupt},
                                                          {"P3 1 1 255\n1 2 300\n"sv, ErrorCode::kCorrupt},
                                                          {"P3 1 1 255\n1 2 x3 "sv, ErrorCode::kCorrupt},
                                                          {"P6 2 2 255"sv, ErrorCode::kTruncated},
                                                          {"P6 2 2 # 255 and no more"sv, ErrorCode::kTruncated}};
  for (const auto& [text, code] : cases) expect_refused(bytes_of(text), code, text);
}

TEST(ImageDamage, BadBmpHeadersAreErrors) {
  const Bytes good = fixture("bmp_565.bmp");
  const auto with = [&](size_t at, std::initializer_list<int> values) {
    Bytes bytes = good;
    for (int value : values) bytes[at++] = static_cast<std::byte>(value);
    return decode_image(bytes, {});
  };
  EXPECT_EQ(with(28, {7, 0}).error().code, ErrorCode::kUnsupported);                // bits per pixel
  EXPECT_EQ(with(30, {9, 0, 0, 0}).error().code, ErrorCode::kUnsupported);          // compression
  EXPECT_EQ(with(30, {4, 0, 0, 0}).error().code, ErrorCode::kUnsupported);          // JPEG inside
  EXPECT_EQ(with(14, {13, 0, 0, 0}).error().code, ErrorCode::kUnsupported);         // header size
  EXPECT_EQ(with(54, {5, 0, 0, 0}).error().code, ErrorCode::kCorrupt);              // a mask with a hole
  EXPECT_EQ(with(54, {0x3f, 0, 0, 0}).error().code, ErrorCode::kCorrupt);           // masks overlap
  EXPECT_EQ(with(10, {20, 0, 0, 0}).error().code, ErrorCode::kCorrupt);             // pixels inside the header
  EXPECT_EQ(with(10, {0, 0, 0, 0x7f}).error().code, ErrorCode::kTruncated);         // pixels past the end
  EXPECT_EQ(with(22, {0, 0, 0, 0x80}).error().code, ErrorCode::kTooLarge);          // height -2^31
  EXPECT_EQ(with(18, {0xff, 0xff, 0xff, 0xff}).error().code, ErrorCode::kCorrupt);  // width -1
}

TEST(ImageDamage, BmpRunsThatLeaveTheirRowAreErrors) {
  for (const char* name : {"bad_bmp_verbatim_past_row.bmp", "bad_bmp_move_past_row.bmp", "bad_bmp_move_past_top.bmp"}) {
    const auto image = decode_image(fixture(name), {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kCorrupt) << name << ": " << image.error().message;
  }
}

TEST(ImageDamage, BadGifFilesAreNamed) {
  if (!has_gif()) GTEST_SKIP() << "this build has no giflib";
  for (const char* name : {"bad_gif_no_frame.gif", "bad_gif_few_pixels.gif", "bad_gif_empty_frame.gif"}) {
    const auto image = decode_image(fixture(name), {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_TRUE(image.error().message.starts_with("GIF: ")) << image.error().message;
    EXPECT_NE(image.error().code, ErrorCode::kInternal) << name;
  }
}

TEST(ImageDamage, BadTiffFilesAreNamed) {
  if (!has_tiff()) GTEST_SKIP() << "this build has no libtiff";
  const std::pair<const char*, ErrorCode> cases[] = {
      {"planes", ErrorCode::kUnsupported},      {"floats", ErrorCode::kUnsupported},
      {"compression", ErrorCode::kUnsupported}, {"strip_outside", ErrorCode::kTruncated},
      {"short_strip", ErrorCode::kTruncated},   {"no_photometric", ErrorCode::kCorrupt},
      {"no_colours", ErrorCode::kCorrupt},      {"tiles_of_zero", ErrorCode::kCorrupt}};
  for (const auto& [name, code] : cases) {
    const auto image = decode_image(fixture("bad_tiff_" + std::string(name) + ".tif"), {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, code) << name << ": " << image.error().message;
    EXPECT_TRUE(image.error().message.starts_with("TIFF: ")) << image.error().message;
  }
}

// From a pipe: the same picture; what does not begin like one is not read to its end; devices are no pictures.
TEST(ImageFile, PipesAreRead) {
  const std::string path = ::testing::TempDir() + "image_pipe_" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const auto load_from_pipe = [&](const Bytes& bytes, size_t n_copies, const DecodeOptions& options) {
    std::thread writer([&] {
      std::signal(SIGPIPE, SIG_IGN);
      std::ofstream out(path, std::ios::binary);
      for (size_t i = 0; i < n_copies && out; ++i) {
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      }
    });
    auto image = load_image(path, options);
    writer.join();
    return image;
  };
  const Bytes jpeg = fixture("jpeg_420.jpg");
  const auto piped = load_from_pipe(jpeg, 1, {});
  ASSERT_TRUE(piped.ok()) << piped.error().message;
  EXPECT_EQ(piped->pixels, decode_image(jpeg, {})->pixels);

  const auto text = load_from_pipe(bytes_of("no picture, but a very long text\n"), 1 << 20, {});
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, ErrorCode::kUnsupported) << text.error().message;
  EXPECT_TRUE(text.error().message.starts_with(path)) << text.error().message;

  DecodeOptions small;
  small.limits.max_bytes = 300000;
  const auto large = load_from_pipe(jpeg, 1 << 10, small);  // a picture and a megabyte behind it
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().code, ErrorCode::kTooLarge) << large.error().message;

  DecodeOptions cancelled;
  cancelled.progress = [](std::string_view, double) { return false; };
  EXPECT_EQ(load_from_pipe(jpeg, 1, cancelled).error().code, ErrorCode::kCancelled);
  unlink(path.c_str());

  for (const char* device : {"/dev/zero", "/dev/null", "/"}) {
    const auto image = load_image(device, {});
    ASSERT_FALSE(image.ok()) << device;
    EXPECT_EQ(image.error().code, ErrorCode::kInvalidArgument) << image.error().message;
  }
}

}  // namespace
}  // namespace glimpse
