#include "kernels/matmul/panel.h"

#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/base/half.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/panel_codes.h"
#include "kernels/matmul/panel_layout.h"
#include "kernels/matmul/panel_pack.h"

namespace glimpse {
namespace {

constexpr int64_t kRows = kPanelRows;

// (n_rows, cols) row-major, rows row_bytes apart -> [cols][16 rows], in squares that stay in the L1 cache.
template <typename T>
void pack_columns(const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t cols, std::byte* out) {
  constexpr int64_t kStep = 16;
  for (int64_t first = 0; first < cols; first += kStep) {
    const int64_t count = std::min(kStep, cols - first);
    for (int64_t r = 0; r < n_rows; ++r) {
      T line[kStep] = {};
      std::memcpy(line, rows + static_cast<uint64_t>(r) * row_bytes + static_cast<uint64_t>(first) * sizeof(T),
                  static_cast<uint64_t>(count) * sizeof(T));
      std::byte* to = out + (first * kRows + r) * static_cast<int64_t>(sizeof(T));
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + i * kRows * static_cast<int64_t>(sizeof(T)), line + i, sizeof(T));
    }
  }
}

// The element of `row` in column c: byte offset in a panel of a float format.
int64_t element_at(PanelFormat format, int64_t row, int64_t c) {
  if (format == PanelFormat::kF32) return (c * kRows + row) * 4;
  if (format == PanelFormat::kF16) return (c * kRows + row) * 2;
  return (c / 2 * kRows + row) * 4 + c % 2 * 2;  // BF16: pairs of columns
}

// An odd last column of 16-bit elements.
void pack_last_column(PanelFormat format, const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t cols,
                      std::byte* out) {
  for (int64_t r = 0; r < n_rows; ++r) {
    std::memcpy(out + element_at(format, r, cols - 1),
                rows + static_cast<uint64_t>(r) * row_bytes + static_cast<uint64_t>(cols - 1) * 2, 2);
  }
}

// A float format's panel, element by element. Precondition: all zeros where rows or columns are missing.
void pack_floats(PanelFormat format, const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t cols,
                 std::byte* out) {
  if (format == PanelFormat::kF32) return pack_columns<uint32_t>(rows, row_bytes, n_rows, cols, out);
  if (format == PanelFormat::kF16) return pack_columns<uint16_t>(rows, row_bytes, n_rows, cols, out);
  pack_columns<uint32_t>(rows, row_bytes, n_rows, cols / 2, out);
  if (cols % 2 != 0) pack_last_column(format, rows, row_bytes, n_rows, cols, out);
}

// n_blocks blocks of every row, code by code.
void pack_codes(PanelFormat format, const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t n_blocks,
                std::byte* out) {
  const PanelLayout layout = panel_layout(format);
  const uint64_t block_bytes = panel_row_format(format).block_bytes;
  BlockCodes codes;
  for (int64_t b = 0; b < n_blocks; ++b) {
    auto* panel_block = reinterpret_cast<uint8_t*>(out + b * layout.bytes);
    for (int64_t r = 0; r < n_rows; ++r) {
      const std::byte* block = rows + static_cast<uint64_t>(r) * row_bytes + static_cast<uint64_t>(b) * block_bytes;
      decode_block(format, reinterpret_cast<const uint8_t*>(block), codes);
      write_panel_codes(format, codes, static_cast<int>(r), panel_block);
    }
    if (!layout.own) continue;
    for (int64_t r = n_rows; r < kRows; ++r) write_panel_codes(format, {}, static_cast<int>(r), panel_block);  // not 0
  }
}

PackRows find_pack_rows(PanelFormat format, Isa isa) {
  if (isa.has(Isa::kAvx512)) return find_pack_rows_avx512(format);
  return isa.has(Isa::kAvx2) ? find_pack_rows_avx2(format) : nullptr;
}

}  // namespace

PanelRowFormat panel_row_format(PanelFormat format) {
  const DTypeInfo& info = dtype_info(format);
  return {static_cast<int64_t>(info.block_length), info.block_bytes, dtype_name(info.type)};
}

uint64_t panel_row_bytes(PanelFormat format, int64_t cols) {
  const PanelRowFormat row = panel_row_format(format);
  return static_cast<uint64_t>(ceil_div(cols, row.block_length)) * row.block_bytes;
}

uint64_t panel_bytes(PanelFormat format, int64_t cols) {
  if (is_integer_format(format)) {
    const PanelLayout layout = panel_layout(format);
    return static_cast<uint64_t>(round_up(ceil_div(cols, layout.block) * layout.bytes, 64));
  }
  if (format == PanelFormat::kF32) return static_cast<uint64_t>(cols * kRows * 4);
  return static_cast<uint64_t>(round_up(cols, 2) * kRows * 2);
}

void pack_panel(PanelFormat format, const std::byte* rows, uint64_t row_bytes, int64_t n_rows, int64_t cols,
                std::byte* out, Isa isa) {
  const uint64_t n_bytes = panel_bytes(format, cols);
  const PackRows fast = n_rows == kRows ? find_pack_rows(format, isa) : nullptr;
  if (!is_integer_format(format)) {
    if (n_rows < kRows || cols % 2 != 0) std::memset(out, 0, n_bytes);
    if (fast == nullptr) return pack_floats(format, rows, row_bytes, n_rows, cols, out);
    fast(rows, row_bytes, format == PanelFormat::kF32 ? cols : cols / 2, out);
    if (format != PanelFormat::kF32 && cols % 2 != 0) pack_last_column(format, rows, row_bytes, n_rows, cols, out);
    return;
  }
  const PanelLayout layout = panel_layout(format);
  const int64_t n_blocks = ceil_div(cols, layout.block);
  const auto used = static_cast<uint64_t>(n_blocks * layout.bytes);
  if (n_rows < kRows) {
    std::memset(out, 0, n_bytes);
  } else {
    std::memset(out + used, 0, n_bytes - used);
  }
  if (fast == nullptr) return pack_codes(format, rows, row_bytes, n_rows, n_blocks, out);
  fast(rows, row_bytes, n_blocks, out);
}

void dequantize_panel_row(const PanelMatrix& matrix, int64_t row, float* out) {
  const std::byte* panel = matrix.data + static_cast<uint64_t>(row / kRows) * matrix.panel_bytes;
  const int64_t lane = row % kRows;
  if (!is_integer_format(matrix.format)) {
    for (int64_t c = 0; c < matrix.cols; ++c) {
      const std::byte* at = panel + element_at(matrix.format, lane, c);
      uint16_t bits = 0;
      if (matrix.format == PanelFormat::kF32) {
        std::memcpy(out + c, at, 4);
        continue;
      }
      std::memcpy(&bits, at, 2);
      out[c] = matrix.format == PanelFormat::kF16 ? half_to_float(bits) : bf16_to_float(bits);
    }
    return;
  }
  const PanelLayout layout = panel_layout(matrix.format);
  BlockCodes codes;
  for (int64_t b = 0; b < ceil_div(matrix.cols, layout.block); ++b) {
    read_panel_codes(matrix.format, reinterpret_cast<const uint8_t*>(panel + b * layout.bytes), static_cast<int>(lane),
                     codes);
    const int64_t first = b * layout.block, count = std::min<int64_t>(layout.block, matrix.cols - first);
    if (matrix.format == PanelFormat::kI8x32) {
      float block[32];
      dequantize_codes(matrix.format, codes, 32, block);
      unmix_block(block);
      std::copy_n(block, count, out + first);
      continue;
    }
    dequantize_codes(matrix.format, codes, static_cast<int>(count), out + first);
  }
}

}  // namespace glimpse
