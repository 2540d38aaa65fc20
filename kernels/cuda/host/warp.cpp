#include "kernels/cuda/host/warp.h"

#include <cstring>

namespace glimpse::cuda::host {

void shuffle_values(Warp& warp, uint32_t generation) {
  uint32_t values[kWarpSize];
  for (int i = 0; i < kWarpSize; ++i) values[i] = operand<ShuffleOperand>(warp, generation, i).value;
  for (int i = 0; i < kWarpSize; ++i) {
    ShuffleOperand& to = operand<ShuffleOperand>(warp, generation, i);
    to.value = values[to.from % kWarpSize];
  }
}

void collect_votes(Warp& warp, uint32_t generation) {
  uint32_t bits = 0;
  for (int i = 0; i < kWarpSize; ++i) bits |= operand<ShuffleOperand>(warp, generation, i).value << i;
  for (int i = 0; i < kWarpSize; ++i) operand<ShuffleOperand>(warp, generation, i).value = bits;
}

void multiply_fragments(Warp& warp, uint32_t generation, float (*value)(uint32_t bits)) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaOperand& in = operand<MmaOperand>(warp, generation, lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int row = g + 8 * (i % 2), column = 2 * t + 8 * (i / 2);
      a[row][column] = value(in.a[i] & 0xffffu);
      a[row][column + 1] = value(in.a[i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = value(in.b[i] & 0xffffu);
      b[2 * t + 8 * i + 1][g] = value(in.b[i] >> 16);
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    MmaOperand& out = operand<MmaOperand>(warp, generation, lane);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = out.c[i];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      out.c[i] = static_cast<float>(sum);
    }
  }
}

void gather_matrices(Warp& warp, uint32_t generation, bool transposed) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    std::memcpy(elements[lane / 8][lane % 8], operand<MatricesOperand>(warp, generation, lane).row, 16);
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    MatricesOperand& to = operand<MatricesOperand>(warp, generation, lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const uint16_t low = transposed ? elements[i][2 * t][g] : elements[i][g][2 * t];
      const uint16_t high = transposed ? elements[i][2 * t + 1][g] : elements[i][g][2 * t + 1];
      to.out[i] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

}  // namespace glimpse::cuda::host
