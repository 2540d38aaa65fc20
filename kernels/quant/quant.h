// Rows of weights: scalar reference dequantisation and quantisation for every weight type. The layouts of their blocks:
// engine/base/block_format.h. Everything fast is tested against these functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/cpu_features.h"
#include "engine/base/dtype.h"
#include "engine/base/finite_blocks.h"

namespace glimpse {

/// True for the types that glimpse multiplies with: floats and the types of block_formats.inc.
bool is_weight_type(DType type);

/// blocks: n / block_length blocks of `type`, any alignment. out: n floats. n: a multiple of the block length.
/// Bit-exact to gguf-py's quants.py.
void dequantize_row_ref(DType type, const std::byte* blocks, float* out, int64_t n);
/// The same values, faster where there is a faster way (F16).
void dequantize_row(Isa isa, DType type, const std::byte* blocks, float* out, int64_t n);

/// True for the types that quantize_row_ref can write: all weight types but those that need more than a row, which are
/// read only.
bool can_quantize(DType type);
/// The reference quantiser: byte for byte what llama.cpp's ggml_quantize_chunk writes for one row (IQ4_NL with its
/// scale search) wherever the scales are finite halves.
/// x: n finite elements, one matrix row; n: a multiple of the block length. importance: n finite weights >= 0, one per
/// column, or nullptr; Q8_0 and the unquantised types ignore it. out: dtype_row_bytes(type, n) bytes, any alignment.
/// Scales too large for a half become infinite, which find_non_finite_block finds; but NaN in x may pass unseen, and
/// above about 1e12 the searches overflow and may write zeros: check x first.
void quantize_row_ref(DType type, const float* x, std::byte* out, int64_t n, const float* importance);

}  // namespace glimpse
