// What the image tests share: fixture files, bytes built by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "loaders/image/image.h"

namespace glimpse::image_test {

using Bytes = std::vector<std::byte>;

inline std::filesystem::path fixture_folder() {
  return std::filesystem::path(GLIMPSE_TEST_DIR) / "loaders/data/image";
}

inline Bytes read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
inline Bytes fixture(const std::string& name) {
  return read_bytes(fixture_folder() / name);
}

inline Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

/// FNV-1a, 64 bits.
inline uint64_t fnv1a64(std::span<const uint8_t> data) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (uint8_t byte : data) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

/// One line of expected.txt.
struct Expected {
  std::string name;
  int width = 0, height = 0;
  uint64_t hash = 0;
};
inline std::vector<Expected> read_expected() {
  std::ifstream in(fixture_folder() / "expected.txt");
  std::vector<Expected> all;
  for (Expected one; in >> one.name >> one.width >> one.height >> std::hex >> one.hash >> std::dec;) all.push_back(one);
  return all;
}

/// Whether this build of the library reads WebP.
inline bool has_webp() {
  const auto image = decode_image(fixture("webp_1x1.webp"), {});
  return image.ok() || image.error().code != ErrorCode::kUnsupported;
}
inline bool has_gif() {
  const auto image = decode_image(fixture("gif_1x1.gif"), {});
  return image.ok() || image.error().code != ErrorCode::kUnsupported;
}
inline bool has_tiff() {
  const auto image = decode_image(fixture("tiff_rgb.tif"), {});
  return image.ok() || image.error().code != ErrorCode::kUnsupported;
}
/// Of HEIC and AVIF each has a decoder of its own. name: rgb.heic, turned_3.avif, ...
inline bool can_read_heif(const std::string& name) {
  const auto image = decode_image(fixture(name.ends_with(".heic") ? "heif/rgb.heic" : "heif/rgb.avif"), {});
  return image.ok() || image.error().code != ErrorCode::kUnsupported;
}
/// Whether this build of the library reads the fixture of that name.
inline bool is_readable(const std::string& name) {
  return name.ends_with(".webp")  ? has_webp()
         : name.ends_with(".gif") ? has_gif()
         : name.ends_with(".tif") ? has_tiff()
                                  : true;
}
inline bool is_webp(const std::string& name) {
  return name.ends_with(".webp");
}

}  // namespace glimpse::image_test
