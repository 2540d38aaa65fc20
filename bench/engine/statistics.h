// Median, spread and llama-bench's mean and deviation of repeated measurements.
#pragma once

#include <vector>

namespace glimpse::bench {

/// Of any number of samples; all zero for none.
struct Summary {
  double mean = 0;
  double stddev = 0;  // of a sample (n - 1); 0 for one
  double min = 0;
  double median = 0;
  double p10 = 0;  // linear between neighbours, as numpy.percentile does it
  double p90 = 0;
};
Summary summarize_samples(std::vector<double> samples);

}  // namespace glimpse::bench
