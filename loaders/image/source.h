// Picture files into memory. Private to loaders/image.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "loaders/image/image.h"

namespace glimpse {

/// All bytes of a file, a pipe or a socket; a pipe that does not begin like a picture is not read on.
/// Errors: kNotFound, kIo; kInvalidArgument for folders and devices; kTooLarge (limits.max_bytes, limits.max_memory);
/// kCancelled: options.progress is asked with each piece of a pipe, and when a signal interrupts the wait for one.
Result<std::vector<std::byte>> read_picture_file(const std::string& path, const DecodeOptions& options);

}  // namespace glimpse
