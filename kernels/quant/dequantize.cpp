// Scalar dequantisation.
#include <cstring>

#include "engine/base/half.h"
#include "kernels/quant/block_codes.h"
#include "kernels/quant/float_rows.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

template <float convert(uint16_t)>
void widen(const std::byte* in, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, in + 2 * i, 2);
    out[i] = convert(bits);
  }
}

}  // namespace

bool is_weight_type(DType type) {
  const DTypeInfo* info = find_dtype(static_cast<uint32_t>(type));
  return info != nullptr && info->is_weight;
}

void dequantize_row(Isa isa, DType type, const std::byte* blocks, float* out, int64_t n) {
  if (type == DType::kF16 && isa.has(Isa::kAvx2)) return half_row_to_float_avx2(blocks, out, n);
  dequantize_row_ref(type, blocks, out, n);
}

void dequantize_row_ref(DType type, const std::byte* blocks, float* out, int64_t n) {
  if (type == DType::kF32) {
    std::memcpy(out, blocks, static_cast<size_t>(n) * sizeof(float));
  } else if (type == DType::kF16) {
    widen<half_to_float>(blocks, out, n);
  } else if (type == DType::kBF16) {
    widen<bf16_to_float>(blocks, out, n);
  } else if (is_weight_type(type)) {
    const DTypeInfo& info = dtype_info(type);
    BlockCodes codes;
    for (int64_t i = 0; i < n; i += info.block_length, blocks += info.block_bytes) {
      decode_block(type, reinterpret_cast<const uint8_t*>(blocks), codes);
      dequantize_codes(type, codes, static_cast<int>(info.block_length), out + i);
    }
  }
}

}  // namespace glimpse
