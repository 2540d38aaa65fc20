// Random weights in every format, as rows and as panels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/base/block_format.h"
#include "engine/base/half.h"
#include "kernels/matmul/matmul.h"
#include "kernels/quant/block_codes.h"
#include "kernels/quant/quant.h"

namespace glimpse::test {

inline std::vector<PanelFormat> all_panel_formats() {
  std::vector<PanelFormat> formats;
  for (const BlockFormat& f : kBlockFormats) {
    if (f.info.is_weight || f.is_own()) formats.push_back(f.info.type);
  }
  return formats;
}
inline std::string name_of(PanelFormat f) {
  return panel_row_format(f).name;
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
  if (is_float_type(f)) {
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
      return may_be_negative && random() % 2 != 0 ? -v : v;
    };
    const float d = scale(fill != Fill::kGaussian || random() % 4 == 0), m = scale(fill == Fill::kExtreme);
    set_block_scales(f, d, m, reinterpret_cast<uint8_t*>(block));
  }
  return bytes;
}

/// All elements of one row, those of kI8x32 as they are stored: mixed. dequantize_row_ref equals gguf-py bit for bit on
/// fixtures (quant_dequantize_test.cpp).
inline std::vector<float> dequantize(PanelFormat f, const std::byte* row, int64_t cols) {
  std::vector<float> out(static_cast<uint64_t>(cols));
  if (f != PanelFormat::kI8x32) {
    dequantize_row_ref(f, row, out.data(), cols);
    return out;
  }
  for (int64_t i = 0; i < cols; ++i) {
    const std::byte* block = row + i / 32 * 36;
    float d;
    std::memcpy(&d, block, 4);
    out[i] = d * static_cast<float>(static_cast<int8_t>(block[4 + i % 32]));
  }
  return out;
}

/// The weights of a row.
inline std::vector<float> weights_of(PanelFormat f, const std::byte* row, int64_t cols) {
  if (f != PanelFormat::kI8x32) return dequantize(f, row, cols);
  std::vector<float> out = dequantize(f, row, (cols + 31) / 32 * 32);
  for (size_t i = 0; i < out.size(); i += 32) unmix_block(out.data() + i);
  out.resize(static_cast<size_t>(cols));
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
