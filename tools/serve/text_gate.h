// Texts that are taken apart for their tokens outside of the engine: what that may cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace glimpse::serve {

/// To take a text apart costs up to forty times its bytes: not too many of them, and long ones one after another.
class TextGate {
 public:
  /// Bytes that one request may bring where the context holds so many tokens.
  static size_t most_bytes(int64_t context);
  /// Hold it while the text is at work. field: for the error. Throws ApiError 413.
  std::unique_lock<std::mutex> enter(size_t n_bytes, int64_t context, const std::string& field);
  /// The same for a text whose size is known to be in order.
  std::unique_lock<std::mutex> enter(size_t n_bytes);

 private:
  std::mutex mutex_;
};

}  // namespace glimpse::serve
