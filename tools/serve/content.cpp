#include "tools/serve/content.h"

namespace glimpse::serve {

void ContentReader::count_part(const std::string& path) {
  if (++n_parts_ > policy_.max_parts) {
    refuse_field(path, format("one request may have at most %d parts", policy_.max_parts));
  }
}

RequestPart ContentReader::take(const Json& url, const std::string& path, bool is_video, double fps) {
  if (!url.is_string()) refuse_field(path, "want a string");
  const std::string& text = url.get_ref<const std::string&>();
  const MediaPicture picture =
      is_video ? read_video(text, policy_.media, fps, family_, path) : read_picture(text, policy_.media, path);
  pictures_.push_back({picture.width, picture.height});
  picture_paths_.push_back(path);
  return {"", picture.image};
}

// "image_url" or "video_url": a string, as some clients send it, or an object with "url".
RequestPart ContentReader::read_media_part(Fields& part, const char* field) {
  const Json& given = part.need(field);
  std::string path = part.path(field);
  if (picture_paths_.size() == policy_.media.max_pictures) {
    refuse_field(path, format("one request may have at most %d pictures", policy_.media.max_pictures));
  }
  const bool is_video = std::string_view(field) == "video_url";
  double fps = is_video ? part.number("fps", 1e-3, 1e3, 0) : 0;
  if (given.is_string()) return take(given, path, is_video, fps);
  Fields fields(given, path);
  const Json& url = fields.need("url");
  path = fields.path("url");
  if (is_video) fps = fields.number("fps", 1e-3, 1e3, fps);
  if (!is_video && fields.text("detail", "auto") != "auto") {
    warnings_.push_back(format("%s has no effect: the server bounds the size of all pictures", fields.path("detail")));
  }
  fields.report_unknown(warnings_);
  return take(url, path, is_video, fps);
}

RequestPart ContentReader::read_part(const Json& json, const std::string& path) {
  count_part(path);
  Fields part(json, path);
  const std::string type = part.need_text("type");
  RequestPart result;
  if (type == "text" || type == "input_text" || type == "output_text") {
    result.text = part.need_text("text");
  } else if (type == "refusal") {
    result.text = part.need_text("refusal");
  } else if (type == "image_url") {
    result = read_media_part(part, "image_url");
  } else if (type == "video_url" || type == "video") {  // "video": with a video_url all the same
    result = read_media_part(part, "video_url");
  } else {
    refuse_field(part.path("type"),
                 format("\"%s\" is not supported: want text, image_url or video_url", type.substr(0, 64)));
  }
  part.ignore({"cache_control", "annotations"});
  part.report_unknown(warnings_);
  return result;
}

RequestPart ContentReader::read_text(const Json& text, const std::string& path) {
  if (!text.is_string()) refuse_field(path, "want a string");
  count_part(path);
  return {text.get<std::string>(), nullptr};
}

std::vector<RequestPart> ContentReader::read(const Json& content, const std::string& path) {
  if (content.is_string()) return {read_text(content, path)};
  if (!content.is_array()) refuse_field(path, "want a string or an array of parts");
  std::vector<RequestPart> parts;
  for (size_t i = 0; i < content.size(); ++i) parts.push_back(read_part(content[i], format("%s[%d]", path, i)));
  return parts;
}

}  // namespace glimpse::serve
