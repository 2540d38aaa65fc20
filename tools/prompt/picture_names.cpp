#include "tools/prompt/picture_names.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

namespace glimpse::prompt {
namespace {

std::string lower_extension(const std::string& path) {
  std::string text = std::filesystem::path(path).extension().string();
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

}  // namespace

bool is_picture_name(const std::string& path) {
  static constexpr std::array<std::string_view, 14> kEnds = {".jpg", ".jpeg", ".png",  ".webp", ".gif",
                                                             ".tif", ".tiff", ".heic", ".heif", ".avif",
                                                             ".bmp", ".ppm",  ".pgm",  ".pnm"};
  return std::find(kEnds.begin(), kEnds.end(), lower_extension(path)) != kEnds.end();
}

bool is_pdf_name(const std::string& path) {
  return lower_extension(path) == ".pdf";
}

}  // namespace glimpse::prompt
