// What the commands show on stderr: progress of long stages when it is a terminal, and Ctrl-C as a request.
#pragma once

namespace glimpse::cli {

/// Shows "stage 42%" in place on stderr when that is a terminal; erases itself.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine() { clear(); }
  void show(const char* stage, double fraction);
  void clear();

 private:
  bool enabled_;
  bool visible_ = false;
  int last_percent_ = -1;
};

/// From now on Ctrl-C only sets a flag (a second one kills).
void catch_interrupts();
bool interrupted();

}  // namespace glimpse::cli
