#include "tools/cli/terminal.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

namespace glimpse::cli {
namespace {

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);  // or a handler must not touch it

extern "C" void on_interrupt(int signal) {
  g_signal.store(signal);
  std::signal(signal, SIG_DFL);
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
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (std::signal(signal, on_interrupt) == SIG_IGN) std::signal(signal, SIG_IGN);  // as under nohup
  }
  std::signal(SIGXFSZ, SIG_IGN);
}
bool interrupted() {
  return g_signal.load() != 0;
}
int interrupt_signal() {
  return g_signal.load();
}

}  // namespace glimpse::cli
