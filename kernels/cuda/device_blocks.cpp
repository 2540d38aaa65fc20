#include "kernels/cuda/device_blocks.h"

#include <algorithm>

#include "kernels/cuda/weight_pack.h"
#include "kernels/quant/block_codes.h"

namespace glimpse::cuda {
namespace {

void put_nibble(uint8_t* nibbles, int i, uint32_t value) {
  nibbles[i / 2] = static_cast<uint8_t>(nibbles[i / 2] | value << (4 * (i % 2)));
}

// As packed_block() says.
void put_codes(const BlockFormat& from, const BlockFormat& packed, const BlockCodes& codes, uint8_t* out) {
  std::fill_n(out, packed.bytes(), uint8_t{0});
  out[packed.d_at] = static_cast<uint8_t>(codes.d);
  out[packed.d_at + 1] = static_cast<uint8_t>(codes.d >> 8);
  uint8_t* const scales = out + packed.scales_at;
  for (int s = 0; s < packed.subs(); ++s) {
    const uint8_t scale = codes.scale[s * packed.sub / from.sub];
    if (packed.shared == 0) {
      put_nibble(scales, s, scale);
    } else {
      const int first = codes.q[s * packed.sub] >> 2, second = codes.q[s * packed.sub + packed.shared] >> 2;
      scales[s] = static_cast<uint8_t>(scale | first << 3 | second << 4);
    }
  }
  // A run of 256 elements: the low nibbles are the first 128.
  for (int i = 0; i < packed.length(); ++i) {
    uint8_t& byte = out[packed.low.at + i % 128];
    byte = static_cast<uint8_t>(byte | codes.q[i] << (i / 128 * 4));
  }
}

// d * code - d: scales and mins of 1, dmin as d.
void put_ternary(Format format, BlockCodes& codes, uint8_t* out) {
  codes.m = codes.d;
  std::fill_n(codes.scale, 16, uint8_t{1});
  std::fill_n(codes.min, 16, uint8_t{1});
  encode_block(format, codes, out);
}

}  // namespace

bool has_device_blocks(DType type) {
  return device_format(type) != type || block_format(type).codebook;
}

uint64_t device_row_bytes(DType type, int64_t n) {
  const BlockFormat packed = packed_block(device_format(type));
  return static_cast<uint64_t>(n / packed.length() * packed.bytes());
}

void to_device_blocks(DType type, const std::byte* row, int64_t n, std::byte* out) {
  const BlockFormat from = block_format(type), packed = packed_block(device_format(type));
  const bool ternary = !from.table;
  const auto* block = reinterpret_cast<const uint8_t*>(row);
  auto* to = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += from.length(), block += from.bytes(), to += packed.bytes()) {
    BlockCodes codes;
    decode_block(type, block, codes);
    if (ternary) {
      put_ternary(packed.info.type, codes, to);
    } else {
      put_codes(from, packed, codes, to);
    }
  }
}

}  // namespace glimpse::cuda
