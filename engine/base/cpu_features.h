// Which instruction sets this CPU and operating system offer, and which of them glimpse may use.
#pragma once

#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// Instruction-set levels, weakest first; each includes all before it.
enum class Isa {
  kRef,         // any x86-64
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // + AVX-512 F, BW, DQ, VL
  kAvx512Vnni,  // + VNNI
  kAvx512Bf16,  // + BF16
};

/// "ref", "avx2", "avx512", "avx512vnni", "avx512bf16".
const char* isa_name(Isa isa);
/// Every level, weakest first.
const std::vector<Isa>& all_isas();

/// The best level that the CPU has and the operating system saves registers for (CPUID and XGETBV).
Isa detect_isa();
/// Parses a level's name; an unknown one is an error that lists the known names.
Result<Isa> parse_isa(std::string_view name);
/// The level to run on: detect_isa(), or what the environment variable GLIMPSE_FORCE_ISA names.
/// Errors: kInvalidArgument for an unknown name or for a level that this CPU lacks.
Result<Isa> selected_isa();

/// CPUs this process may use: the affinity mask, reduced by the CPU quotas of its cgroups (cpu_quota.h); at least 1.
int available_cpus();

}  // namespace glimpse
