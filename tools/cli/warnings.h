// What the library warns of, shown by every command: warnings and errors on stderr, each text once while the command
// runs. A model that is loaded twice, or a session beside a model, may say the same.
#pragma once

#include <string_view>

#include "engine/include/glimpse/glimpse.h"

namespace glimpse::cli {

void print_warning(bool is_error, std::string_view message);

/// As glimpse_log_callback.
void show_warning(void* user, glimpse_log_level level, const char* message);

/// As the LogSink of what lies behind the public interface.
struct WarningSink {
  template <typename Level>
  void operator()(Level level, std::string_view message) const {
    if (level >= Level::kWarning) print_warning(level == Level::kError, message);
  }
};

}  // namespace glimpse::cli
