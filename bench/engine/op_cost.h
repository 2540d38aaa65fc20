// What an operation would cost on the roofline, and the profile of many operations.
#pragma once

#include <string>
#include <vector>

#include "bench/probe/roofline.h"
#include "engine/runtime/profiled_ops.h"

namespace glimpse::bench {

/// The instructions that the kernel of a packed weight multiplies with.
Arithmetic arithmetic_of(const PackedWeight& weight);
/// Those of attention over keys and values of this type, at a level.
Arithmetic attention_arithmetic(KvElement element, Isa isa);

/// Work, and the least time that it takes: each operation max(bytes / B, FLOP / G), one after another.
struct Cost {
  double flop = 0, bytes = 0;
  double floor_seconds = 0;  // 0 without a roofline
  Cost& operator+=(const Cost& other);
};
Cost cost_of(const OpRecord& record, Isa isa, const Roofline& roofline);

/// All calls of one kind with weights of one shape and type.
struct ProfileRow {
  std::string name;  // "norm_linear 5120x1280 BF16", "attention 16x80 bf16"
  int64_t n_calls = 0;
  double seconds = 0;
  Cost cost;
};
/// "linear_add 1536x8960 Q6_K": kind, out x in of each weight that differs, types that differ.
std::string op_label(const OpRecord& record);
/// Sorted by time, the longest first.
std::vector<ProfileRow> summarize(const std::vector<OpRecord>& records, Isa isa, const Roofline& roofline);

}  // namespace glimpse::bench
