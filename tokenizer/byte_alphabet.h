// The alphabet in which byte-level vocabularies spell bytes: one printable character per byte.
// Source: GPT-2's bytes_to_unicode, which Qwen keeps. Bytes 33-126, 161-172 and 174-255 stand for themselves; the other
// 68, in ascending order, are U+0100 to U+0143.
#pragma once

#include <string>
#include <string_view>

namespace glimpse {

/// The character that spells `byte`.
char32_t byte_to_character(unsigned char byte);
/// The byte that `character` spells, or -1.
int character_to_byte(char32_t character);

/// Appends the bytes that `spelled` (UTF-8) stands for. False, and nothing appended, when it is not valid UTF-8 or has
/// a character outside the alphabet.
bool append_spelled_bytes(std::string_view spelled, std::string& bytes);

}  // namespace glimpse
