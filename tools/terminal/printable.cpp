#include "tools/terminal/printable.h"

#include "engine/base/result.h"
#include "tokenizer/utf8.h"

namespace glimpse::terminal {
namespace {

bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

// The Trojan Source characters (CVE-2021-42574) and the separators that some terminals break lines at.
bool deceives(char32_t c) {
  return (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029;
}

std::string escaped(char32_t c, Layout layout) {
  if (layout != Layout::kJson) {
    if (c == '\n') return "\\n";
    if (c == '\t') return "\\t";
    if (c == '\r') return "\\r";
    if (c < 0x80) return format("\\x%02x", c);
  }
  return format("\\u%04x", c);
}

}  // namespace

std::string printable(std::string_view text, Layout layout) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    const char32_t c = step.code_point;
    if (step.kind != Utf8Step::Kind::kValid) {
      for (const char byte : text.substr(0, step.n_bytes)) {
        shown += format("\\x%02x", static_cast<unsigned char>(byte));
      }
    } else if (layout != Layout::kLine && (c == '\n' || c == '\t')) {
      shown.push_back(text[0]);
    } else if (is_control(c) || deceives(c)) {
      shown += escaped(c, layout);
    } else {
      shown.append(text.substr(0, step.n_bytes));
    }
    text.remove_prefix(step.n_bytes);
  }
  return shown;
}

}  // namespace glimpse::terminal
