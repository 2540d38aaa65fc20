// Random weights in every GGUF format and an element-by-element reading of them, straight from the tables of the format
// description (llama.cpp ggml-common.h), independent of the code under test.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/base/dtype.h"
#include "engine/base/half.h"
#include "kernels/matmul/panel.h"

namespace glimpse::test {

inline const std::vector<PanelFormat>& all_panel_formats() {
  using P = PanelFormat;
  static const std::vector<P> formats = {P::kF32,  P::kF16,    P::kBF16,   P::kQ4_0,  P::kQ4_1, P::kQ5_0,
                                         P::kQ5_1, P::kQ8_0,   P::kQ2_K,   P::kQ3_K,  P::kQ4_K, P::kQ5_K,
                                         P::kQ6_K, P::kIQ4_NL, P::kIQ4_XS, P::kI8x128};
  return formats;
}
inline bool is_float(PanelFormat f) {
  return panel_row_format(f).block_length == 1;
}
inline std::string name_of(PanelFormat f) {
  return panel_row_format(f).name;
}

/// Byte offsets of the f16 scales of a block: d, and dmin or m (-1: none).
struct ScaleFields {
  int d, m;
};
inline ScaleFields scale_fields(PanelFormat f) {
  switch (f) {
    case PanelFormat::kQ4_1:
    case PanelFormat::kQ5_1:
    case PanelFormat::kQ4_K:
    case PanelFormat::kQ5_K:
      return {0, 2};
    case PanelFormat::kQ2_K:
      return {80, 82};
    case PanelFormat::kQ3_K:
      return {108, -1};
    case PanelFormat::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

/// What the bytes of a random matrix look like.
enum class Fill {
  kGaussian,     // codes uniform, scales around 1/64, floats gaussian
  kPowersOfTwo,  // scales are powers of two, floats small integers: sums are exact
  kExtreme,      // every code bit set or clear, the largest and the most negative values, negative scales
};

/// rows x cols weights as GGUF rows, densely.
inline std::vector<std::byte> random_rows(PanelFormat f, int64_t rows, int64_t cols, Fill fill, uint32_t seed) {
  const PanelRowFormat info = panel_row_format(f);
  std::vector<std::byte> bytes(static_cast<uint64_t>(rows) * panel_row_bytes(f, cols));
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  if (is_float(f)) {
    for (uint64_t i = 0; i < bytes.size() / info.block_bytes; ++i) {
      float v = gauss(random);
      if (fill == Fill::kPowersOfTwo) v = static_cast<float>(static_cast<int>(random() % 31) - 15);
      if (fill == Fill::kExtreme) v = (random() % 2 != 0 ? 1.0f : -1.0f) * (random() % 2 != 0 ? 60000.0f : 1e-4f);
      const uint16_t half = f == PanelFormat::kF16 ? float_to_half(v) : float_to_bf16(v);
      if (f == PanelFormat::kF32) {
        std::memcpy(bytes.data() + 4 * i, &v, 4);
      } else {
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    }
    return bytes;
  }
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  const ScaleFields fields = scale_fields(f);
  for (uint64_t at = 0; at < bytes.size(); at += info.block_bytes) {
    std::byte* block = bytes.data() + at;
    if (fill == Fill::kExtreme) {
      const int kind = static_cast<int>(random() % 3);
      const int values[3] = {0xff, 0x00, 0x80};
      std::memset(block, values[kind], info.block_bytes);
    }
    const auto scale = [&](bool may_be_negative) {
      float v = std::abs(gauss(random)) / 64 + 1e-3f;
      if (fill == Fill::kPowersOfTwo) v = random() % 2 != 0 ? 1.0f : 2.0f;
      if (fill == Fill::kExtreme) v = random() % 2 != 0 ? 1.0f / 16 : 0x1p-24f;
      return float_to_half(may_be_negative && random() % 2 != 0 ? -v : v);
    };
    if (f == PanelFormat::kI8x128) {
      const float d = half_to_float(scale(fill == Fill::kExtreme));
      std::memcpy(block, &d, 4);
      continue;
    }
    const uint16_t d = scale(fill != Fill::kGaussian || random() % 4 == 0);
    const uint16_t m = scale(fill == Fill::kExtreme);
    std::memcpy(block + fields.d, &d, 2);
    if (fields.m >= 0) std::memcpy(block + fields.m, &m, 2);
  }
  return bytes;
}

/// Element e of one GGUF block, in float arithmetic as gguf-py does it: (d * scale) * code - dmin * min.
inline float gguf_element(PanelFormat f, const std::byte* block, int e) {
  static const int table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const auto at = [&](int i) { return std::to_integer<int>(block[i]); };
  const auto u16 = [&](int i) { return static_cast<uint16_t>(at(i) | at(i + 1) << 8); };
  const auto f16 = [&](int i) { return half_to_float(u16(i)); };
  const auto f32 = [](int v) { return static_cast<float>(v); };
  const auto nibble32 = [&](int qs) { return (at(qs + e % 16) >> (4 * (e / 16))) & 15; };
  const auto fifth = [&](int qh) { return (at(qh + e / 8) >> (e % 8)) & 1; };
  const int n = e / 128, r = e % 128, j = r / 32, l = r % 32;
  switch (f) {
    case PanelFormat::kF32: {
      float v;
      std::memcpy(&v, block, 4);
      return v;
    }
    case PanelFormat::kF16:
      return f16(0);
    case PanelFormat::kBF16:
      return bf16_to_float(u16(0));
    case PanelFormat::kQ4_0:
      return f16(0) * f32(nibble32(2) - 8);
    case PanelFormat::kQ4_1:
      return f16(0) * f32(nibble32(4)) + f16(2);
    case PanelFormat::kQ5_0:
      return f16(0) * f32((nibble32(6) | fifth(2) << 4) - 16);
    case PanelFormat::kQ5_1:
      return f16(0) * f32(nibble32(8) | fifth(4) << 4) + f16(2);
    case PanelFormat::kQ8_0:
      return f16(0) * f32(static_cast<int8_t>(at(2 + e)));
    case PanelFormat::kIQ4_NL:
      return f16(0) * f32(table[nibble32(2)]);
    case PanelFormat::kQ2_K: {
      const int s = at(e / 16), q = (at(16 + 32 * n + l) >> (2 * j)) & 3;
      return f16(80) * f32(s & 15) * f32(q) - f16(82) * f32(s >> 4);
    }
    case PanelFormat::kQ3_K: {
      const int k = e / 16, h = (at(l) >> (4 * n + j)) & 1;
      const int q = ((at(32 + 32 * n + l) >> (2 * j)) & 3) - (h != 0 ? 0 : 4);
      const int low = k < 8 ? at(96 + k) & 15 : at(96 + k - 8) >> 4;
      const int scale = (low | ((at(96 + 8 + k % 4) >> (2 * (k / 4))) & 3) << 4) - 32;
      return f16(108) * f32(scale) * f32(q);
    }
    case PanelFormat::kQ4_K:
    case PanelFormat::kQ5_K: {
      const int k = e / 32, s = 4;
      const int sc = k < 4 ? at(s + k) & 63 : (at(s + k + 4) & 15) | (at(s + k - 4) >> 6) << 4;
      const int mn = k < 4 ? at(s + k + 4) & 63 : (at(s + k + 4) >> 4) | (at(s + k) >> 6) << 4;
      const int qs = f == PanelFormat::kQ4_K ? 16 : 48;
      int q = (at(qs + 32 * (e / 64) + e % 32) >> (4 * (e % 64 / 32))) & 15;
      if (f == PanelFormat::kQ5_K) q |= ((at(16 + e % 32) >> (e / 32)) & 1) << 4;
      return f16(0) * f32(sc) * f32(q) - f16(2) * f32(mn);
    }
    case PanelFormat::kQ6_K: {
      const int low = (at(64 * n + 32 * (j & 1) + l) >> (4 * (j >> 1))) & 15;
      const int high = (at(128 + 32 * n + l) >> (2 * j)) & 3;
      return f16(208) * f32(static_cast<int8_t>(at(192 + e / 16))) * f32((low | high << 4) - 32);
    }
    case PanelFormat::kIQ4_XS: {
      const int k = e / 32, i = e % 32;
      const int ls = ((at(4 + k / 2) >> (4 * (k % 2))) & 15) | ((u16(2) >> (2 * k)) & 3) << 4;
      return f16(0) * f32(ls - 32) * f32(table[(at(8 + 16 * k + i % 16) >> (4 * (i / 16))) & 15]);
    }
    case PanelFormat::kI8x128: {
      float d;
      std::memcpy(&d, block, 4);
      return d * f32(static_cast<int8_t>(at(4 + e)));
    }
  }
  return 0;
}

/// All elements of one GGUF row.
inline std::vector<float> dequantize(PanelFormat f, const std::byte* row, int64_t cols) {
  const PanelRowFormat info = panel_row_format(f);
  std::vector<float> out(static_cast<uint64_t>(cols));
  for (int64_t i = 0; i < cols; ++i) {
    out[i] = gguf_element(f, row + i / info.block_length * static_cast<int64_t>(info.block_bytes),
                          static_cast<int>(i % info.block_length));
  }
  return out;
}

inline AlignedBuffer allocate(uint64_t n_bytes) {
  auto buffer = AlignedBuffer::allocate(n_bytes == 0 ? 64 : n_bytes, "test");
  return std::move(buffer).value();
}

/// Rows packed into panels, with the GGUF bytes they came from.
struct PackedMatrix {
  PanelMatrix matrix;
  AlignedBuffer storage;
  std::vector<std::byte> rows;
  uint64_t row_bytes = 0;
};

inline PackedMatrix pack_matrix(PanelFormat f, int64_t rows, int64_t cols, Fill fill, uint32_t seed) {
  PackedMatrix p;
  p.rows = random_rows(f, rows, cols, fill, seed);
  p.row_bytes = panel_row_bytes(f, cols);
  p.matrix.format = f;
  p.matrix.rows = rows;
  p.matrix.cols = cols;
  p.matrix.panel_bytes = panel_bytes(f, cols);
  p.storage = allocate(static_cast<uint64_t>(p.matrix.n_panels()) * p.matrix.panel_bytes);
  for (int64_t i = 0; i < p.matrix.n_panels(); ++i) {
    const int64_t n_rows = std::min<int64_t>(kPanelRows, rows - i * kPanelRows);
    pack_panel(f, p.rows.data() + static_cast<uint64_t>(i * kPanelRows) * p.row_bytes, p.row_bytes, n_rows, cols,
               p.storage.data() + static_cast<uint64_t>(i) * p.matrix.panel_bytes);
  }
  p.matrix.data = p.storage.data();
  return p;
}

}  // namespace glimpse::test
