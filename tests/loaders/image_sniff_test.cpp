// Files that are not pictures glimpse reads: the error says what they are.
#include <gtest/gtest.h>

#include <string_view>

#include "tests/loaders/image_support.h"

namespace glimpse {
namespace {

using namespace image_test;
using namespace std::string_view_literals;

TEST(ImageSniff, ForeignFormatsAreNamed) {
  const std::pair<std::string_view, const char*> cases[] = {
      {"II+\0\x08\0\0\0"sv, "BigTIFF"},
      {"\0\0\0\x18"
       "ftypisom\0\0\0\0isommp41"sv,
       "MP4"},
      {"\xff\x0a\x12\x34"sv, "JPEG XL"},
      {"\0\0\0\x0cJXL \r\n\x87\n"sv, "JPEG XL"},
      {"\0\0\0\x0cjP  \r\n\x87\n"sv, "JPEG 2000"},
      {"\xff\x4f\xff\x51\0\0"sv, "JPEG 2000"},
      {"\0\0\1\0\1\0\x10\x10"sv, "ICO"},
      {"8BPS\0\1"sv, "Photoshop"},
      {"%PDF-1.7\n"sv, "PDF"},
      {"<!DOCTYPE html>\n<html>"sv, "HTML"},
      {"\n\n  <html lang=\"en\">"sv, "HTML"},
      {"<?xml version=\"1.0\"?><svg xmlns=\"\">"sv, "SVG"},
      {"<?xml version=\"1.0\"?><note/>"sv, "XML"},
      {"{\"error\": \"not found\"}"sv, "JSON"},
      {"hello, world\n"sv, "text"},
      {"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJ\n"sv, "base64"},
      {"iVBORw0KGgoAAAANSUhEUgAAAOAAAACoCAIAAAB9mBXEAAAR"sv, "base64"},
      {"Qk0 is a short word, and this is a text"sv, "text file"},
      {"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg"sv, "data URI"},
      {"\0\0\2\0\0\0\0\0\0\0\0\0\xe0\0\xa8\0\x18\x20\1\2\3"sv, "TGA"},
      {"\0\0\x0a\0\0\0\0\0\0\0\0\0\xe0\0\xa8\0\x20\x08\1\2\3"sv, "TGA"},
      {"\0\1\1\0\0\0\1\x18\0\0\0\0\x10\0\x10\0\x08\0\1\2\3"sv, "TGA"},
      {"\4\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\x18\0zzTRUEVISION-XFILE.\0"sv, "TGA"},
      {"\0\0\2\0\1\0\x20\x20\0\0\3\0\4\0\x30\x0c\0\0\x16\0\0\0"sv, "CUR"},
      {"P4\n8 8\n"sv, "PBM"},
      {"P7\nWIDTH 1\n"sv, "PAM"},
      {"GGUF\3\0\0\0"sv, "GGUF"},
      {"PK\3\4\x14\0"sv, "ZIP"},
      {"RIFF\x10\0\0\0WAVEfmt "sv, "RIFF"},
      {"version https://git-lfs.github.com/spec/v1\n"sv, "Git LFS"},
      {"\x01\x02\x03\x04\x05\x06\x07\x08\x09"sv, "01 02 03 04"},
  };
  for (const auto& [bytes, name] : cases) {
    const auto image = decode_image(bytes_of(bytes), {});
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, ErrorCode::kUnsupported) << name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find(name), std::string::npos) << name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find("PNG"), std::string::npos) << "says what would be read";
  }
}

TEST(ImageSniff, PicturesThatAreNotReadComeWithAWayToConvertThem) {
  for (const std::string_view bytes : {"8BPS\0\1"sv, "\0\0\2\0\0\0\0\0\0\0\0\0\xe0\0\xa8\0\x18\x20\1\2\3"sv}) {
    const auto image = decode_image(bytes_of(bytes), {});
    EXPECT_NE(image.error().message.find("for example: "), std::string::npos) << image.error().message;
  }
}

TEST(ImageSniff, BrandsTellHeicFromAvif) {
  for (const std::string_view bytes : {"\0\0\0\x20"
                                       "ftypheic\0\0\0\0mif1heic"sv,
                                       "\0\0\0\x20"
                                       "ftypmif1\0\0\0\0mif1heic"sv,
                                       "\0\0\0\x20"
                                       "ftypavif\0\0\0\0avifmif1"sv,
                                       "\0\0\0\x1c"
                                       "ftypmif1\0\0\0\0mif1avif"sv}) {
    const auto image = decode_image(bytes_of(bytes), {});
    ASSERT_FALSE(image.ok());
    const bool avif = bytes.find("avif") != bytes.npos;
    EXPECT_NE(image.error().message.find(avif ? "AVIF" : "HEIC"), std::string::npos) << image.error().message;
  }
}

TEST(ImageSniff, BrandsOutsideTheFileTypeBoxDoNotCount) {
  const auto image = decode_image(bytes_of("\0\0\0\x14"
                                           "ftypisom\0\0\0\0isomavifheic"sv),
                                  {});
  EXPECT_NE(image.error().message.find("MP4"), std::string::npos) << image.error().message;
}

TEST(ImageSniff, BeginningsOfSignaturesAreTruncated) {
  for (const std::string_view bytes :
       {""sv, "\xff"sv, "\xff\xd8"sv, "\x89"sv, "\x89PNG\r\n\x1a"sv, "RI"sv, "RIFF\1\0\0\0WE"sv}) {
    const auto image = decode_image(bytes_of(bytes), {});
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code, ErrorCode::kTruncated) << bytes.size() << ": " << image.error().message;
  }
}

TEST(ImageSniff, PngTransferredAsTextIsCorrupt) {
  const auto image = decode_image(bytes_of("\x89PNG\n\x1a\n\0\0\0\rIHDR"sv), {});
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.error().code, ErrorCode::kCorrupt);
}

TEST(ImageSniff, EveryOneAndTwoByteFileIsAnError) {
  for (int first = 0; first < 256; ++first) {
    EXPECT_FALSE(decode_image(Bytes{static_cast<std::byte>(first)}, {}).ok());
    for (int second = 0; second < 256; ++second) {
      EXPECT_FALSE(decode_image(Bytes{static_cast<std::byte>(first), static_cast<std::byte>(second)}, {}).ok());
    }
  }
}

}  // namespace
}  // namespace glimpse
