// Lines that somebody types, with editing and history on a terminal; plain ones from a pipe or a file.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace glimpse::chat {

class LineEditor {
 public:
  enum class Got { kLine, kEnd, kInterrupted };
  virtual ~LineEditor() = default;
  /// The next line, without its end. kInterrupted: `interrupted` said so while it waited; what was typed is gone.
  virtual Got read(std::string& line) = 0;
};

/// Of standard input. On a terminal lines are edited by libedit, if this build has it, behind the prompt; a line goes
/// into the history, and into the file of that name where one is given (readable by its owner alone). interrupted:
/// asked when a signal came, and twice a second.
std::unique_ptr<LineEditor> make_line_editor(const std::string& prompt, const std::string& history_file,
                                             std::function<bool()> interrupted);

}  // namespace glimpse::chat
