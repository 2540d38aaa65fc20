#include "tools/cli/terminal.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

namespace glimpse::cli {
namespace {

std::atomic<bool> g_interrupted{false};

extern "C" void on_interrupt(int) {
  g_interrupted.store(true);
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace

ProgressLine::ProgressLine(bool quiet) : enabled_(!quiet && isatty(STDERR_FILENO) != 0) {}

void ProgressLine::show(const char* stage, double fraction) {
  const int percent = static_cast<int>(fraction * 100);
  if (!enabled_ || percent == last_percent_) return;
  last_percent_ = percent;
  std::fprintf(stderr, "\r\033[K%s %d%%", stage, percent);
  std::fflush(stderr);
  visible_ = true;
}

void ProgressLine::clear() {
  if (visible_) std::fputs("\r\033[K", stderr);
  visible_ = false;
  last_percent_ = -1;
}

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
}
bool interrupted() {
  return g_interrupted.load();
}

}  // namespace glimpse::cli
