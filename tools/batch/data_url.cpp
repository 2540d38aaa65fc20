#include "tools/batch/data_url.h"

#include <optional>

#include "tools/serve/base64.h"

namespace glimpse::batch {
bool is_data_url(std::string_view text) {
  return text.starts_with("data:");
}

Result<std::string> data_url_bytes(std::string_view url) {
  const size_t comma = url.find(',');
  if (!is_data_url(url) || comma == std::string_view::npos || !url.substr(0, comma).ends_with(";base64")) {
    return make_error(ErrorCode::kInvalidArgument, "a data: URL of a picture is data:image/...;base64,...");
  }
  size_t bad = 0;
  std::optional<std::string> bytes = serve::decode_base64(url.substr(comma + 1), &bad);
  if (!bytes)
    return make_error(ErrorCode::kInvalidArgument, "no base64 at character %d of a data: URL", comma + 1 + bad);
  return std::move(*bytes);
}

}  // namespace glimpse::batch
