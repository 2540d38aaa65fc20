// Text of files, models and command lines as people may see it.
#pragma once

#include <string>
#include <string_view>

namespace glimpse::terminal {

enum class Layout {
  kLine,  // one line: line ends and tabs are shown as \n and \t
  kText,  // lines and tabs stay
  kJson,  // lines stay; what is shown by an escape is shown by JSON's, so that the same value is read
};

/// The text with nothing in it that steers a terminal or deceives its reader: control characters (C0, DEL, C1), line
/// and paragraph separators, and what overrides, embeds or isolates the direction of writing (Unicode Bidi_Control but
/// the two marks) become \x1b or \u202e, bytes that are no UTF-8 \xff. Everything else stays.
std::string printable(std::string_view text, Layout layout);

}  // namespace glimpse::terminal
