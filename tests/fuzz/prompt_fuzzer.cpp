// Question files and the places of pictures in prompts. First byte: how many pictures (3 bits), raw (1 bit).
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"
#include "tokenizer/utf8.h"
#include "tools/prompt/prompt.h"

namespace {

using glimpse::fuzz::require;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::string_view all(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const size_t n_pictures = bytes[0] & 7;
  const bool raw = (bytes[0] & 8) != 0;
  const auto text = glimpse::prompt::text_of_file(all, "file");
  const bool is_text =
      glimpse::find_invalid_utf8(all) == std::string_view::npos && all.find('\0') == std::string_view::npos;
  require(text.ok() == is_text);
  if (!text.ok()) return 0;
  require(text.value().size() <= all.size());
  require(glimpse::find_invalid_utf8(text.value()) == std::string_view::npos);
  require(text.value().find("\r\n") == std::string::npos || all.find("\r\r\n") != std::string_view::npos);

  const size_t n_videos = bytes[0] >> 4 & 3;
  const auto pieces = glimpse::prompt::place_pictures(all, n_pictures, raw, n_videos);
  if (!pieces.ok()) {
    require(n_pictures + n_videos > 0);
    return 0;
  }
  size_t n = 0, n_seen_videos = 0, n_bytes = 0, at = 0;
  for (const glimpse::prompt::Piece& piece : pieces.value()) {
    if (piece.is_picture) {
      ++n;
      continue;
    }
    if (piece.is_video) {
      ++n_seen_videos;
      continue;
    }
    n_bytes += piece.text.size();
    at = all.find(piece.text, at);  // texts stand in the prompt, in order
    require(at != std::string_view::npos && !piece.text.empty());
    at += piece.text.size();
  }
  require(n == n_pictures && n_seen_videos == n_videos && n_bytes <= all.size());
  if (n_pictures + n_videos == 0) require(n_bytes == all.size());
  return 0;
}
