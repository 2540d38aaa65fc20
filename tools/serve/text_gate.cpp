#include "tools/serve/text_gate.h"

#include <algorithm>

#include "engine/base/format.h"
#include "tools/serve/api_error.h"

namespace glimpse::serve {

size_t TextGate::most_bytes(int64_t context) {
  constexpr size_t kLeast = size_t{1} << 20, kOfToken = 8;
  return std::max(kLeast, kOfToken * static_cast<size_t>(context));
}

std::unique_lock<std::mutex> TextGate::enter(size_t n_bytes, int64_t context, const std::string& field) {
  if (n_bytes > most_bytes(context)) {
    throw ApiError(
        413, format("%s: a text of %d bytes; at most %d are taken apart", field, n_bytes, most_bytes(context)), field);
  }
  return enter(n_bytes);
}

std::unique_lock<std::mutex> TextGate::enter(size_t n_bytes) {
  constexpr size_t kShort = 64 << 10;
  return n_bytes > kShort ? std::unique_lock(mutex_) : std::unique_lock<std::mutex>();
}

}  // namespace glimpse::serve
