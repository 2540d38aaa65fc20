// Where the pictures of requests come from: data: URLs, and files under one directory. Nothing is ever fetched.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/serve/engine.h"
#include "loaders/image/image.h"

namespace glimpse::serve {

struct MediaPolicy {
  std::string directory;  // of file:// URLs; "": there are none
  ImageLimits limits;
  size_t max_pictures = 64;  // of one request
};

struct MediaPicture {
  std::shared_ptr<const RequestImage> image;
  int64_t width = 0, height = 0;  // upright
};

/// The picture behind a URL, its header looked at. path: of the field, for the error. Throws ApiError 400: another kind
/// of URL, bad base64, no picture, a limit; 413 for more bytes than the limit.
MediaPicture read_picture(std::string_view url, const MediaPolicy& policy, const std::string& path);

/// The bytes of a file:// URL: a regular file below the directory, reached through no symbolic link and no "..".
/// "file:///cat.png", "file://cat.png" and, with its absolute path, "file:///media/cat.png" are the same file of
/// /media.
Result<std::string> read_media_file(std::string_view url, const std::string& directory, uint64_t max_bytes);

}  // namespace glimpse::serve
