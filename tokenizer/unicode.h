// The little of Unicode that the tokenizer asks for: three classes of characters, and normalisation form C. The tables
// are those of the utf8proc that is linked: Unicode 14.0 with utf8proc 2.7 and 2.8 (Debian 12), 15.1 with 2.9, 16.0
// with 2.10. Normalisation of characters that an older version knows never changes; classes of new characters differ.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace glimpse {

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

/// \p{L} (Lu Ll Lt Lm Lo), \p{N} (Nd Nl No), \s (the property White_Space) or none of them.
CharClass char_class(char32_t code_point);

/// True when `text` is in NFC for certain (it has no character from U+0300 on): the usual case, and cheap.
bool is_nfc_quickly(std::string_view text);

/// Normalisation form C. Time O(n log n) and memory O(n) also for long runs of combining marks.
/// Precondition: text is valid UTF-8.
std::string to_nfc(std::string_view text);

}  // namespace glimpse
