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
    case DType::kQ4_0:
      quantize_row_q4_0(x, out, n, importance);
      return;
    case DType::kQ4_1:
      quantize_row_q4_1(x, out, n, importance);
      return;
    case DType::kQ5_0:
      quantize_row_q5_0(x, out, n, importance);
      return;
    case DType::kQ5_1:
      quantize_row_q5_1(x, out, n, importance);
      return;
    case DType::kQ8_0:
      quantize_row_q8_0(x, out, n);
      return;  // too fine to gain from importance
    case DType::kQ2_K:
      quantize_row_q2_k(x, out, n, importance);
      return;
    case DType::kQ3_K:
      quantize_row_q3_k(x, out, n, importance);
      return;
    case DType::kQ4_K:
      quantize_row_q4_k(x, out, n, importance);
      return;
    case DType::kQ5_K:
      quantize_row_q5_k(x, out, n, importance);
      return;
    case DType::kQ6_K:
      quantize_row_q6_k(x, out, n, importance);
      return;
    case DType::kIQ4_NL:
      quantize_row_iq4_nl(x, out, n, importance);
      return;
    case DType::kIQ4_XS:
      quantize_row_iq4_xs(x, out, n, importance);
      return;
    default:
      return;  // not a weight type: the caller has asked is_weight_type
  }
}

}  // namespace glimpse
