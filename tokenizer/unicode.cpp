#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

// PropList.txt, White_Space.
constexpr bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

constexpr std::array<CharClass, 128> make_ascii_classes() {
  std::array<CharClass, 128> classes{};
  for (char32_t c = 0; c < 128; ++c) {
    if (is_white_space(c)) classes[c] = CharClass::kSpace;
    if (c >= '0' && c <= '9') classes[c] = CharClass::kNumber;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) classes[c] = CharClass::kLetter;
  }
  return classes;
}

constexpr auto kAsciiClasses = make_ascii_classes();

// Below this every character has combining class 0 and never joins the one before it (DerivedNormalizationProps.txt:
// NFC_Quick_Check=Yes), so text may be cut in front of it.
constexpr char32_t kFirstUnstable = 0x300;
constexpr unsigned char kFirstUnstableLead = 0xCC;  // the lead byte of U+0300

constexpr utf8proc_int32_t kHangulTrailingBase = 0x11A7;

// utf8proc_decompose sorts marks by exchanging neighbours, quadratic in the length of a run of marks; this is the same
// order in O(n log n).
void sort_marks(std::vector<utf8proc_int32_t>& text) {
  const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (size_t i = 0; i < text.size();) {
    if (combining_class(text[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<ptrdiff_t>(i), text.begin() + static_cast<ptrdiff_t>(end),
                     [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
}

void append_nfc(std::string_view text, std::vector<utf8proc_int32_t>& scratch, std::string& out) {
  scratch.clear();
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = utf8_at(text, i);
    i += c.n_bytes;
    // No canonical decomposition is longer than 4 (UAX #15, table 8: U+1F82 and the like).
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts, 8, options, &boundary);
    if (n < 1 || n > 8) {
      scratch.push_back(static_cast<utf8proc_int32_t>(c.code_point));
    } else {
      scratch.insert(scratch.end(), parts, parts + n);
    }
  }
  sort_marks(scratch);
  // utf8proc (2.8 and before) takes U+11A7, the base that trailing consonants are counted from, for one of them and
  // drops it behind a syllable that has none. It joins nothing, so text may be cut in front of it; there, it stays.
  for (auto begin = scratch.begin(); begin != scratch.end();) {
    const auto end = std::find(begin + 1, scratch.end(), kHangulTrailingBase);
    const auto n = utf8proc_normalize_utf32(&*begin, static_cast<utf8proc_ssize_t>(end - begin),
                                            static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(static_cast<char32_t>(begin[i]), out);
    begin = end;
  }
}

}  // namespace

CharClass char_class(char32_t code_point) {
  if (code_point < 128) return kAsciiClasses[code_point];
  if (is_white_space(code_point)) return CharClass::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    default:
      return CharClass::kOther;
  }
}

bool is_nfc_quickly(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < kFirstUnstableLead; });
}

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> scratch;
  size_t copied = 0;    // text before this is in `out`
  size_t previous = 0;  // start of the character before i
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = utf8_at(text, i);
    if (c.code_point < kFirstUnstable) {
      previous = i;
      i += c.n_bytes;
      continue;
    }
    // A run from U+0300 on, together with the character in front, which its first mark may join.
    out.append(text, copied, previous - copied);
    size_t end = i + c.n_bytes;
    while (end < text.size() && static_cast<unsigned char>(text[end]) >= 0x80) {
      const Utf8Char next = utf8_at(text, end);
      if (next.code_point < kFirstUnstable) break;
      end += next.n_bytes;
    }
    append_nfc(text.substr(previous, end - previous), scratch, out);
    copied = previous = i = end;
  }
  out.append(text, copied, text.size() - copied);
  return out;
}

}  // namespace glimpse
