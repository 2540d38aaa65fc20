// The packed 6-bit scales of Q3_K, Q4_K, Q5_K and IQ4_XS, one at a time.
#pragma once

#include <cstdint>

#include "kernels/quant/blocks.h"

namespace glimpse {

/// Scale and min of group k (0..7) of a Q4_K or Q5_K block, each 0..63.
struct ScaleMin {
  int scale;
  int min;
};

inline ScaleMin unpack_scale_min(const uint8_t* scales, int k) {
  if (k < 4) return {scales[k] & 63, scales[k + 4] & 63};
  return {(scales[k + 4] & 15) | (scales[k - 4] >> 6 << 4), (scales[k + 4] >> 4) | (scales[k] >> 6 << 4)};
}

/// Writes group k; `scales` must be zero before the first group and groups may come in any order.
inline void pack_scale_min(ScaleMin value, int k, uint8_t* scales) {
  const auto put = [scales](int i, int bits) { scales[i] = static_cast<uint8_t>(scales[i] | bits); };
  if (k < 4) {
    put(k, value.scale);
    put(k + 4, value.min);
    return;
  }
  put(k + 4, (value.scale & 15) | (value.min & 15) << 4);
  put(k - 4, value.scale >> 4 << 6);
  put(k, value.min >> 4 << 6);
}

/// Scale of group k (0..15) of a Q3_K block, 0..63; 32 stands for zero.
inline int unpack_scale_q3_k(const uint8_t* scales, int k) {
  const int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4;
  const int high = scales[8 + k % 4] >> (2 * (k / 4)) & 3;
  return low | high << 4;
}

/// As pack_scale_min.
inline void pack_scale_q3_k(int value, int k, uint8_t* scales) {
  const auto put = [scales](int i, int bits) { scales[i] = static_cast<uint8_t>(scales[i] | bits); };
  put(k % 8, (value & 15) << (4 * (k / 8)));
  put(8 + k % 4, value >> 4 << (2 * (k / 4)));
}

/// Scale of group k (0..7) of an IQ4_XS block, 0..63; 32 stands for zero.
inline int unpack_scale_iq4_xs(const BlockIQ4_XS& block, int k) {
  const int low = block.scales_l[k / 2] >> (4 * (k % 2)) & 15;
  const int high = block.scales_h >> (2 * k) & 3;
  return low | high << 4;
}

/// As pack_scale_min.
inline void pack_scale_iq4_xs(int value, int k, BlockIQ4_XS& block) {
  block.scales_l[k / 2] = static_cast<uint8_t>(block.scales_l[k / 2] | (value & 15) << (4 * (k % 2)));
  block.scales_h = static_cast<uint16_t>(block.scales_h | value >> 4 << (2 * k));
}

}  // namespace glimpse
