// Films through the programs ffprobe and ffmpeg. Private to tools/video.
#pragma once

#include <memory>
#include <string>

#include "tools/video/source.h"

namespace glimpse::video {

/// Errors: kUnsupported (no ffmpeg), kIo (what it says of the file), kTooLarge, kCancelled.
Result<std::unique_ptr<Source>> open_film(const std::string& path, const Options& options);

}  // namespace glimpse::video
