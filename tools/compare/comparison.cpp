#include "tools/compare/comparison.h"

#include <algorithm>
#include <cmath>

#include "engine/base/result.h"

namespace glimpse::compare {
namespace {

constexpr double kMostForeignLoad = 0.1;
constexpr double kMostBandwidthChange = 0.1;

}  // namespace

double Stage::ratio(size_t pair) const {
  const double a = pair < ours.size() ? ours[pair] : 0, b = pair < theirs.size() ? theirs[pair] : 0;
  if (!(a > 0) || !(b > 0)) return 0;
  return better == Better::kLess ? b / a : a / b;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

void mark_disturbed(std::vector<PairConditions>& pairs, double last_bandwidth) {
  std::vector<double> probes;
  for (const PairConditions& pair : pairs) probes.push_back(pair.bandwidth);
  probes.push_back(last_bandwidth);
  const double middle = median(probes);
  for (size_t i = 0; i < pairs.size(); ++i) {
    PairConditions& pair = pairs[i];
    pair.disturbed = false;
    pair.reason.clear();
    for (const double probe : {probes[i], probes[i + 1]}) {
      if (std::fabs(probe - middle) <= kMostBandwidthChange * middle) continue;
      pair.disturbed = true;
      pair.reason = format("memory bandwidth %.1f GB/s, usually %.1f", probe / 1e9, middle / 1e9);
    }
    if (pair.foreign_load > kMostForeignLoad) {
      pair.disturbed = true;
      if (!pair.reason.empty()) pair.reason += "; ";
      pair.reason += format("other programs used %.2f CPUs", pair.foreign_load);
    }
  }
}

StageSummary summarize(const Stage& stage, const std::vector<PairConditions>& pairs) {
  StageSummary s;
  std::vector<double> ours, theirs, ratios;
  for (const bool quiet_only : {true, false}) {
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (stage.ratio(i) == 0 || (quiet_only && pairs[i].disturbed)) continue;
      ours.push_back(stage.ours[i]);
      theirs.push_back(stage.theirs[i]);
      ratios.push_back(stage.ratio(i));
    }
    if (!ratios.empty()) break;
    s.disturbed = true;
  }
  if (ratios.empty()) return {};
  s.n_pairs = static_cast<int64_t>(ratios.size());
  s.ours = median(ours);
  s.theirs = median(theirs);
  s.ratio = median(ratios);
  s.ratio_low = *std::min_element(ratios.begin(), ratios.end());
  s.ratio_high = *std::max_element(ratios.begin(), ratios.end());
  return s;
}

bool Comparison::any_quiet() const {
  return std::any_of(pairs.begin(), pairs.end(), [](const PairConditions& pair) { return !pair.disturbed; });
}

size_t Agreement::common() const {
  size_t n = 0;
  while (n < ours.size() && n < theirs.size() && ours[n] == theirs[n]) ++n;
  return n;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size >= 1000) return format("%.0f", value);
  if (size >= 10) return format("%.1f", value);
  return size >= 1 ? format("%.2f", value) : format("%.4f", value);
}

}  // namespace glimpse::compare
