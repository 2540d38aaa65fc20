#include "tools/cli/terminal.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/terminal/printable.h"

namespace glimpse::cli {
namespace {

using terminal::Layout;
using terminal::printable;

volatile int g_signal = 0;  // read and written atomically, without a lock: a handler may
static_assert(__atomic_always_lock_free(sizeof g_signal, nullptr));

extern "C" void on_interrupt(int signal) {
  __atomic_store_n(&g_signal, signal, __ATOMIC_RELAXED);
  std::signal(signal, SIG_DFL);
}

bool g_progress_visible = false;

void erase_progress() {
  if (g_progress_visible) std::fputs("\r\033[K", stderr);
  g_progress_visible = false;
}

std::string formatted(const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int n = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(n > 0 ? static_cast<size_t>(n) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

void write(std::FILE* stream, const std::string& text) {
  if (stream == stderr || isatty(STDOUT_FILENO) != 0) erase_progress();
  std::fwrite(text.data(), 1, text.size(), stream);
}

}  // namespace

void print_error(std::string_view message) {
  write(stderr, "glimpse: " + printable(message, Layout::kLine) + "\n");
}

void print_note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write(stderr, printable(formatted(format, arguments), Layout::kLine) + "\n");
  va_end(arguments);
}

void print_aside(std::string_view text) {
  write(stderr, printable(text, Layout::kText));
}

void print(std::string_view text) {
  write(stdout, printable(text, Layout::kText));
}

void print_format(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print(formatted(format, arguments));
  va_end(arguments);
}

std::string one_line(std::string_view text, size_t limit) {
  if (text.size() <= limit) return printable(text, Layout::kLine);
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // no half characters
  return printable(text.substr(0, end), Layout::kLine) + "...";
}

void print_object(const nlohmann::json& json) {
  write(stdout, printable(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace), Layout::kJson) + "\n");
}

void print_data(std::string_view text) {
  if (isatty(STDOUT_FILENO) != 0) return print(text);
  write(stdout, std::string(text));
}

bool flush_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
  static bool told = false;  // it will not get better
  if (!std::exchange(told, true)) print_error(std::string("cannot write to standard output: ") + std::strerror(errno));
  return false;
}

ProgressLine::ProgressLine(bool quiet) : enabled_(!quiet && isatty(STDERR_FILENO) != 0) {}

void ProgressLine::show(std::string_view stage, double fraction) {
  const int percent = static_cast<int>(fraction * 100);
  if (!enabled_ || percent == last_percent_) return;
  last_percent_ = percent;
  std::fprintf(stderr, "\r\033[K%s %d%%", printable(stage, Layout::kLine).c_str(), percent);
  std::fflush(stderr);
  g_progress_visible = true;
}

void ProgressLine::say(const std::function<std::string()>& text) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || now - last_said_ < std::chrono::milliseconds(100)) return;
  last_said_ = now;
  std::fprintf(stderr, "\r\033[K%s", printable(text(), Layout::kLine).c_str());
  std::fflush(stderr);
  g_progress_visible = true;
}

void ProgressLine::clear() {
  erase_progress();
  last_percent_ = -1;
}

void catch_interrupts() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (std::signal(signal, on_interrupt) == SIG_IGN) std::signal(signal, SIG_IGN);  // as under nohup
  }
  std::signal(SIGXFSZ, SIG_IGN);
}
void forget_interrupt() {
  __atomic_store_n(&g_signal, 0, __ATOMIC_RELAXED);
  catch_interrupts();
}
const volatile int* interrupt_flag() {
  return &g_signal;
}
int interrupt_signal() {
  return __atomic_load_n(&g_signal, __ATOMIC_RELAXED);
}
bool interrupted() {
  return interrupt_signal() != 0;
}

}  // namespace glimpse::cli
