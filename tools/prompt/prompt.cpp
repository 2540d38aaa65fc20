#include "tools/prompt/prompt.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"

namespace glimpse::prompt {
namespace {

struct ByteOrderMark {
  std::string_view bytes;
  const char* encoding;
};
// The longer ones first: UTF-32's begins with UTF-16's.
constexpr ByteOrderMark kWideMarks[] = {{{"\xFF\xFE\0\0", 4}, "UTF-32"},
                                        {{"\0\0\xFE\xFF", 4}, "UTF-32"},
                                        {{"\xFF\xFE", 2}, "UTF-16"},
                                        {{"\xFE\xFF", 2}, "UTF-16"}};
constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";

// Letters of Latin, Greek, Cyrillic and the like have a zero in every other byte, and text a space or a line end.
bool looks_like_utf16(std::string_view bytes) {
  const size_t n = std::min<size_t>(bytes.size(), 64) / 2;
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < 2 * n; ++i) zeros[i % 2] += bytes[i] == '\0' ? 1 : 0;
  return n >= 2 && std::max(zeros[0], zeros[1]) == n && std::min(zeros[0], zeros[1]) == 0;
}

const char* wide_encoding(std::string_view bytes) {
  for (const ByteOrderMark& mark : kWideMarks) {
    if (bytes.starts_with(mark.bytes)) return mark.encoding;
  }
  return looks_like_utf16(bytes) ? "UTF-16" : nullptr;
}

Status check_file_text(std::string_view bytes, const std::string& name) {
  if (const char* encoding = wide_encoding(bytes)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is %s text: save it as UTF-8 (iconv -f %s -t UTF-8 does it too)",
                      name, encoding, encoding);
  }
  return check_prompt_text(bytes, name);
}

// A kind of what has places in a prompt.
struct Kind {
  std::string_view places[3];  // the last one in raw prompts
  const char* name;
  const char* mark;
};
constexpr Kind kPicture = {
    {"<image>", "<__media__>", "<|vision_start|><|image_pad|><|vision_end|>"}, "picture", "<image>"};
constexpr Kind kVideo = {{"<video>", "<video>", "<|vision_start|><|video_pad|><|vision_end|>"}, "video", "<video>"};

// What stands at the front of a text: the length of a place, or 0.
size_t place_length(std::string_view text, const Kind& kind, bool raw) {
  for (const std::string_view place : kind.places) {
    if (text.starts_with(place)) return place.starts_with("<|") && !raw ? 0 : place.size();
  }
  return 0;
}

Status check_places(const Kind& kind, size_t n_places, size_t n) {
  if (n_places == 0 || n_places == n) return {};
  return make_error(
      ErrorCode::kInvalidArgument,
      "the prompt has %d place%s for a %s (%s), but there %s %d %s%s: give as many as places, or leave the "
      "places out (%ss then come first)",
      n_places, n_places == 1 ? "" : "s", kind.name, kind.mark, n == 1 ? "is" : "are", n, kind.name, n == 1 ? "" : "s",
      kind.name);
}

}  // namespace

Result<std::string> text_of_file(std::string_view bytes, const std::string& name) {
  GLIMPSE_TRY(check_file_text(bytes, name));
  if (bytes.starts_with(kUtf8Mark)) bytes.remove_prefix(kUtf8Mark.size());
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes.substr(i, 2) != "\r\n") text.push_back(bytes[i]);
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Result<std::string> read_text(const std::string& path) {
  const bool is_stdin = path == "-";
  const std::string name = is_stdin ? "standard input" : path;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(is_stdin ? nullptr : std::fopen(path.c_str(), "rb"),
                                                               [](std::FILE* file) { return std::fclose(file); });
  std::FILE* const file = is_stdin ? stdin : opened.get();
  if (file == nullptr) {
    return make_error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open %s: %s", name,
                      std::strerror(errno));
  }
  std::string bytes;
  char buffer[1 << 14];
  bool clean = true;  // no zero byte so far
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, file)) {
    bytes.append(buffer, n);
    clean = std::memchr(buffer, '\0', n) == nullptr;
    if (!clean) break;  // /dev/zero has no end
    if (bytes.size() > Tokenizer::kMaxTextBytes) {
      return make_error(ErrorCode::kTooLarge, "%s has more than %d bytes: no question is that long", name,
                        Tokenizer::kMaxTextBytes);
    }
  }
  if (clean && std::ferror(file) != 0) {
    return make_error(ErrorCode::kIo, "cannot read %s: %s", name, std::strerror(errno));
  }
  return text_of_file(bytes, name);
}

Result<std::vector<Piece>> place_pictures(std::string_view prompt, size_t n_pictures, bool raw, size_t n_videos) {
  GLIMPSE_TRY(check_prompt_text(prompt, "the prompt"));
  std::vector<Piece> pieces;
  size_t n_picture_places = 0, n_video_places = 0, begin = 0;
  const auto add_text = [&](size_t end) {
    if (end > begin) pieces.push_back({false, std::string(prompt.substr(begin, end - begin)), false});
  };
  for (size_t at = 0; n_pictures + n_videos > 0 && (at = prompt.find('<', at)) != std::string_view::npos;) {
    const std::string_view rest = prompt.substr(at);
    const size_t picture = n_pictures > 0 ? place_length(rest, kPicture, raw) : 0;
    const size_t video = n_videos > 0 ? place_length(rest, kVideo, raw) : 0, length = std::max(picture, video);
    if (length > 0) {
      add_text(at);
      pieces.push_back({picture > 0, "", video > 0});
      ++(picture > 0 ? n_picture_places : n_video_places);
      begin = at + length;
    }
    at += std::max<size_t>(length, 1);
  }
  GLIMPSE_TRY(check_places(kPicture, n_picture_places, n_pictures));
  GLIMPSE_TRY(check_places(kVideo, n_video_places, n_videos));
  add_text(prompt.size());
  if (n_picture_places == 0) pieces.insert(pieces.begin(), n_pictures, {true, "", false});
  if (n_video_places == 0) pieces.insert(pieces.begin(), n_videos, {false, "", true});
  return pieces;
}

}  // namespace glimpse::prompt
