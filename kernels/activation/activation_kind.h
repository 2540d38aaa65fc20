// The activation functions by name. Read by device code: plain data only.
#pragma once

#include <cstdint>

namespace glimpse {

enum class Activation : int32_t {
  kNone,
  kQuickGelu,  // x sigmoid(1.702 x)
  kGeluErf,    // x / 2 (1 + erf(x / sqrt(2)))
  kGeluTanh,   // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  kSilu,       // x / (1 + e^-x)
};

}  // namespace glimpse
