// Types whose blocks hold no planes of codes (entries of codebooks, digits of base 3) on their way to a device: the
// reader's threads turn them into blocks that the packing kernels take, with the same weights to the last bit. So
// devices know no codebook, and ten types more are five formats more:
//
//   type       format   bits per weight: file  device
//   IQ1_S      IQ1_M                     1.56  2.56
//   IQ1_M      IQ1_M                     1.75  2.56
//   IQ2_XXS    IQ2_S                     2.06  3.31
//   IQ2_XS     IQ2_S                     2.31  3.31
//   IQ2_S      IQ2_S                     2.56  3.31
//   IQ3_XXS    IQ3_XXS                   3.06  4.25
//   IQ3_S      IQ3_S                     3.44  4.25
//   MXFP4      MXFP4                     4.25  4.25
//   TQ1_0      Q2_K                      1.69  2.63
//   TQ2_0      Q2_K                      2.06  2.63
//
// Int8 with block scales would hold them as exactly, in 8.5 bits, and bfloat16, with 8 bits of significand, holds no
// product of a code and a half. A codebook on the device would be gathered from shared memory, 4 bytes for 4 weights.
// Ternary weights are d * code - d, which Q2_K has; 2^(e - 128) of MXFP4 is no half, so it has a format of its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/weight_layout.h"

namespace glimpse::cuda {

/// The format in which a device keeps weights of `type`, a type that glimpse multiplies with.
constexpr Format device_format(DType type) {
  switch (type) {
#define GLIMPSE_CUDA_FORMAT(name, format)
#define GLIMPSE_CUDA_AS(type, format) \
  case DType::type:                   \
    return Format::format;
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_AS
#undef GLIMPSE_CUDA_FORMAT
    default:
      return type;
  }
}
/// Bytes of a row of n weights as the packing kernel of device_format(type) takes it.
uint64_t device_row_bytes(DType type, int64_t n);
/// Whether such a row is not what the file has.
bool has_device_blocks(DType type);
/// A row of n weights of the file's blocks as the packing kernel takes it. Precondition: has_device_blocks(type).
void to_device_blocks(DType type, const std::byte* row, int64_t n, std::byte* out);

}  // namespace glimpse::cuda
