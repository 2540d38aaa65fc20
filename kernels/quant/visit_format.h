// A quantised type known when the program runs, as a constant.
#pragma once

#include "engine/base/dtype.h"

namespace glimpse {

/// visit.operator()<type>(), for every type of block_formats.inc; of another it is kI8x32, the engine's own.
template <class Visit>
decltype(auto) visit_format(DType type, Visit visit) {
  switch (type) {
#define GLIMPSE_BLOCK_32(type, name) \
  case DType::type:                  \
    return visit.template operator()<DType::type>();
#define GLIMPSE_BLOCK_256 GLIMPSE_BLOCK_32
#include "kernels/quant/block_formats.inc"
    default:
      return visit.template operator()<DType::kI8x32>();
  }
}

}  // namespace glimpse
