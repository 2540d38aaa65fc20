// The parts of the bicubic resize, whole and in strips. Private to engine/preprocess.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/cpu_features.h"
#include "engine/base/function_ref.h"
#include "engine/preprocess/preprocess.h"
#include "engine/preprocess/resize_kernels.h"

namespace glimpse {

/// Bicubic weights of one axis (Keys, a = -0.5; the kernel is widened when shrinking).
struct ResizeFilter {
  int64_t n_taps = 0;
  std::vector<int32_t> first, count, weights;
  std::vector<int16_t> split;

  ResizeFilterView view() const {
    return {static_cast<int64_t>(first.size()), n_taps, first.data(), count.data(), weights.data(), split.data()};
  }
};

/// Makes filter.split from filter.weights.
void split_weights(ResizeFilter& filter);

/// Preconditions: both sizes are in 1..65535.
ResizeFilter make_bicubic_filter(int64_t n_inputs, int64_t n_outputs);

/// The passes of an instruction set, which may read `overread` bytes past a row.
struct ResizeKernels {
  Isa isa;  // what they need
  decltype(&resize_horizontal_ref) horizontal;
  decltype(&resize_vertical_ref) vertical;
  int64_t overread;
};
/// Those of resize_kernels.inc, and the best for an ISA.
std::span<const ResizeKernels> resize_kernels();
const ResizeKernels& resize_kernels(Isa isa);

/// work(begin, end) for rows that cover [0, n_rows) once; on the team, or here when it is nullptr.
void share_rows(ThreadTeam* team, int64_t n_rows, FunctionRef<void(int64_t begin, int64_t end)> work);

/// Pillow 13 begins with the rows when that takes away most; before 13 it always began with the columns, which moves
/// some pixels by a level, because the intermediate is rounded to 8 bits. (Rule found by comparing both orders with
/// Pillow 13.0.0 on 1454 random sizes.)
bool vertical_goes_first(ImageSize from, ImageSize to);

/// read_resized() on a given ISA, which the CPU must have.
Result<Image> read_resized_on(Isa isa, ImageReader& reader, ImageSize size, ThreadTeam* team, double* resize_ms);

}  // namespace glimpse
