#include "engine/base/format.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace glimpse {
namespace {

// printf does the work of one number: the conversion is put together again with the length of its widest type.
void append_number(std::string& out, const FormatSpec& spec, const FormatArg& arg) {
  const bool real = arg.kind == FormatArg::Kind::kReal;
  char conversion[32];
  const auto width = static_cast<int>(spec.flags_and_width.size());
  const char* length = real || spec.letter == 'c' ? "" : "ll";
  char letter = spec.letter;
  if (arg.kind == FormatArg::Kind::kUnsigned && (letter == 'd' || letter == 'i')) letter = 'u';
  if (arg.kind == FormatArg::Kind::kSigned && letter == 'u') letter = 'd';
  char precision[16] = "";
  if (spec.precision >= 0) std::snprintf(precision, sizeof precision, ".%d", spec.precision);
  std::snprintf(conversion, sizeof conversion, "%%%.*s%s%s%c", width, spec.flags_and_width.data(), precision, length,
                letter);

  char small[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const auto print = [&](char* to, size_t room) {
    if (real) return std::snprintf(to, room, conversion, arg.real);
    if (spec.letter == 'c') return std::snprintf(to, room, conversion, static_cast<int>(arg.integer));
    return std::snprintf(to, room, conversion, static_cast<unsigned long long>(arg.integer));
  };
#pragma GCC diagnostic pop
  const int n = print(small, sizeof small);
  if (n < 0) return;
  const auto size = static_cast<size_t>(n);
  if (size < sizeof small) {
    out.append(small, size);
    return;
  }
  std::string large(size, '\0');
  print(large.data(), size + 1);
  out += large;
}

void append_text(std::string& out, const FormatSpec& spec, std::string_view text) {
  if (spec.precision >= 0) text = text.substr(0, static_cast<size_t>(spec.precision));
  size_t width = 0;
  for (const char c : spec.flags_and_width) {
    if (c >= '0' && c <= '9') width = width * 10 + static_cast<size_t>(c - '0');
  }
  const bool left = spec.flags_and_width.find('-') != std::string_view::npos;
  const size_t padding = width > text.size() ? width - text.size() : 0;
  if (!left) out.append(padding, ' ');
  out += text;
  if (left) out.append(padding, ' ');
}

}  // namespace

std::string format_list(std::string_view text, std::span<const FormatArg> args) {
  std::string out;
  size_t used = 0;
  while (!text.empty()) {
    const size_t percent = std::min(text.find('%'), text.size());
    out += text.substr(0, percent);
    text.remove_prefix(percent);
    if (text.empty()) break;
    if (text.size() > 1 && text[1] == '%') {
      out += '%';
      text.remove_prefix(2);
      continue;
    }
    const FormatSpec spec = FormatSpec::parse(text.substr(1));
    if (used == args.size() || spec.letter == 0) break;
    const FormatArg& arg = args[used++];
    if (arg.kind == FormatArg::Kind::kText) {
      append_text(out, spec, arg.text);
    } else {
      append_number(out, spec, arg);
    }
    text.remove_prefix(1 + spec.length);
  }
  return out;
}

}  // namespace glimpse
