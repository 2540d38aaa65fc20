// The content of messages: texts, pictures and videos, one after another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/preprocess/preprocess.h"
#include "tools/serve/generation.h"
#include "tools/serve/json_body.h"

namespace glimpse::serve {

/// Reads the parts of one request, whatever fields they are in, and counts them.
class ContentReader {
 public:
  /// family: of the model's vision encoder.
  ContentReader(const RequestPolicy& policy, VisionConfig::Family family, std::vector<std::string>& warnings)
      : policy_(policy), family_(family), warnings_(warnings) {}

  /// A string, or an array of parts. path: of the field. Throws ApiError, which names the part.
  std::vector<RequestPart> read(const Json& content, const std::string& path);
  /// A string that counts as a part.
  RequestPart read_text(const Json& text, const std::string& path);

  const std::vector<ImageSize>& pictures() const { return pictures_; }
  const std::vector<std::string>& picture_paths() const { return picture_paths_; }
  std::vector<std::string>& warnings() { return warnings_; }

 private:
  void count_part(const std::string& path);
  RequestPart read_part(const Json& json, const std::string& path);
  RequestPart read_media_part(Fields& part, const char* field);
  RequestPart take(const Json& url, const std::string& path, bool is_video, double fps);

  const RequestPolicy& policy_;
  const VisionConfig::Family family_;
  std::vector<std::string>& warnings_;
  std::vector<ImageSize> pictures_;         // sizes, upright, in the order of their parts
  std::vector<std::string> picture_paths_;  // of their fields
  int64_t n_parts_ = 0;
};

}  // namespace glimpse::serve
