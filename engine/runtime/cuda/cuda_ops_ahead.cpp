#include <algorithm>
#include <cstring>
#include <iterator>

#include "engine/runtime/cuda/weights_ahead.h"

namespace glimpse::cuda {
namespace {

// The matrices of a product, into `to`; their bytes. Without any: they are chosen on the device.
int64_t list_weights(const LinearArgs& args, const FormatPair& formats, AheadView (&to)[kMaxSegments]) {
  if (args.experts.groups != nullptr) return 0;
  size_t n = 0;
  int64_t n_bytes = 0;
  for (int i = 0; i < args.n_segments; ++i) {
    const Segment& s = args.segment[i];
    const Format format = args.n_first > 0 && i >= args.n_first ? formats.second : formats.first;
    for (int m = 0; m < (s.output == Output::kSwiglu ? 2 : 1) && n < std::size(to); ++m) {
      WeightView view;
      to[n] = {s.w[m].data, static_cast<int64_t>(lay_out(format, s.w[m].rows, s.w[m].cols, view))};
      n_bytes += to[n++].n_bytes;
    }
  }
  return n_bytes;
}

}  // namespace

Status WeightsAhead::launch(Kernel kernel, const LaunchShape& shape, const void* args) {
  const auto* const bytes = static_cast<const std::byte*>(args);
  Held now{kernel, shape, {bytes, bytes + kernel_info(kernel).args_bytes}};
  const std::optional<FormatPair> formats = formats_of_gemv(kernel);
  if (formats) {
    LinearArgs product;
    std::memcpy(&product, now.args.data(), sizeof product);
    AheadView weights[kMaxSegments];
    const int64_t n_bytes = list_weights(product, *formats, weights);
    if (!held_.empty() && n_bytes > 0 && n_bytes <= kMostBytes) {
      LinearArgs before;
      std::memcpy(&before, held_[0].args.data(), sizeof before);
      std::copy(std::begin(weights), std::end(weights), before.ahead);
      std::memcpy(held_[0].args.data(), &before, sizeof before);
      product.asked = 1;
      std::memcpy(now.args.data(), &product, sizeof product);
    }
    GLIMPSE_TRY(finish());
  }
  if (!formats && held_.empty()) return to_.launch(kernel, shape, args);
  held_.push_back(std::move(now));
  return {};
}

Status WeightsAhead::finish() {
  const std::vector<Held> held = std::move(held_);
  held_.clear();
  for (const Held& launch : held) GLIMPSE_TRY(to_.launch(launch.kernel, launch.shape, launch.args.data()));
  return {};
}

}  // namespace glimpse::cuda
