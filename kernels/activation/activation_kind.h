// The activation functions by name. Read by device code: plain data only.
#pragma once

#include <cstdint>

namespace glimpse {

enum class Activation : int32_t { kNone, kQuickGelu, kGeluErf, kGeluTanh, kSilu };

}  // namespace glimpse
