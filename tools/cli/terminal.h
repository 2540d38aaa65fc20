// The one door to the terminal: what the commands print for people and for programs, progress of long stages, and
// signals as requests to stop. Everything that comes from files, models or the command line leaves through
// terminal::printable().
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace glimpse::cli {

/// One message on stderr: "glimpse: " and the message, as one line.
void print_error(std::string_view message);
/// A line on stderr that is no error, as printf makes it.
[[gnu::format(printf, 1, 2)]] void print_note(const char* format, ...);
/// Text of several lines on stderr: tables beside what standard output has.
void print_aside(std::string_view text);

/// Text for people on standard output; its lines stay.
void print(std::string_view text);
/// The same, as printf makes it. Names that must stay in their line are quoted() before.
[[gnu::format(printf, 1, 2)]] void print_format(const char* format, ...);
/// A name or a value for a line of text: terminal::printable() on one line, cut after about `limit` bytes with "...".
std::string one_line(std::string_view text, size_t limit = std::string_view::npos);
/// Indented, with a line end; what is no UTF-8 is replaced.
void print_object(const nlohmann::json& json);
/// What programs read, or the words of a model: into a file or a pipe as it is, on a terminal as print() does.
void print_data(std::string_view text);
/// Standard output is flushed. False, and said on stderr, when what was printed met a full disk or a closed pipe.
bool flush_output();

/// Shows "stage 42%" in place on stderr when that is a terminal; erases itself, and before anything else is printed.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::string_view stage, double fraction);
  /// A line of one's own in its place, made at most ten times a second.
  void say(const std::function<std::string()>& text);
  void clear();

 private:
  bool enabled_;
  int last_percent_ = -1;
  std::chrono::steady_clock::time_point last_said_;
};

/// From now on Ctrl-C (SIGINT), SIGTERM and SIGHUP only set a flag, so that what is half done is cleaned up; the second
/// signal of a kind kills. A file that grows past the limit of its size becomes a failed write instead of a signal.
void catch_interrupts();
bool interrupted();
/// The flag itself, for a session to look at; not 0 once it is set.
const volatile int* interrupt_flag();
/// The flag is cleared, and the signal is caught again: a stopped answer is no reason to end.
void forget_interrupt();
/// The signal that set the flag; 0 when none has.
int interrupt_signal();

}  // namespace glimpse::cli
