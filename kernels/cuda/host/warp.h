// Where the lanes of a warp meet: each brings an operand, the last one computes what each takes away. Private to the
// host executor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse::cuda::host {

constexpr int kWarpSize = 32;
constexpr size_t kOperandBytes = 48;

// Lanes meet here. Two sets of slots: a lane that runs ahead to the next meeting must not overwrite what a slower one
// has yet to read; it cannot run two ahead, for a meeting needs all lanes.
struct Warp {
  alignas(8) std::byte operands[2][kWarpSize][kOperandBytes];
  int arrived = 0;
  uint32_t generation = 0;
};

struct ShuffleOperand {
  uint32_t value;
  int from;
};
struct MmaOperand {
  uint32_t a[4], b[2];
  float c[4];
};
struct MatricesOperand {
  const void* row;
  uint32_t out[4];
};

template <typename T>
T& operand(Warp& warp, uint32_t generation, int lane) {
  static_assert(sizeof(T) <= kOperandBytes);
  return *reinterpret_cast<T*>(warp.operands[generation & 1][lane]);
}

// What the last lane does. Each lane's operand becomes its result.
/// Values from the lanes named.
void shuffle_values(Warp& warp, uint32_t generation);
/// Bit i of every value: lane i's.
void collect_votes(Warp& warp, uint32_t generation);
/// c += a b over k = 16, the sum in double, rounded once. value: of the 16 bits of an element.
void multiply_fragments(Warp& warp, uint32_t generation, float (*value)(uint32_t bits));
/// Four matrices of 8 x 8 elements of 16 bits from the rows named.
void gather_matrices(Warp& warp, uint32_t generation, bool transposed);

}  // namespace glimpse::cuda::host
