#include "bench/engine/timeline.h"

#include <numeric>

namespace glimpse::bench {
namespace {

double ns_between(Clock::time_point start, Clock::time_point end) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count());
}

}  // namespace

const char* stage_name(Stage stage) {
  static const char* const names[kStages] = {"decode", "resize",   "patches", "patch_embd", "vit",
                                             "merger", "tokenize", "prefill", "sample",     "generate"};
  return names[static_cast<size_t>(stage)];
}

double Timeline::total_ns() const {
  return ns_between(start, end);
}

std::array<double, kStages> Timeline::stage_ns() const {
  std::array<double, kStages> sums{};
  for (const StageSpan& span : spans) sums[static_cast<size_t>(span.stage)] += ns_between(span.start, span.end);
  return sums;
}

double Timeline::sum_ns() const {
  const std::array<double, kStages> sums = stage_ns();
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace glimpse::bench
