// Qwen2's pre-tokenizer: cuts text into the pieces inside which byte-pair merges may happen.
// Source: the Split pattern of Qwen2's tokenizer.json,
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// written out as rules, which are numbered by the alternative they stand for.
#pragma once

#include <cstddef>
#include <string_view>

namespace glimpse {

/// Length in bytes of the piece that starts at `begin`; at least 1. Linear in the piece and the whitespace after it.
/// Precondition: text is valid UTF-8, begin is a character boundary below its end.
size_t next_piece(std::string_view text, size_t begin);

}  // namespace glimpse
