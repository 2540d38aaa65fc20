#include "engine/preprocess/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace glimpse {
namespace {

// Keys' cubic convolution kernel with a = -0.5.
double bicubic(double x) {
  const double t = std::fabs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * -0.5;
  return 0;
}

int32_t to_fixed(double weight) {
  const double scaled = weight * (1 << kResizeWeightBits);
  return static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);  // truncates: rounds half away from zero
}

}  // namespace

std::span<const ResizeKernels> resize_kernels() {
  static constexpr ResizeKernels kKernels[] = {
#define GLIMPSE_KERNEL(isa, suffix, overread) \
  {Isa::isa, resize_horizontal_##suffix, resize_vertical_##suffix, overread},
#include "engine/preprocess/resize_kernels.inc"
  };
  return kKernels;
}

const ResizeKernels& resize_kernels(Isa isa) {
  return *select_kernel(resize_kernels(), isa);
}

void share_rows(ThreadTeam* team, int64_t n_rows, FunctionRef<void(int64_t, int64_t)> work) {
  if (team == nullptr) return work(0, n_rows);
  team->for_ranges(n_rows, Grain{.most = 64, .least = 8}, [&](int, int64_t begin, int64_t end) { work(begin, end); });
}

bool vertical_goes_first(ImageSize from, ImageSize to) {
  return to.height < from.height && from.height - to.height > 2 * (from.width - to.width);
}

ResizeFilter make_bicubic_filter(int64_t n_inputs, int64_t n_outputs) {
  const double scale = static_cast<double>(n_inputs) / static_cast<double>(n_outputs);
  const double stretch = std::max(scale, 1.0);  // shrinking: one output pixel averages over more input pixels
  const double support = 2.0 * stretch, per_stretch = 1.0 / stretch;

  ResizeFilter filter;
  filter.first.resize(static_cast<size_t>(n_outputs));
  filter.count.resize(static_cast<size_t>(n_outputs));
  const auto center_of = [scale](int64_t i) { return (static_cast<double>(i) + 0.5) * scale; };
  int64_t longest = 0;
  for (int64_t i = 0; i < n_outputs; ++i) {
    const double center = center_of(i);
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t end = std::min(n_inputs, static_cast<int64_t>(center + support + 0.5));
    filter.first[static_cast<size_t>(i)] = static_cast<int32_t>(first);
    filter.count[static_cast<size_t>(i)] = static_cast<int32_t>(end - first);
    longest = std::max(longest, end - first);
  }
  filter.n_taps = (longest + 3) / 4 * 4;
  filter.weights.resize(static_cast<size_t>(n_outputs * filter.n_taps));

  std::vector<double> exact(static_cast<size_t>(longest));
  for (int64_t i = 0; i < n_outputs; ++i) {
    const auto count = static_cast<size_t>(filter.count[static_cast<size_t>(i)]);
    const double first = filter.first[static_cast<size_t>(i)];
    double sum = 0;
    for (size_t k = 0; k < count; ++k) {
      exact[k] = bicubic((static_cast<double>(k) + first - center_of(i) + 0.5) * per_stretch);
      sum += exact[k];
    }
    int32_t* weights = filter.weights.data() + i * filter.n_taps;
    for (size_t k = 0; k < count; ++k) weights[k] = to_fixed(sum != 0 ? exact[k] / sum : exact[k]);
  }
  split_weights(filter);
  return filter;
}

void split_weights(ResizeFilter& filter) {
  filter.split.resize(filter.weights.size() * 2);
  for (size_t k = 0; k < filter.weights.size(); ++k) {  // rows are whole groups of 4 taps
    int16_t* split = filter.split.data() + k / 4 * 8 + k % 4;
    split[0] = static_cast<int16_t>(filter.weights[k] >> kResizeLowBits);
    split[4] = static_cast<int16_t>(filter.weights[k] & ((1 << kResizeLowBits) - 1));
  }
}

}  // namespace glimpse
