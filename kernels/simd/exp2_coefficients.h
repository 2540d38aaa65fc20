// Constants of the polynomial exponentials, shared by every vector width.
#pragma once

namespace glimpse {
namespace {

// 2^f on [-0.5, 0.5] = 1 + f (c1 + f (c2 + ...)): minimax of the relative error under the constraint p(0) = 1, so that
// the largest softmax weight is exactly 1. Error of the polynomial 9.2e-8; with float arithmetic below 3e-7.
constexpr float kExp2C1 = 0x1.62e42ap-1f;
constexpr float kExp2C2 = 0x1.ebf9bcp-3f;
constexpr float kExp2C3 = 0x1.c6b752p-5f;
constexpr float kExp2C4 = 0x1.3cea88p-7f;
constexpr float kExp2C5 = 0x1.5bba14p-10f;

}  // namespace
}  // namespace glimpse
