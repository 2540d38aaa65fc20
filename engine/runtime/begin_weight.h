// What every backend's packing begins with.
#pragma once

#include <memory>

#include "engine/runtime/ops.h"
#include "kernels/quant/quant.h"

namespace glimpse {

/// A Weight of a backend with the source's sizes. Errors: kUnsupported for a type that glimpse cannot multiply with.
template <class Weight>
Result<std::shared_ptr<Weight>> begin_weight(const WeightSource& source) {
  if (!is_weight_type(source.type)) {
    return make_error(ErrorCode::kUnsupported, "%s has type %s, which glimpse cannot multiply", source.name,
                      dtype_name(source.type));
  }
  auto weight = std::make_shared<Weight>();
  weight->rows = source.rows;
  weight->cols = source.cols;
  weight->source_type = source.type;
  return weight;
}

}  // namespace glimpse
