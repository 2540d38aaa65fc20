// A picture from a file to the vision encoder's input, as a session does it.
#pragma once

#include <cstdint>
#include <string>

#include "engine/model/config.h"
#include "engine/preprocess/preprocess.h"

namespace glimpse::eval {

/// Bounds on a picture's tokens; 0: those of a session.
struct PictureLimits {
  int64_t min_tokens = 0, max_tokens = 0;
};

struct Picture {
  Patches patches;
  std::string digest;  // hexadecimal FNV-1a of size and pixels, before the resize
};

/// Errors: those of load_image(), effective_limits() and smart_resize().
Result<Picture> read_picture(const std::string& path, const VisionConfig& vision, const PictureLimits& limits);

}  // namespace glimpse::eval
