// Pairs of measurements of two engines, and what they amount to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace glimpse::compare {

enum class Better { kLess, kMore };  // milliseconds, bytes; tokens per second

/// One figure that both engines have in every pair.
struct Stage {
  std::string name;  // "image encode", "prefill 512", ...
  std::string unit;  // "ms", "tokens/s", "MB"
  Better better = Better::kLess;
  std::vector<double> ours, theirs;  // one per pair; 0: this pair has none

  /// How much better we are in one pair: above 1 glimpse wins. 0 when the pair has none.
  double ratio(size_t pair) const;
};

/// How quiet the machine was during a pair.
struct PairConditions {
  double bandwidth = 0;     // bytes per second, before the pair
  double foreign_load = 0;  // CPUs that others kept busy, mean over the pair; negative: unknown
  bool disturbed = false;
  std::string reason;  // when disturbed
};
/// A pair is disturbed when others kept more than 0.1 CPUs busy, or when the bandwidth before or after it is more than
/// 10 % away from the median of all probes. last_bandwidth: the probe after the last pair.
void mark_disturbed(std::vector<PairConditions>& pairs, double last_bandwidth);

struct StageSummary {
  int64_t n_pairs = 0;          // that count
  bool disturbed = false;       // no quiet pair: all of them count
  double ours = 0, theirs = 0;  // medians
  double ratio = 0;             // median of the pairs' ratios
  double ratio_low = 0, ratio_high = 0;
};
/// Quiet pairs only, if there is one.
StageSummary summarize(const Stage& stage, const std::vector<PairConditions>& pairs);

double median(std::vector<double> values);  // 0 for none

/// A part of a picture's way to the answer, for the waterfall.
struct WaterfallPart {
  std::string name;
  double ours = 0, theirs = 0;  // milliseconds, medians
};

struct Agreement {
  std::string prompt;
  std::string ours, theirs;
  int64_t n_prompt_ours = 0, n_prompt_theirs = 0;  // tokens
  /// Bytes that both answers begin with.
  size_t common() const;
  bool same() const { return ours == theirs; }
};

struct Comparison {
  std::string date, cpu, model, mmproj, our_version, their_version, settings;
  int n_threads = 0;
  double bandwidth_after = 0;  // the probe after the last pair
  std::vector<PairConditions> pairs;
  std::vector<Stage> stages;
  std::vector<WaterfallPart> waterfall;
  std::vector<Agreement> agreements;
  std::vector<std::string> notes;

  /// False when every pair was disturbed.
  bool any_quiet() const;
};

std::string markdown_report(const Comparison& c);
/// One self-contained page: no script, no other file; light and dark by the reader's preference.
std::string html_report(const Comparison& c);

/// "12.3", "1234", "0.0012": about three or four digits.
std::string short_number(double value);

}  // namespace glimpse::compare
