// glimpse_read_shapes and glimpse_shapes_*: what an answer points at.
#include <memory>
#include <string>
#include <vector>

#include "engine/capi/handles.h"
#include "tokenizer/grounding.h"

using namespace glimpse;
using namespace glimpse::capi;

struct glimpse_shapes {
  Shapes read;
  std::string problem;
  struct Placed {
    int picture = 0;
    std::vector<ShapePoint> pixels;
  };
  std::vector<Placed> placed;  // one per shape
};

namespace {

// Points go out as pairs of doubles.
static_assert(sizeof(ShapePoint) == 2 * sizeof(double) && alignof(ShapePoint) == alignof(double));
const double* pairs(const std::vector<ShapePoint>& points) {
  return points.empty() ? nullptr : &points.front().x;
}

Result<std::vector<ShapePicture>> read_sizes(const glimpse_picture_size* pictures, size_t n) {
  std::vector<ShapePicture> sizes;
  if (pictures == nullptr) return sizes;
  for (size_t i = 0; i < n; ++i) {
    const glimpse_picture_size& p = pictures[i];
    if (p.original_width < 1 || p.original_height < 1 || p.resized_width < 1 || p.resized_height < 1) {
      return make_error(ErrorCode::kInvalidArgument, "picture %d of %d: a size of %d x %d, resized to %d x %d", i + 1,
                        n, p.original_width, p.original_height, p.resized_width, p.resized_height);
    }
    sizes.push_back({p.original_width, p.original_height, p.resized_width, p.resized_height});
  }
  return sizes;
}

ShapeUnit unit_of(const Model& model) {
  const bool pixels = model.has_vision() && model.vision().family() == VisionConfig::Family::kQwen25;
  return pixels ? ShapeUnit::kResizedPixels : ShapeUnit::kThousandths;
}

}  // namespace

extern "C" {

glimpse_status glimpse_read_shapes(const glimpse_model* model, const char* text, size_t n_bytes,
                                   const glimpse_picture_size* pictures, size_t n_pictures, glimpse_shapes** out) {
  return give_handle(out, [&](glimpse_shapes& handle) -> Status {
    GLIMPSE_TRY(require(model, "model"));
    if (n_bytes > 0) GLIMPSE_TRY(require(text, "text"));
    GLIMPSE_ASSIGN(const std::vector<ShapePicture> sizes, read_sizes(pictures, n_pictures));
    handle.read = read_shapes(std::string_view(n_bytes == 0 ? "" : text, n_bytes), unit_of(*model->model));
    handle.problem = describe_problem(handle.read);
    for (const Shape& shape : handle.read.shapes) {
      glimpse_shapes::Placed& placed = handle.placed.emplace_back();
      placed.picture = picture_of(shape, n_pictures);
      if (placed.picture > 0 && !sizes.empty()) {
        placed.pixels = pixels_of(shape, sizes[static_cast<size_t>(placed.picture) - 1]);
      }
    }
    return {};
  });
}

glimpse_status glimpse_shapes_get_info(const glimpse_shapes* shapes, glimpse_shapes_info* info) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(shapes, "shapes"));
    glimpse_shapes_info filled{};
    filled.n_shapes = shapes->read.shapes.size();
    filled.n_unreadable = shapes->read.n_unreadable;
    filled.cut = shapes->read.cut ? 1 : 0;
    filled.problem = shapes->problem.c_str();
    return write_info(filled, info);
  });
}

glimpse_status glimpse_shapes_get(const glimpse_shapes* shapes, size_t index, glimpse_shape* out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(shapes, "shapes"));
    GLIMPSE_TRY(check_info(out));
    const std::vector<Shape>& all = shapes->read.shapes;
    if (index >= all.size()) return make_error(ErrorCode::kNotFound, "shape %d: there are %d", index, all.size());
    const Shape& shape = all[index];
    glimpse_shape filled{};
    filled.kind = static_cast<int32_t>(shape.kind);
    filled.unit = static_cast<int32_t>(shape.unit);
    filled.picture = shapes->placed[index].picture;
    filled.n_points = shape.points.size();
    filled.said = pairs(shape.points);
    filled.pixels = pairs(shapes->placed[index].pixels);
    filled.label = shape.label.c_str();
    filled.n_label_bytes = shape.label.size();
    return write_info(filled, out);
  });
}

void glimpse_shapes_free(glimpse_shapes* shapes) {
  delete shapes;
}

}  // extern "C"
