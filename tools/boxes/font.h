// Letters for labels: 5 x 7 pixels, drawn for this program. Small letters are drawn as capitals.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace glimpse::boxes {

constexpr int kGlyphWidth = 5, kGlyphHeight = 7;

/// Rows of a glyph, its left pixel in bit 4. Precondition: can_be_drawn().
const std::array<uint8_t, kGlyphHeight>& glyph(char c);
/// Whether there is a glyph for every character.
bool can_be_drawn(std::string_view text);

}  // namespace glimpse::boxes
