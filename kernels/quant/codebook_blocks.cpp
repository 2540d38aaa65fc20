// Layouts and element orders: ggml-common.h and ggml-quants.c; checked bit by bit against gguf-py's quants.py.
#include "kernels/quant/codebook_blocks.h"

#include <array>
#include <bit>
#include <cstring>

namespace glimpse {
namespace {

#include "kernels/quant/codebooks.inc"

/// The entries of a codebook, a byte per element: the n_entries numbers of the set, in rising order, each in base
/// n_levels, the lowest digit first.
template <class Word, size_t n_entries, unsigned n_levels, size_t n_words>
constexpr std::array<Word, n_entries> entries_of(const uint64_t (&set)[n_words]) {
  std::array<Word, n_entries> entries{};
  size_t n = 0;
  for (size_t w = 0; w < n_words; ++w) {
    for (uint64_t bits = set[w]; bits != 0; bits &= bits - 1) {
      auto rest = static_cast<unsigned>(64 * w) + static_cast<unsigned>(std::countr_zero(bits));
      for (size_t e = 0; e < sizeof(Word); ++e, rest /= n_levels) {
        entries[n] |= static_cast<Word>(static_cast<Word>(rest % n_levels) << (8 * e));
      }
      ++n;
    }
  }
  return entries;
}

constexpr auto kIq2Xxs = entries_of<uint64_t, 256, 3>(kIq2XxsSet);
constexpr auto kIq2Xs = entries_of<uint64_t, 512, 3>(kIq2XsSet);
constexpr auto kIq2S = entries_of<uint64_t, 1024, 3>(kIq2SSet);
constexpr auto kIq1 = entries_of<uint64_t, 2048, 3>(kIq1Set);
constexpr auto kIq3Xxs = entries_of<uint32_t, 256, 8>(kIq3XxsSet);
constexpr auto kIq3S = entries_of<uint32_t, 512, 8>(kIq3SSet);

uint32_t word16(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8;
}
uint32_t word32(const uint8_t* p) {
  return word16(p) | word16(p + 2) << 16;
}
uint8_t nibble(const uint8_t* p, int i) {
  return p[i / 2] >> (4 * (i % 2)) & 15;
}
/// Bit i to the lowest bit of byte i.
uint64_t spread(uint32_t bits) {
  const uint64_t apart = bits * 0x0101010101010101u & 0x8040201008040201u;
  return ((apart + 0x7f7f7f7f7f7f7f7fu) | apart) >> 7 & 0x0101010101010101u;
}
/// Eight signs from the seven that are stored: their number is even.
uint32_t even_signs(uint32_t stored) {
  return stored | static_cast<uint32_t>(std::popcount(stored) & 1) << 7;
}
/// Eight elements: levels below, signs at bit `at`.
void put8(uint64_t levels, uint32_t signs, int at, uint8_t* q) {
  const uint64_t codes = levels | spread(signs) << at;
  std::memcpy(q, &codes, sizeof codes);
}

// d; 8 times four indices and a word of four times 7 signs and a scale.
void decode_iq2_xxs(const uint8_t* b, BlockCodes& c) {
  for (int k = 0; k < 8; ++k) {
    const uint8_t* indices = b + 2 + 8 * k;
    const uint32_t signs = word32(indices + 4);
    c.scale[k] = static_cast<uint8_t>(signs >> 28);
    for (int l = 0; l < 4; ++l) {
      put8(kIq2Xxs[indices[l]], even_signs(signs >> (7 * l) & 127), 2, c.q + 32 * k + 8 * l);
    }
  }
}

// d; 32 words of 9 bits of an index and 7 signs; 16 scales.
void decode_iq2_xs(const uint8_t* b, BlockCodes& c) {
  for (int i = 0; i < 32; ++i) {
    const uint32_t word = word16(b + 2 + 2 * i);
    put8(kIq2Xs[word & 511], even_signs(word >> 9), 2, c.q + 8 * i);
  }
  for (int k = 0; k < 16; ++k) c.scale[k] = nibble(b + 66, k);
}

// d; 32 low bytes of indices; 32 bytes of signs; two high bits of each index; 16 scales.
void decode_iq2_s(const uint8_t* b, BlockCodes& c) {
  for (int i = 0; i < 32; ++i) {
    const uint32_t index = b[2 + i] | (b[66 + i / 4] >> (2 * (i % 4)) & 3u) << 8;
    put8(kIq2S[index], b[34 + i], 2, c.q + 8 * i);
  }
  for (int k = 0; k < 16; ++k) c.scale[k] = nibble(b + 74, k);
}

/// Two entries of four elements.
uint64_t pair_of(uint32_t first, uint32_t second) {
  return first | static_cast<uint64_t>(second) << 32;
}

// d; 64 indices; 8 words of four times 7 signs and a scale.
void decode_iq3_xxs(const uint8_t* b, BlockCodes& c) {
  for (int k = 0; k < 8; ++k) {
    const uint32_t signs = word32(b + 66 + 4 * k);
    c.scale[k] = static_cast<uint8_t>(signs >> 28);
    for (int l = 0; l < 4; ++l) {
      const uint8_t* index = b + 2 + 8 * k + 2 * l;
      put8(pair_of(kIq3Xxs[index[0]], kIq3Xxs[index[1]]), even_signs(signs >> (7 * l) & 127), 3, c.q + 32 * k + 8 * l);
    }
  }
}

// d; 64 low bytes of indices; their high bits; 32 bytes of signs; 8 scales.
void decode_iq3_s(const uint8_t* b, BlockCodes& c) {
  const auto entry = [b](int i) { return kIq3S[b[2 + i] | (b[66 + i / 8] >> (i % 8) & 1u) << 8]; };
  for (int i = 0; i < 32; ++i) put8(pair_of(entry(2 * i), entry(2 * i + 1)), b[74 + i], 3, c.q + 8 * i);
  for (int k = 0; k < 8; ++k) c.scale[k] = nibble(b + 106, k);
}

// d; 32 low bytes of indices; 8 words of four times three high bits, three bits of scale, and the sign of the eighth.
void decode_iq1_s(const uint8_t* b, BlockCodes& c) {
  for (int k = 0; k < 8; ++k) {
    const uint32_t word = word16(b + 34 + 2 * k);
    c.scale[k] = word >> 12 & 7;
    for (int l = 0; l < 4; ++l) {
      const uint32_t index = b[2 + 4 * k + l] | (word >> (3 * l) & 7u) << 8;
      put8(kIq1[index], word >> 15 != 0 ? 255u : 0u, 2, c.q + 32 * k + 8 * l);
    }
  }
}

// 32 low bytes of indices; 32 nibbles of three high bits and the sign of the eighth; 4 words of four times three bits
// of scale, and a nibble of d.
void decode_iq1_m(const uint8_t* b, BlockCodes& c) {
  for (int i = 0; i < 32; ++i) {
    const uint32_t high = nibble(b + 32, i);
    put8(kIq1[b[i] | (high & 7) << 8], (high & 8) != 0 ? 255u : 0u, 2, c.q + 8 * i);
  }
  for (int k = 0; k < 16; ++k) c.scale[k] = word16(b + 48 + 2 * (k / 4)) >> (3 * (k % 4)) & 7;
}

// Bytes hold five digits of base 3, as a fraction of 256 that is rounded up: the first digit is floor(3 byte / 256),
// and the byte times 3^n, cut to a byte, begins with digit n. Runs of 32 and 16 bytes of five digits, and 4 bytes of
// four.
void decode_tq1_0(const uint8_t* b, BlockCodes& c) {
  struct Run {
    int bytes_at, n_bytes, n_digits;
  };
  uint8_t* q = c.q;
  for (const Run& run : {Run{0, 32, 5}, Run{32, 16, 5}, Run{48, 4, 4}}) {
    uint8_t power = 1;
    for (int digit = 0; digit < run.n_digits; ++digit, power = static_cast<uint8_t>(3 * power)) {
      for (int i = 0; i < run.n_bytes; ++i) {
        const auto rest = static_cast<uint8_t>(b[run.bytes_at + i] * power);
        *q++ = static_cast<uint8_t>(rest * 3 >> 8);
      }
    }
  }
}

struct Decoder {
  DType type;
  void (*decode)(const uint8_t*, BlockCodes&);
};
constexpr Decoder kDecoders[] = {
    {DType::kIQ2_XXS, decode_iq2_xxs}, {DType::kIQ2_XS, decode_iq2_xs}, {DType::kIQ2_S, decode_iq2_s},
    {DType::kIQ3_XXS, decode_iq3_xxs}, {DType::kIQ3_S, decode_iq3_s},   {DType::kIQ1_S, decode_iq1_s},
    {DType::kIQ1_M, decode_iq1_m},     {DType::kTQ1_0, decode_tq1_0},
};

}  // namespace

void decode_codebook_block(DType type, const uint8_t* block, BlockCodes& codes) {
  for (const Decoder& decoder : kDecoders) {
    if (decoder.type == type) return decoder.decode(block, codes);
  }
}

}  // namespace glimpse
