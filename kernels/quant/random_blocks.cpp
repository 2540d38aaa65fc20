#include "kernels/quant/random_blocks.h"

#include <cmath>
#include <random>

#include "kernels/quant/block_codes.h"

namespace glimpse {

void random_blocks(DType type, uint64_t seed, int64_t n, std::byte* out) {
  const BlockFormat format = block_format(type);
  std::mt19937_64 random(seed);
  BlockCodes codes;
  float values[kSuperBlock];
  auto* block = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += format.length(), block += format.bytes()) {
    for (int b = 0; b < format.bytes(); ++b) block[b] = static_cast<uint8_t>(random());
    set_block_scales(type, 1, 1, block);
    decode_block(type, block, codes);
    dequantize_codes(type, codes, format.length(), values);
    double squares = 0;
    for (int e = 0; e < format.length(); ++e) squares += static_cast<double>(values[e]) * values[e];
    const auto d = static_cast<float>(std::sqrt(format.length() / std::max(squares, 1e-6)));
    set_block_scales(type, d, d, block);
  }
}

}  // namespace glimpse
