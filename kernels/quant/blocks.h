// Byte layouts of the quantised block formats (little-endian, no padding, any alignment). Structs and constants only,
// no functions, so that files compiled for a particular ISA may include it.
// Source: ggml-common.h; each rule below was checked bit by bit against gguf-py's quants.py.
//
// In the comments e is the element's index inside the block, d and m are the halves named so, lo4 and hi4 the two
// nibbles of a byte. The 32-element types and IQ4_XS keep element j (0..15) of a group of 32 in the low nibble of byte
// j and element j + 16 in the high nibble ("split halves"), not neighbours.
#pragma once

#include <cstdint>

namespace glimpse {

inline constexpr int kBlock32 = 32;      // elements of a block of the simple types and IQ4_NL
inline constexpr int kSuperBlock = 256;  // elements of a block of the K types and IQ4_XS
inline constexpr int kKScaleBytes = 12;  // packed 6-bit scales of Q3_K, Q4_K and Q5_K

#pragma pack(push, 1)

/// y = d (q - 8)
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};

/// y = d q + m
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];
};

/// q = nibble | bit e of qh << 4; y = d (q - 16)
struct BlockQ5_0 {
  uint16_t d;
  uint32_t qh;
  uint8_t qs[16];
};

/// q as in Q5_0; y = d q + m
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint32_t qh;
  uint8_t qs[16];
};

/// y = d qs[e]
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};

/// 16 groups of 16. With n = e / 128, j = e % 128 / 32, l = e % 32, s = scales[e / 16]:
/// q = qs[32 n + l] >> 2 j & 3; y = d lo4(s) q - dmin hi4(s)
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;
};

/// 16 groups of 16 with signed scales. n, j, l as in Q2_K: q = (qs[32 n + l] >> 2 j & 3) - (bit 4 n + j of hmask[l] ?
/// 0 : 4) (a set bit means: no subtraction); y = d (scale_k - 32) q. The 6-bit scale_k, k = e / 16, has its low bits in
/// the low (k < 8) or high nibble of scales[k % 8] and its two high bits in scales[8 + k % 4] >> 2 (k / 4).
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[kKScaleBytes];
  uint16_t d;
};

/// 8 groups of 32. q = nibble e % 64 / 32 of qs[32 (e / 64) + e % 32]; y = d sc_k q - dmin mn_k, k = e / 32.
/// The 6-bit scales and mins: for k < 4 sc = S[k] & 63, mn = S[k + 4] & 63; otherwise
/// sc = lo4(S[k + 4]) | S[k - 4] >> 6 << 4, mn = hi4(S[k + 4]) | S[k] >> 6 << 4.
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[kKScaleBytes];
  uint8_t qs[128];
};

/// As Q4_K with a fifth bit: bit e / 32 of qh[e % 32].
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[kKScaleBytes];
  uint8_t qh[32];
  uint8_t qs[128];
};

/// 16 groups of 16. With n, j, l as in Q2_K: low bits = nibble j / 2 of ql[64 n + 32 (j % 2) + l], high bits =
/// qh[32 n + l] >> 2 j & 3; y = d scales[e / 16] ((low | high << 4) - 32)
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};

/// y = d kIq4Values[q]
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];
};

/// 8 groups of 32 with signed scales: ls = nibble k % 2 of scales_l[k / 2] | (scales_h >> 2 k & 3) << 4, k = e / 32;
/// y = d (ls - 32) kIq4Values[q], q from qs[16 k + e % 16].
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

#pragma pack(pop)

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_XS) == 136);

/// The 16 levels of IQ4_NL and IQ4_XS.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace glimpse
