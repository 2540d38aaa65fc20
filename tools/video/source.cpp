#include "tools/video/source.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

#include "engine/base/file.h"
#include "loaders/image/animation.h"
#include "tools/video/film.h"

namespace glimpse::video {
namespace {

namespace fs = std::filesystem;

class Pictures final : public Source {
 public:
  Pictures(std::vector<std::string> paths, double rate) : paths_(std::move(paths)) {
    n_frames_ = static_cast<int64_t>(paths_.size());
    fps_ = rate;
  }
  Status select(const std::vector<int64_t>& indices) override {
    indices_ = indices;
    return {};
  }
  Result<Frame> next() override {
    if (at_ >= indices_.size()) return make_error(ErrorCode::kInternal, "no frame is left");
    return Frame{paths_[static_cast<size_t>(indices_[at_++])], {}};
  }

 private:
  const std::vector<std::string> paths_;
  std::vector<int64_t> indices_;
  size_t at_ = 0;
};

class Animated final : public Source {
 public:
  Status open(const std::string& path, const Options& options) {
    GLIMPSE_ASSIGN(bytes_, read_file(path, options.limits.max_bytes));
    DecodeOptions decode;
    decode.limits = options.limits;
    auto opened = open_animation(bytes_, decode);
    if (!opened.ok()) return with_context(std::move(opened).error(), path);
    animation_ = std::move(opened).value();
    n_frames_ = animation_->info().n_frames;
    fps_ = options.rate > 0 ? options.rate : static_cast<double>(n_frames_) / animation_->info().seconds;
    return {};
  }
  Status select(const std::vector<int64_t>& indices) override {
    indices_ = indices;
    return {};
  }
  Result<Frame> next() override {
    if (at_ >= indices_.size()) return make_error(ErrorCode::kInternal, "no frame is left");
    while (n_read_ <= indices_[at_]) {
      GLIMPSE_TRY(animation_->next());
      ++n_read_;
    }
    ++at_;
    return Frame{"", animation_->canvas()};
  }

 private:
  std::vector<std::byte> bytes_;
  std::unique_ptr<Animation> animation_;
  std::vector<int64_t> indices_;
  size_t at_ = 0;
  int64_t n_read_ = 0;
};

bool is_animation(const std::string& path) {
  char head[12] = {};
  std::ifstream(path, std::ios::binary).read(head, sizeof head);
  const std::string_view text(head, sizeof head);
  return text.starts_with("GIF8") || (text.starts_with("RIFF") && text.substr(8) == "WEBP");
}

bool is_picture_name(const std::string& name) {
  constexpr std::string_view kEndings[] = {".jpg", ".jpeg", ".png",  ".webp", ".bmp",  ".ppm", ".pgm",
                                           ".gif", ".tif",  ".tiff", ".heic", ".heif", ".avif"};
  std::string lower = fs::path(name).extension().string();
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return std::find(std::begin(kEndings), std::end(kEndings), lower) != std::end(kEndings);
}

// Runs of digits by their value, everything else by its bytes.
bool natural_less(std::string_view a, std::string_view b) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto number = [&](std::string_view& text) {
    size_t n = 0;
    while (n < text.size() && is_digit(text[n])) ++n;
    std::string_view digits = text.substr(0, n);
    text.remove_prefix(n);
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return digits;
  };
  const std::string_view whole_a = a, whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (is_digit(a.front()) && is_digit(b.front())) {
      const std::string_view x = number(a), y = number(b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.empty() == b.empty() ? whole_a < whole_b : a.empty();
}

}  // namespace

Result<std::vector<std::string>> pictures_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.') && is_picture_name(name)) names.push_back(name);
  }
  if (error) return make_error(ErrorCode::kIo, "cannot read the folder %s: %s", folder, error.message());
  if (names.empty()) return make_error(ErrorCode::kInvalidArgument, "there is no picture in the folder %s", folder);
  std::sort(names.begin(), names.end(), natural_less);
  for (std::string& name : names) name = (fs::path(folder) / name).string();
  return names;
}

std::unique_ptr<Source> frames_of(std::vector<std::string> paths, const Options& options) {
  return std::make_unique<Pictures>(std::move(paths), options.rate);
}

Result<std::unique_ptr<Source>> open_source(const std::string& path, const Options& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return make_error(ErrorCode::kNotFound, "there is no file or folder %s", path);
  if (fs::is_directory(status)) {
    GLIMPSE_ASSIGN(std::vector<std::string> paths, pictures_in(path));
    return frames_of(std::move(paths), options);
  }
  if (!fs::is_regular_file(status)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is neither a file nor a folder of frames", path);
  }
  if (!is_animation(path)) return open_film(path, options);
  auto source = std::make_unique<Animated>();
  GLIMPSE_TRY(source->open(path, options));
  return std::unique_ptr<Source>(std::move(source));
}

}  // namespace glimpse::video
