// Reference kernels: the order of README.md, one output element at a time. Inner sums are exact integers; floats are
// combined with fused multiply-adds exactly as the vector kernels combine them.
#include <cmath>
#include <cstring>

#include "engine/base/half.h"
#include "kernels/matmul/matmul_kernels.h"
#include "kernels/matmul/panel_codes.h"
#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

template <typename T>
T get(const std::byte* record, int64_t at, int64_t index) {
  T value;
  std::memcpy(&value, record + at + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// One block of one row, decoded once for all columns.
struct DecodedBlock {
  float scale[16];    // of each sub-block
  float min;          // kPairs: -dmin; kBlock: m
  int8_t value[256];  // integer weights
  uint8_t min_code[16];
};

void decode_row(PanelFormat format, const PanelLayout& layout, const std::byte* panel_block, int row,
                DecodedBlock& block) {
  BlockCodes codes;
  read_panel_codes(format, reinterpret_cast<const uint8_t*>(panel_block), row, codes);
  const BlockFormat blocks = block_format(format);
  for (int s = 0; s < layout.subs(); ++s) block.scale[s] = sub_scale(blocks, codes, s);
  const float m = half_to_float(codes.m);
  block.min = layout.mins == MinKind::kPairs ? -m : m;
  for (int i = 0; i < layout.block; ++i) block.value[i] = static_cast<int8_t>(code_value(blocks, codes.q[i]));
  std::memcpy(block.min_code, codes.min, sizeof block.min_code);
}

// tot := tot + (weights of the block) . (column)
float add_block(const PanelLayout& layout, const DecodedBlock& w, const ActView& act, const std::byte* column,
                int64_t b, float tot) {
  const int64_t first = b * layout.block;
  const int parts = act_parts(layout), subs = layout.subs() / parts;  // of each part
  for (int part = 0; part < parts; ++part) {
    float sum = 0;
    if (layout.mins == MinKind::kPairs) {
      int32_t im = 0;
      for (int s = part * subs; s < (part + 1) * subs; ++s) {
        const int64_t at = layout.sub == 32 ? act.sums32_at : act.sums16_at;
        im += w.min_code[s] * get<int16_t>(column, at, first / layout.sub + s);
      }
      sum = static_cast<float>(im) * w.min;
    } else if (layout.mins == MinKind::kBlock) {
      sum = static_cast<float>(get<int32_t>(column, act.bias32_at, b) / -128) * w.min;
    }
    for (int s = part * subs; s < (part + 1) * subs; ++s) {
      int32_t is = 0;
      for (int i = 0; i < layout.sub; ++i) {
        is += w.value[s * layout.sub + i] * get<int8_t>(column, 0, first + s * layout.sub + i);
      }
      sum = std::fma(static_cast<float>(is), w.scale[s], sum);
    }
    tot = std::fma(sum, get<float>(column, act.scales_at, b * parts + part), tot);
  }
  return tot;
}

template <PanelFormat format>
void run_integer(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
                 int64_t ld_out) {
  constexpr PanelLayout layout = panel_layout(format);
  DecodedBlock block;
  for (int64_t p = 0; p < n_panels; ++p) {
    for (int row = 0; row < kPanelRows; ++row) {
      float* to = out + p * kPanelRows + row;
      for (int64_t c = 0; c < act.n; ++c) to[c * ld_out] = 0;
      for (int64_t b = 0; b < (act.k + layout.block - 1) / layout.block; ++b) {
        decode_row(format, layout, panels + static_cast<uint64_t>(p) * panel_stride + b * layout.bytes, row, block);
        for (int64_t c = 0; c < act.n; ++c) {
          to[c * ld_out] = add_block(layout, block, act, act.data + c * act.row_bytes, b, to[c * ld_out]);
        }
      }
    }
  }
}

template <PanelFormat format>
float float_weight(const std::byte* panel, int row, int64_t i) {
  if constexpr (format == PanelFormat::kF32) return get<float>(panel, 0, i * kPanelRows + row);
  if constexpr (format == PanelFormat::kF16) return half_to_float(get<uint16_t>(panel, 0, i * kPanelRows + row));
  return bf16_to_float(get<uint16_t>(panel, 0, (i / 2 * kPanelRows + row) * 2 + i % 2));
}

template <PanelFormat format>
void run_float(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out,
               int64_t ld_out) {
  for (int64_t p = 0; p < n_panels; ++p) {
    const std::byte* panel = panels + static_cast<uint64_t>(p) * panel_stride;
    for (int64_t c = 0; c < act.n; ++c) {
      for (int row = 0; row < kPanelRows; ++row) {
        float sum = 0;
        for (int64_t i = 0; i < act.k; ++i) {
          sum = std::fma(float_weight<format>(panel, row, i), get<float>(act.data + c * act.row_bytes, 0, i), sum);
        }
        out[c * ld_out + p * kPanelRows + row] = sum;
      }
    }
  }
}

}  // namespace

#define GLIMPSE_REF(function, runner, format)                                                                     \
  void function(const std::byte* panels, uint64_t panel_stride, int64_t n_panels, const ActView& act, float* out, \
                int64_t ld_out, std::byte*) {                                                                     \
    runner<PanelFormat::format>(panels, panel_stride, n_panels, act, out, ld_out);                                \
  }
GLIMPSE_REF(matmul_f32_f32_ref, run_float, kF32)
GLIMPSE_REF(matmul_f16_f32_ref, run_float, kF16)
GLIMPSE_REF(matmul_bf16_f32_ref, run_float, kBF16)
#define GLIMPSE_BLOCK_32(type, name) GLIMPSE_REF(matmul_##name##_int8x32_ref, run_integer, type)
#define GLIMPSE_BLOCK_256(type, name) GLIMPSE_REF(matmul_##name##_int8x128k_ref, run_integer, type)
#include "kernels/quant/block_formats.inc"
GLIMPSE_REF(matmul_i8x32_int8x32mixed_ref, run_integer, kI8x32)
#undef GLIMPSE_REF

}  // namespace glimpse
