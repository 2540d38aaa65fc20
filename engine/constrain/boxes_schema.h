// The ready schema for boxes: what Qwen2.5-VL and Qwen3-VL write when they are asked where things are.
#pragma once

#include <string_view>

namespace glimpse::constrain {

/// Instead of a schema: boxes.
inline constexpr std::string_view kBoxesSchemaName = "boxes";

/// A list of boxes with their labels: corners x1, y1, x2, y2, in pixels of the resized picture (Qwen2.5-VL) or in
/// thousandths (Qwen3-VL). Source: the grounding cookbooks of Qwen2.5-VL and Qwen3-VL.
inline constexpr std::string_view kBoxesSchema = R"({
  "type": "array",
  "maxItems": 100,
  "items": {
    "type": "object",
    "properties": {
      "bbox_2d": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 9999},
        "minItems": 4,
        "maxItems": 4
      },
      "label": {"type": "string", "minLength": 1, "maxLength": 100}
    },
    "required": ["bbox_2d", "label"],
    "additionalProperties": false
  }
})";

}  // namespace glimpse::constrain
