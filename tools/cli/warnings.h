// What the library warns of, shown by every command: warnings and errors on stderr, each text once while the command
// runs. A model that is loaded twice, or a session beside a model, may say the same.
#pragma once

#include "engine/base/log.h"
#include "engine/include/glimpse/glimpse.h"

namespace glimpse::cli {

/// As LogSink.
LogSink warnings();
/// As glimpse_log_callback.
void show_warning(void* user, glimpse_log_level level, const char* message);

}  // namespace glimpse::cli
