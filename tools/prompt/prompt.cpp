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

// What stands at `at`: the length of a place, or 0.
size_t place_length(std::string_view text, bool raw) {
  for (const std::string_view place : {"<image>", "<__media__>", "<|vision_start|><|image_pad|><|vision_end|>"}) {
    if (text.starts_with(place)) return place.starts_with("<|") && !raw ? 0 : place.size();
  }
  return 0;
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

Result<std::vector<Piece>> place_pictures(std::string_view prompt, size_t n_pictures, bool raw) {
  GLIMPSE_TRY(check_prompt_text(prompt, "the prompt"));
  std::vector<Piece> pieces;
  size_t n_places = 0, begin = 0;
  const auto add_text = [&](size_t end) {
    if (end > begin) pieces.push_back({false, std::string(prompt.substr(begin, end - begin))});
  };
  for (size_t at = 0; n_pictures > 0 && (at = prompt.find('<', at)) != std::string_view::npos;) {
    const size_t length = place_length(prompt.substr(at), raw);
    if (length > 0) {
      add_text(at);
      pieces.push_back({true, ""});
      ++n_places;
      begin = at + length;
    }
    at += std::max<size_t>(length, 1);
  }
  if (n_places == 0) {
    pieces.assign(n_pictures, {true, ""});
  } else if (n_places != n_pictures) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the prompt has %d place%s for a picture (<image>), but there %s %d picture%s: give as many as "
                      "places, or leave the places out (pictures then come first)",
                      n_places, n_places == 1 ? "" : "s", n_pictures == 1 ? "is" : "are", n_pictures,
                      n_pictures == 1 ? "" : "s");
  }
  add_text(prompt.size());
  return pieces;
}

}  // namespace glimpse::prompt
