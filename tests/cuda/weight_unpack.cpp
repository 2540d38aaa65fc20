#include "tests/cuda/weight_unpack.h"

#include <cstring>

#include "kernels/quant/block_codes.h"

namespace glimpse::cuda {
namespace {

uint32_t word_at(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
uint16_t half_at(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
uint8_t u8(uint32_t v) {
  return static_cast<uint8_t>(v);
}

// Reads the codes of one cell: the inverse of pack_cell.
template <Format format>
void read_cell(const WeightView& w, int row, int cell, uint8_t* codes) {
  constexpr Planes p = planes_of(format);
  const int r = row % kTileRows, t = cell % 4;
  const int64_t tile = tile_index(w, row / kTileRows, cell / 4);
  for (int k = 0; k < kCell; ++k) {
    const int step = k / 4, byte = k % 4;
    constexpr int per_word = 8 / p.low_bits;
    const int word = step / per_word;
    const uint32_t low = word_at(w.data + low_offset<format>(tile, word / 4, r, t) + word % 4 * 4);
    uint32_t code = low >> (8 * byte + p.low_bits * (step % per_word)) & ((1u << p.low_bits) - 1);
    const uint8_t* high = w.data + high_offset<format>(w, tile, r, t);
    if constexpr (p.high_bits == 1) code |= (word_at(high) >> (8 * byte + step) & 1u) << p.low_bits;
    if constexpr (p.high_bits == 2) {
      code |= (word_at(high + step / 4 * 4) >> (8 * byte + 2 * (step % 4)) & 3u) << p.low_bits;
    }
    codes[k] = u8(code);
  }
}

template <Format format>
void read_scales(const WeightView& w, int row, int cell, BlockCodes& codes) {
  constexpr Planes p = planes_of(format);
  constexpr ScaleKind kind = block_format(format).scales;
  const int row_tile = row / kTileRows, r = row % kTileRows;
  const uint8_t* record = w.data + scales_offset<format>(w, row_tile, cell / 4, r, cell % 4);
  if constexpr (!p.super) {
    codes.d = p.scale_bytes == 1 ? *record : half_at(record);
    if constexpr (p.scale_bytes == 4) codes.m = half_at(record + 2);
  } else if constexpr (kind == ScaleKind::kSix8) {
    codes.d = half_at(record);
    codes.m = half_at(record + 2);
    const uint32_t a = word_at(record + 4), b = word_at(record + 8), h = word_at(record + 12);
    for (int k = 0; k < 8; ++k) {
      codes.scale[k] = u8((a >> (4 * k) & 15u) | (h >> (2 * k) & 3u) << 4);
      codes.min[k] = u8((b >> (4 * k) & 15u) | (h >> (16 + 2 * k) & 3u) << 4);
    }
  } else if constexpr (kind == ScaleKind::kSix8Split) {
    codes.d = half_at(record);
    const uint32_t high = half_at(record + 2), low = word_at(record + 4);
    for (int k = 0; k < 8; ++k) codes.scale[k] = u8((low >> (4 * k) & 15u) | (high >> (2 * k) & 3u) << 4);
  } else {
    const uint8_t* d = w.data + d_offset<format>(w, row_tile, cell / 4, r);
    codes.d = half_at(d);
    if constexpr (p.d_bytes == 4) codes.m = half_at(d + 2);
    for (int k = 0; k < 16; ++k) {
      if constexpr (p.mins) {
        codes.scale[k] = record[k] & 15;
        codes.min[k] = record[k] >> 4;
      } else {
        codes.scale[k] = kind == ScaleKind::kSix16 ? u8(record[k] + 32u) : record[k];
      }
    }
  }
}

template <Format format>
void unpack(const WeightView& w, int row, uint8_t* out) {
  constexpr Planes p = planes_of(format);
  if constexpr (!p.integer()) {
    constexpr int element = p.low_bits / 8, per_part = 16 / element;
    for (int column = 0; column < w.cols; ++column) {
      const int cell = column / kCell, k = column % kCell;
      const int64_t tile = tile_index(w, row / kTileRows, cell / 4);
      std::memcpy(out + column * element,
                  w.data + low_offset<format>(tile, k / per_part, row % kTileRows, cell % 4) + k % per_part * element,
                  element);
    }
  } else {
    constexpr int block = p.super ? 256 : 32;
    const uint64_t block_bytes = block_format(format).info.block_bytes;
    for (int first = 0; first < w.cols; first += block) {
      BlockCodes codes;
      read_scales<format>(w, row, first / kCell, codes);
      for (int cell = 0; cell < block / kCell; ++cell) {
        read_cell<format>(w, row, first / kCell + cell, codes.q + cell * kCell);
      }
      encode_block(format, codes, out);
      out += block_bytes;
    }
  }
}

}  // namespace

void unpack_device_row(Format format, const WeightView& weight, int64_t row, std::byte* out) {
  auto* const bytes = reinterpret_cast<uint8_t*>(out);
  const int r = static_cast<int>(row);
  switch (format) {
#define GLIMPSE_CUDA_FORMAT(name, format)                                                           \
  case Format::format:                                                                              \
    if constexpr (!block_format(Format::format).codebook) unpack<Format::format>(weight, r, bytes); \
    return;
#include "kernels/cuda/formats.inc"
#undef GLIMPSE_CUDA_FORMAT
    default:
      break;
  }
}

}  // namespace glimpse::cuda
