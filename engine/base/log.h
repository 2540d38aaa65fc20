// The library prints nothing: messages go to the callback that the host set, or nowhere.
#pragma once

#include <functional>
#include <string_view>

namespace glimpse {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Called with one message, no newline at its end. May be empty (messages are dropped).
using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Called with work done so far in [0, 1] and the stage's name; returning false cancels the work.
using ProgressSink = std::function<bool(std::string_view stage, double fraction)>;

inline void log(const LogSink& sink, LogLevel level, std::string_view message) {
  if (sink) sink(level, message);
}

}  // namespace glimpse
