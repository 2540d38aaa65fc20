// The Markdown report; used by report.cpp.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "bench/engine/report.h"

namespace glimpse::bench {

struct Rates {
  double gflops = 0, gbs = 0;
  double percent = 0;  // of the roofline
};
Rates rates_of(const Cost& cost, double seconds);
/// Nanoseconds by stage, mean of the repetitions: means add up as the single runs do.
std::array<double, kStages> mean_stages(const TestResult& result);

/// llama-bench's table with the median and the share of the roofline; 120 characters wide.
std::string markdown_begin();
std::string markdown_row(const ReportContext& context, const TestResult& result);
/// The stages of pictures and turns, the rooflines, the build.
std::string markdown_end(const ReportContext& context, const std::vector<TestResult>& results);

}  // namespace glimpse::bench
