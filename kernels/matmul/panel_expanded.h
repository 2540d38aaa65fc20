// The scratch form of a panel: one byte per weight and one float per sub-block scale, so that one tile loop serves
// every format of the same shape. Written once per panel and read by all columns. Read by ISA-specific files: constants
// and constexpr functions only.
#pragma once

#include <cstdint>

#include "kernels/matmul/panel_layout.h"

namespace glimpse {

/// Byte offsets in scratch; every part is made of whole rows of 4 bytes a lane (lane r = row r): 16 lanes, or 32 of two
/// panels.
struct ExpandedPanel {
  int64_t scales_at = 0;     // per sub-block a float (the codes lie at 0: per group of 4 columns 4 bytes)
  int64_t min_pairs_at = 0;  // kPairs: per 2 sub-blocks 2 int16
  int64_t min_scale_at = 0;  // kPairs, kBlock: per block a float
  int64_t bytes = 0;
};

[[gnu::always_inline]] constexpr ExpandedPanel expanded_panel(const PanelLayout& layout, int64_t k, int64_t rows) {
  ExpandedPanel e;
  e.scales_at = k * rows;
  e.min_pairs_at = e.scales_at + k / layout.sub * rows * 4;
  e.min_scale_at = e.min_pairs_at + (layout.mins == MinKind::kPairs ? k / layout.sub / 2 * rows * 4 : 0);
  e.bytes = e.min_scale_at + (layout.mins == MinKind::kNone ? 0 : k / layout.block * rows * 4);
  return e;
}

/// Vectors of rows that a tile of an integer format takes side by side: two panels, or two halves of one.
constexpr int kExpandedStrips = 2;
/// Integer formats are expanded in pieces of this many columns (two panels: half as many), which stay in the L1 cache
/// while the tiles of all columns of activations pass over them.
constexpr int64_t kIntegerChunk = 1536;
/// 8-bit weights with AVX2 become 16-bit words in pieces of this many columns, beside the activations of so many
/// columns (tokens), which stay in the L2 cache.
constexpr int64_t kWordChunk = 768;
constexpr int64_t kWordColumns = 96;
/// Words, scales of blocks of at least 32, activations.
constexpr int64_t kWordScratchBytes = kWordChunk * 32 + kWordChunk / 32 * 64 + kWordColumns * kWordChunk * 2;
/// Float formats are expanded in pieces of this many columns, for two panels at a time.
constexpr int64_t kFloatChunk = 256;
constexpr int64_t kFloatScratchBytes = 2 * kFloatChunk * 16 * 4;

}  // namespace glimpse
