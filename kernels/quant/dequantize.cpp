// Scalar dequantisation. The order of the float operations is that of gguf-py's quants.py: the group's scale is
// multiplied out first, then the element, and nothing is fused, so the results are equal bit by bit.
#include <cstring>

#include "engine/base/half.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/float_rows.h"
#include "kernels/quant/k_scales.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

/// Nibble of element e (0..31) in 16 bytes of split halves.
int split_nibble(const uint8_t* qs, int e) {
  return qs[e % 16] >> (4 * (e / 16)) & 15;
}

void dequantize_block(const BlockQ4_0& block, float* out) {
  const float d = half_to_float(block.d);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(split_nibble(block.qs, e) - 8);
}

void dequantize_block(const BlockQ4_1& block, float* out) {
  const float d = half_to_float(block.d);
  const float m = half_to_float(block.m);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(split_nibble(block.qs, e)) + m;
}

/// Quant of element e, 0..31.
template <typename Block>
int five_bits(const Block& block, int e) {
  return split_nibble(block.qs, e) | static_cast<int>(block.qh >> e & 1) << 4;
}

void dequantize_block(const BlockQ5_0& block, float* out) {
  const float d = half_to_float(block.d);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(five_bits(block, e) - 16);
}

void dequantize_block(const BlockQ5_1& block, float* out) {
  const float d = half_to_float(block.d);
  const float m = half_to_float(block.m);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(five_bits(block, e)) + m;
}

void dequantize_block(const BlockQ8_0& block, float* out) {
  const float d = half_to_float(block.d);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(block.qs[e]);
}

/// The 2-bit field of element e that Q2_K and Q3_K share (qs of 64 bytes) and Q6_K uses for its high bits.
int two_bits(const uint8_t* qs, int e) {
  return qs[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32)) & 3;
}

void dequantize_block(const BlockQ2_K& block, float* out) {
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  for (int k = 0; k < 16; ++k) {
    const float scale = d * static_cast<float>(block.scales[k] & 15);
    const float min = dmin * static_cast<float>(block.scales[k] >> 4);
    for (int e = 16 * k; e < 16 * k + 16; ++e) out[e] = scale * static_cast<float>(two_bits(block.qs, e)) - min;
  }
}

void dequantize_block(const BlockQ3_K& block, float* out) {
  const float d = half_to_float(block.d);
  for (int k = 0; k < 16; ++k) {
    const float scale = d * static_cast<float>(unpack_scale_q3_k(block.scales, k) - 32);
    for (int e = 16 * k; e < 16 * k + 16; ++e) {
      const int high = block.hmask[e % 32] >> (e / 32) & 1;
      out[e] = scale * static_cast<float>(two_bits(block.qs, e) - (high != 0 ? 0 : 4));
    }
  }
}

/// Low nibble of element e of a Q4_K or Q5_K block.
int k_nibble(const uint8_t* qs, int e) {
  return qs[32 * (e / 64) + e % 32] >> (4 * (e % 64 / 32)) & 15;
}

void dequantize_block(const BlockQ4_K& block, float* out) {
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  for (int k = 0; k < 8; ++k) {
    const ScaleMin packed = unpack_scale_min(block.scales, k);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    for (int e = 32 * k; e < 32 * k + 32; ++e) out[e] = scale * static_cast<float>(k_nibble(block.qs, e)) - min;
  }
}

void dequantize_block(const BlockQ5_K& block, float* out) {
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  for (int k = 0; k < 8; ++k) {
    const ScaleMin packed = unpack_scale_min(block.scales, k);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    for (int e = 32 * k; e < 32 * k + 32; ++e) {
      const int q = k_nibble(block.qs, e) | (block.qh[e % 32] >> k & 1) << 4;
      out[e] = scale * static_cast<float>(q) - min;
    }
  }
}

void dequantize_block(const BlockQ6_K& block, float* out) {
  const float d = half_to_float(block.d);
  for (int k = 0; k < 16; ++k) {
    const float scale = d * static_cast<float>(block.scales[k]);
    for (int e = 16 * k; e < 16 * k + 16; ++e) {
      const int j = e % 128 / 32;
      const int low = block.ql[64 * (e / 128) + 32 * (j % 2) + e % 32] >> (4 * (j / 2)) & 15;
      out[e] = scale * static_cast<float>((low | two_bits(block.qh, e) << 4) - 32);
    }
  }
}

void dequantize_block(const BlockIQ4_NL& block, float* out) {
  const float d = half_to_float(block.d);
  for (int e = 0; e < kBlock32; ++e) out[e] = d * static_cast<float>(kIq4Values[split_nibble(block.qs, e)]);
}

void dequantize_block(const BlockIQ4_XS& block, float* out) {
  const float d = half_to_float(block.d);
  for (int k = 0; k < 8; ++k) {
    const float scale = d * static_cast<float>(unpack_scale_iq4_xs(block, k) - 32);
    for (int e = 0; e < 32; ++e) {
      out[32 * k + e] = scale * static_cast<float>(kIq4Values[split_nibble(block.qs + 16 * k, e)]);
    }
  }
}

template <typename Block>
void dequantize_blocks(const std::byte* blocks, float* out, int64_t n, int64_t block_length) {
  for (int64_t i = 0; i < n; i += block_length, blocks += sizeof(Block)) {
    Block block;
    std::memcpy(&block, blocks, sizeof(Block));
    dequantize_block(block, out + i);
  }
}

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
  if (type == DType::kF16 && isa >= Isa::kAvx2) return half_row_to_float_avx2(blocks, out, n);
  dequantize_row_ref(type, blocks, out, n);
}

void dequantize_row_ref(DType type, const std::byte* blocks, float* out, int64_t n) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, blocks, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      widen<half_to_float>(blocks, out, n);
      return;
    case DType::kBF16:
      widen<bf16_to_float>(blocks, out, n);
      return;
    case DType::kQ4_0:
      dequantize_blocks<BlockQ4_0>(blocks, out, n, kBlock32);
      return;
    case DType::kQ4_1:
      dequantize_blocks<BlockQ4_1>(blocks, out, n, kBlock32);
      return;
    case DType::kQ5_0:
      dequantize_blocks<BlockQ5_0>(blocks, out, n, kBlock32);
      return;
    case DType::kQ5_1:
      dequantize_blocks<BlockQ5_1>(blocks, out, n, kBlock32);
      return;
    case DType::kQ8_0:
      dequantize_blocks<BlockQ8_0>(blocks, out, n, kBlock32);
      return;
    case DType::kIQ4_NL:
      dequantize_blocks<BlockIQ4_NL>(blocks, out, n, kBlock32);
      return;
    case DType::kQ2_K:
      dequantize_blocks<BlockQ2_K>(blocks, out, n, kSuperBlock);
      return;
    case DType::kQ3_K:
      dequantize_blocks<BlockQ3_K>(blocks, out, n, kSuperBlock);
      return;
    case DType::kQ4_K:
      dequantize_blocks<BlockQ4_K>(blocks, out, n, kSuperBlock);
      return;
    case DType::kQ5_K:
      dequantize_blocks<BlockQ5_K>(blocks, out, n, kSuperBlock);
      return;
    case DType::kQ6_K:
      dequantize_blocks<BlockQ6_K>(blocks, out, n, kSuperBlock);
      return;
    case DType::kIQ4_XS:
      dequantize_blocks<BlockIQ4_XS>(blocks, out, n, kSuperBlock);
      return;
    default:
      return;  // not a weight type: the caller has asked is_weight_type
  }
}

}  // namespace glimpse
