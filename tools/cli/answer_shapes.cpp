#include "tools/cli/answer_shapes.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tools/boxes/boxes.h"
#include "tools/cli/terminal.h"

namespace glimpse::cli {
namespace {

namespace fs = std::filesystem;
using Sizes = std::vector<glimpse_picture_size>;

constexpr const char* kKinds[] = {"box", "point", "polygon"};

// Where the drawn pictures go: the file that --boxes names; of several pictures "boxes-1.png", "boxes-2.png".
std::vector<std::string> drawn_files(const ShapeFiles& files) {
  if (files.images.size() == 1) return {files.boxes};
  std::vector<std::string> drawn;
  const fs::path path(files.boxes);
  for (size_t i = 1; i <= files.images.size(); ++i) {
    const std::string name = path.stem().string() + "-" + std::to_string(i) + path.extension().string();
    drawn.push_back((path.parent_path() / name).string());
  }
  return drawn;
}

std::string mask_name(size_t picture, size_t shape) {
  return "mask-" + std::to_string(picture) + "-" + std::to_string(shape) + ".png";
}

bool is_on(const api::Shape& shape, size_t picture) {
  return shape.picture == 0 || static_cast<size_t>(shape.picture) == picture;
}

// A shape on picture `picture`, from 1, of which the answer names none where it could be on each.
boxes::Mark mark_on(const api::Shape& shape, const glimpse_picture_size& size) {
  boxes::Mark mark{static_cast<boxes::Kind>(shape.kind), shape.label, shape.pixels};
  if (!mark.pixels.empty()) return mark;
  const bool thousandths = shape.unit == GLIMPSE_UNIT_THOUSANDTHS;
  const double of[2] = {thousandths ? 1000.0 : size.resized_width, thousandths ? 1000.0 : size.resized_height};
  const double to[2] = {double(size.original_width), double(size.original_height)};
  for (size_t i = 0; i < shape.said.size(); ++i) {
    mark.pixels.push_back(std::min(shape.said[i] * to[i % 2] / of[i % 2], to[i % 2]));
  }
  return mark;
}

// Masks are numbered by their place among the shapes of a picture, as drawn labels without letters are.
template <typename Use>
void for_shapes_of(const api::Shapes& shapes, size_t picture, Use&& use) {
  size_t number = 0;
  for (const api::Shape& shape : shapes.shapes) {
    if (is_on(shape, picture)) use(shape, ++number);
  }
}

void draw_all(const api::Shapes& shapes, const Sizes& sizes, const ShapeFiles& files) {
  const std::vector<std::string> drawn = drawn_files(files);
  for (size_t i = 1; i <= drawn.size(); ++i) {
    std::vector<boxes::Mark> marks;
    for_shapes_of(shapes, i, [&](const api::Shape& shape, size_t) { marks.push_back(mark_on(shape, sizes[i - 1])); });
    const std::string problem = boxes::draw_marks(files.images[i - 1], marks, drawn[i - 1], files.force);
    if (!problem.empty()) throw std::runtime_error(problem);
    print_note("%zu %s drawn: %s", marks.size(), marks.size() == 1 ? "box" : "boxes", drawn[i - 1].c_str());
    for_shapes_of(shapes, i, [&](const api::Shape& shape, size_t number) {
      std::string points;
      for (size_t k = 0; k + 1 < shape.said.size(); k += 2) {
        char text[64];
        std::snprintf(text, sizeof text, "%s(%g,%g)", k == 0 ? "" : ",", shape.said[k], shape.said[k + 1]);
        points += text;
      }
      print_note("  %zu: %s %s%s", number, points.c_str(), shape.label.c_str(),
                 shape.picture == 0 ? "  (the answer names no picture: drawn on each)" : "");
    });
  }
}

void write_masks(const api::Shapes& shapes, const Sizes& sizes, const ShapeFiles& files) {
  std::error_code error;
  fs::create_directory(files.masks, error);
  if (error) throw std::runtime_error("cannot make the directory " + files.masks + ": " + error.message());
  size_t n_masks = 0, n_points = 0;
  for (size_t i = 1; i <= sizes.size(); ++i) {
    for_shapes_of(shapes, i, [&](const api::Shape& shape, size_t number) {
      if (shape.kind == GLIMPSE_SHAPE_POINT) {
        ++n_points;
        return;
      }
      const glimpse_picture_size& size = sizes[i - 1];
      const std::string path = (fs::path(files.masks) / mask_name(i, number)).string();
      const std::string problem =
          boxes::write_mask(mark_on(shape, size), size.original_width, size.original_height, path, files.force);
      if (!problem.empty()) throw std::runtime_error(problem);
      ++n_masks;
    });
  }
  print_note("%zu %s written: %s", n_masks, n_masks == 1 ? "mask" : "masks", files.masks.c_str());
  if (n_points > 0) print_note("  %zu %s no inside and no mask", n_points, n_points == 1 ? "point has" : "points have");
}

}  // namespace

void check_shape_files(const ShapeFiles& files) {
  if (files.boxes.empty() && files.masks.empty()) return;
  const char* const option = files.boxes.empty() ? "--masks" : "--boxes";
  if (files.images.empty()) {
    throw std::runtime_error(std::string(option) + (files.boxes.empty() ? " needs an --image that masks can be of"
                                                                        : " needs an --image to draw on"));
  }
  std::error_code unknown;
  for (const std::string& place : {files.boxes, files.masks}) {
    const fs::path folder = fs::path(place).parent_path();
    if (!folder.empty() && !fs::is_directory(folder, unknown)) {
      throw std::runtime_error(place + ": there is no folder " + folder.string());
    }
  }
  for (const std::string& file : files.boxes.empty() ? std::vector<std::string>() : drawn_files(files)) {
    if (!files.force && fs::exists(fs::symlink_status(file, unknown))) {
      throw std::runtime_error(file + " exists already and is not overwritten (--force does)");
    }
  }
  if (files.masks.empty() || !fs::exists(fs::status(files.masks, unknown))) return;
  if (!fs::is_directory(files.masks, unknown)) throw std::runtime_error(files.masks + " is no directory");
  for (const auto& entry : fs::directory_iterator(files.masks, unknown)) {
    if (!files.force && entry.path().filename().string().rfind("mask-", 0) == 0) {
      throw std::runtime_error(entry.path().string() + " exists already and is not overwritten (--force does)");
    }
  }
}

std::vector<glimpse_picture_size> picture_sizes(const std::vector<api::Embedding>& pictures) {
  Sizes sizes;
  for (const api::Embedding& picture : pictures) {
    const glimpse_embedding_info info = picture.info();
    sizes.push_back({info.original_width, info.original_height, info.resized_width, info.resized_height});
  }
  return sizes;
}

api::Shapes shapes_of(const api::Model& model, const api::Answer& answer, const Sizes& pictures) {
  std::string said;
  for (const int32_t id : answer.tokens) said += model.token_bytes(id);
  return model.read_shapes(said, pictures);
}

nlohmann::json shapes_json(const api::Shapes& shapes, const Sizes& pictures, const ShapeFiles& files) {
  nlohmann::json list = nlohmann::json::array();
  for (const api::Shape& shape : shapes.shapes) {
    const char* const unit = shape.unit == GLIMPSE_UNIT_THOUSANDTHS ? "thousandths" : "resized_pixels";
    list.push_back({{"kind", kKinds[shape.kind]}, {"label", shape.label}, {unit, shape.said}, {"picture", nullptr}});
    if (shape.picture == 0) continue;
    list.back()["picture"] = shape.picture;
    list.back()["pixels"] = shape.pixels;
  }
  if (files.masks.empty()) return list;
  for (size_t i = 1; i <= pictures.size(); ++i) {
    size_t index = 0;
    size_t number = 0;
    for (const api::Shape& shape : shapes.shapes) {
      nlohmann::json& entry = list[index++];
      if (!is_on(shape, i)) continue;
      ++number;
      if (shape.kind != GLIMPSE_SHAPE_POINT) {
        entry["masks"].push_back((fs::path(files.masks) / mask_name(i, number)).string());
      }
    }
  }
  return list;
}

void write_shapes(const api::Shapes& shapes, const Sizes& pictures, const ShapeFiles& files) {
  if (!shapes.problem.empty()) print_note("boxes: %s", shapes.problem.c_str());
  if (!files.boxes.empty()) draw_all(shapes, pictures, files);
  if (!files.masks.empty()) write_masks(shapes, pictures, files);
}

}  // namespace glimpse::cli
