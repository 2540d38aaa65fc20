// What the answer of `glimpse run` points at: as JSON, drawn on the pictures, as masks.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"

namespace glimpse::cli {

/// Where it goes.
struct ShapeFiles {
  std::vector<std::string> images;  // pictures that were asked about
  std::string boxes;                // PNG of the picture with marks; "": none. Of several "boxes-1.png", ...
  std::string masks;                // directory of a PNG a shape; "": none
  bool force = false;               // replace what is there
};

/// That nothing is in the way, said before the model is loaded and asked. Throws std::runtime_error.
void check_shape_files(const ShapeFiles& files);

/// pictures: embeddings of the pictures asked about.
std::vector<glimpse_picture_size> picture_sizes(const std::vector<api::Embedding>& pictures);
/// The shapes of an answer as the model said it, control tokens included.
api::Shapes shapes_of(const api::Model& model, const api::Answer& answer,
                      const std::vector<glimpse_picture_size>& pictures);
/// Pixels are those of the shape's picture, and left out where the answer does not say which that is.
nlohmann::json shapes_json(const api::Shapes& shapes, const std::vector<glimpse_picture_size>& pictures,
                           const ShapeFiles& files);
/// Draws, writes masks, and tells on stderr. Throws std::runtime_error.
void write_shapes(const api::Shapes& shapes, const std::vector<glimpse_picture_size>& pictures,
                  const ShapeFiles& files);

}  // namespace glimpse::cli
