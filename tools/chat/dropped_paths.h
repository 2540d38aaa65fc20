// Pictures that were dropped into a line: terminals write their paths as a shell would read them.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace glimpse::chat {

struct Dropped {
  std::vector<std::string> paths;
  std::string text;  // the line without them
};

/// Words of the line that `is_picture` knows once they are read: in single or double quotes, with backslashes before
/// blanks, or as file:// with % codes. Everything else stays as it is.
Dropped take_dropped_paths(std::string_view line, const std::function<bool(const std::string& path)>& is_picture);

/// The words of a line as a shell reads them: what a command is given. An open quote reaches to the end.
std::vector<std::string> shell_words(std::string_view text);

}  // namespace glimpse::chat
