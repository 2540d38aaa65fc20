// Block formats of quantised weights: scalar reference dequantisation, quantisation and validation for every
// weight type. Exact layouts: kernels/quant/blocks.h. Everything fast is tested against these functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/cpu_features.h"
#include "engine/base/dtype.h"

namespace glimpse {

/// True for the types that glimpse multiplies with: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K
/// IQ4_NL IQ4_XS.
bool is_weight_type(DType type);

/// blocks: n / block_length blocks of `type`, any alignment. out: n floats. n: a multiple of the block length.
/// Bit-exact to gguf-py's quants.py.
void dequantize_row_ref(DType type, const std::byte* blocks, float* out, int64_t n);
/// The same values, faster where there is a faster way (F16).
void dequantize_row(Isa isa, DType type, const std::byte* blocks, float* out, int64_t n);

/// The reference quantiser: byte for byte what llama.cpp's ggml_quantize_chunk writes for one row (IQ4_NL with its
/// scale search) wherever the scales are finite halves.
/// x: n finite elements, one matrix row; n: a multiple of the block length. importance: n finite weights >= 0, one per
/// column, or nullptr; Q8_0 and the unquantised types ignore it. out: dtype_row_bytes(type, n) bytes, any alignment.
/// Scales too large for a half become infinite, which find_non_finite_block finds; but NaN in x may pass unseen, and
/// above about 1e12 the searches overflow and may write zeros: check x first.
void quantize_row_ref(DType type, const float* x, std::byte* out, int64_t n, const float* importance);

/// Index of the first block with a NaN or infinite scale (or element, for F32, F16 and BF16), or -1 when all n
/// elements are finite.
int64_t find_non_finite_block(DType type, const std::byte* blocks, int64_t n);

}  // namespace glimpse
