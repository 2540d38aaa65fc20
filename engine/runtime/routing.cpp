#include "engine/runtime/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace glimpse {

void choose_experts(const float* scores, int64_t n_experts, int64_t n_used, bool normalize, float* expert,
                    float* weight) {
  const float highest = *std::max_element(scores, scores + n_experts);
  double total = 0;
  for (int64_t e = 0; e < n_experts; ++e) total += std::exp(static_cast<double>(scores[e]) - highest);
  double used = 0;
  int64_t last = -1;
  for (int64_t i = 0; i < n_used; ++i) {
    // The best of those that come behind the last one taken.
    int64_t best = -1;
    for (int64_t e = 0; e < n_experts; ++e) {
      const bool behind = last < 0 || scores[e] < scores[last] || (scores[e] == scores[last] && e > last);
      if (behind && (best < 0 || scores[e] > scores[best])) best = e;
    }
    double p = std::numeric_limits<double>::quiet_NaN();
    if (best < 0) {
      best = i;
    } else {
      last = best;
      p = std::exp(static_cast<double>(scores[best]) - highest) / total;
    }
    used += p;
    int64_t at = i;  // into its place among the numbers taken so far
    for (; at > 0 && expert[at - 1] > static_cast<float>(best); --at) {
      expert[at] = expert[at - 1];
      weight[at] = weight[at - 1];
    }
    expert[at] = static_cast<float>(best);
    weight[at] = static_cast<float>(p);
  }
  if (!normalize) return;
  for (int64_t i = 0; i < n_used; ++i) weight[i] = static_cast<float>(weight[i] / used);
}

}  // namespace glimpse
