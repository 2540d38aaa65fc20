#include "tokenizer/pre_tokenizer.h"

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

/// One character with its class; at the end of the text it is no character of no class.
struct Cursor {
  char32_t c = 0;
  size_t end = 0;  // offset behind the character
  CharClass kind = CharClass::kOther;
  bool exists = false;

  bool is(CharClass k) const { return exists && kind == k; }
  bool is_newline() const { return exists && (c == '\r' || c == '\n'); }
};

Cursor look(std::string_view text, size_t offset) {
  if (offset >= text.size()) return {0, offset, CharClass::kOther, false};
  const Utf8Char u = utf8_at(text, offset);
  return {u.code_point, offset + u.n_bytes, char_class(u.code_point), true};
}

size_t skip(std::string_view text, size_t offset, CharClass kind) {
  for (Cursor at = look(text, offset); at.is(kind); at = look(text, offset)) offset = at.end;
  return offset;
}

char lower(std::string_view text, size_t offset) {
  const char c = offset < text.size() ? text[offset] : '\0';
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Length of an English contraction at `begin` (an apostrophe), or 0.
size_t contraction(std::string_view text, size_t begin) {
  const char first = lower(text, begin + 1), second = lower(text, begin + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  // Case folding makes U+017F (long s) an s, for the regex engine of the tokenizers library too.
  if (text.substr(begin + 1, 2) == "\u017F") return 3;
  return 0;
}

/// Rules 5 to 7. Precondition: a whitespace character at `begin`.
size_t whitespace_piece(std::string_view text, size_t begin) {
  size_t end = begin, last = begin, after_newline = begin;
  for (Cursor at = look(text, end); at.is(CharClass::kSpace); at = look(text, end)) {
    last = end;
    end = at.end;
    if (at.is_newline()) after_newline = end;
  }
  if (after_newline > begin) return after_newline - begin;     // 5: up to the last line end of the run
  if (end < text.size() && last > begin) return last - begin;  // 6: leave one for the word that follows
  return end - begin;                                          // 7
}

}  // namespace

size_t next_piece(std::string_view text, size_t begin) {
  const Cursor first = look(text, begin);
  if (first.c == '\'') {
    if (const size_t n = contraction(text, begin)) return n;  // 1
  }
  if (first.kind == CharClass::kLetter) return skip(text, first.end, CharClass::kLetter) - begin;  // 2, without a lead
  if (first.kind == CharClass::kNumber) return first.end - begin;                                  // 3
  const Cursor second = look(text, first.end);
  if (second.is(CharClass::kLetter) && !first.is_newline()) {
    return skip(text, second.end, CharClass::kLetter) - begin;  // 2
  }
  if (first.kind == CharClass::kOther || (first.c == ' ' && second.is(CharClass::kOther))) {
    size_t end = skip(text, first.end, CharClass::kOther);  // 4
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return end - begin;
  }
  return whitespace_piece(text, begin);
}

}  // namespace glimpse
