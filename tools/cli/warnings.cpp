#include "tools/cli/warnings.h"

#include <functional>
#include <mutex>
#include <set>
#include <string>

#include "tools/cli/terminal.h"

namespace glimpse::cli {

void print_warning(bool is_error, std::string_view message) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> shown;
  const std::lock_guard lock(mutex);
  const auto [text, is_new] = shown.emplace(message);
  if (is_new) print_note("%s: %s", is_error ? "error" : "warning", text->c_str());
}

void show_warning(void*, glimpse_log_level level, const char* message) {
  if (level >= GLIMPSE_LOG_WARNING) print_warning(level >= GLIMPSE_LOG_ERROR, message);
}

}  // namespace glimpse::cli
