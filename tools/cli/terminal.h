// What the commands show on stderr: progress of long stages when it is a terminal; and signals as requests to stop.
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

/// From now on Ctrl-C (SIGINT), SIGTERM and SIGHUP only set a flag, so that what is half done is cleaned up; the second
/// signal of a kind kills. A file that grows past the limit of its size becomes a failed write instead of a signal.
void catch_interrupts();
bool interrupted();
/// The signal that set the flag; 0 when none has.
int interrupt_signal();

}  // namespace glimpse::cli
