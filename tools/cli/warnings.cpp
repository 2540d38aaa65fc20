#include "tools/cli/warnings.h"

#include <mutex>
#include <set>
#include <string>

#include "tools/cli/terminal.h"

namespace glimpse::cli {
namespace {

void show_once(bool error, std::string_view message) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> shown;
  const std::lock_guard lock(mutex);
  const auto [text, is_new] = shown.emplace(message);
  if (is_new) print_note("%s: %s", error ? "error" : "warning", text->c_str());
}

}  // namespace

LogSink warnings() {
  return [](LogLevel level, std::string_view message) {
    if (level >= LogLevel::kWarning) show_once(level == LogLevel::kError, message);
  };
}

void show_warning(void*, glimpse_log_level level, const char* message) {
  if (level >= GLIMPSE_LOG_WARNING) show_once(level >= GLIMPSE_LOG_ERROR, message);
}

}  // namespace glimpse::cli
