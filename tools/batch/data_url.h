// Pictures inside of texts: data:image/png;base64,iVBOR...
#pragma once

#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace glimpse::batch {

bool is_data_url(std::string_view text);
/// The bytes of one, of whatever type it says. Errors: kInvalidArgument.
Result<std::string> data_url_bytes(std::string_view url);
}  // namespace glimpse::batch
