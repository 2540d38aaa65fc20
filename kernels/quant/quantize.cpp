#include <cstring>

#include "engine/base/half.h"
#include "kernels/quant/quant.h"
#include "kernels/quant/quantize_rows.h"

namespace glimpse {
namespace {

template <uint16_t convert(float)>
void narrow(const float* x, std::byte* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = convert(x[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

}  // namespace

bool can_quantize(DType type) {
  switch (type) {
#define GLIMPSE_QUANTISER(type, function) case DType::type:
    GLIMPSE_QUANTISERS(GLIMPSE_QUANTISER)
#undef GLIMPSE_QUANTISER
    return true;
    default:
      return is_float_type(type);
  }
}

void quantize_row_ref(DType type, const float* x, std::byte* out, int64_t n, const float* importance) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      narrow<float_to_half>(x, out, n);
      return;
    case DType::kBF16:
      narrow<float_to_bf16>(x, out, n);
      return;
#define GLIMPSE_QUANTISER(type, function) \
  case DType::type:                       \
    return function(x, out, n, importance);
      GLIMPSE_QUANTISERS(GLIMPSE_QUANTISER)
#undef GLIMPSE_QUANTISER
    default:
      return;  // the caller has asked can_quantize
  }
}

}  // namespace glimpse
