// Which instruction sets this CPU and operating system offer, and which of them glimpse may use.
#pragma once

#include <cstdint>
#include <iterator>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse {

/// A set of CPU features: what a kernel needs, what a CPU offers, what a run may use. Not a ladder: a CPU may have
/// AVX-VNNI without AVX-512, and the other way round.
class Isa {
 public:
  static const Isa kRef;         // nothing: any x86-64
  static const Isa kAvx2;        // AVX2, FMA, F16C, BMI
  static const Isa kAvxVnni;     // AVX2 and 256-bit vpdpbusd without AVX-512
  static const Isa kAvx512;      // AVX2 and AVX-512 F, BW, DQ, VL, CD
  static const Isa kAvx512Vnni;  // AVX-512 and its VNNI
  static const Isa kAvx512Bf16;  // AVX-512, VNNI and BF16

  constexpr Isa() = default;
  /// True when everything that `needed` holds is here, too: what needs it can run.
  constexpr bool has(Isa needed) const { return (features_ & needed.features_) == needed.features_; }
  /// Both sets together.
  constexpr Isa operator|(Isa other) const { return Isa(features_ | other.features_); }
  constexpr bool operator==(const Isa&) const = default;

 private:
  constexpr explicit Isa(uint32_t features) : features_(features) {}
  uint32_t features_ = 0;
};
inline constexpr Isa Isa::kRef = Isa(0);
inline constexpr Isa Isa::kAvx2 = Isa(1);
inline constexpr Isa Isa::kAvxVnni = Isa(2 | 1);
inline constexpr Isa Isa::kAvx512 = Isa(4 | 1);
inline constexpr Isa Isa::kAvx512Vnni = Isa(8 | 4 | 1);
inline constexpr Isa Isa::kAvx512Bf16 = Isa(16 | 8 | 4 | 1);

/// The sets that have a name, and that GLIMPSE_FORCE_ISA knows: from the weakest to the strongest, as far as they can
/// be compared.
const std::vector<Isa>& all_isas();
/// "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16": the strongest of these that the set has.
const char* isa_name(Isa isa);

/// What the CPU has and the operating system saves registers for (CPUID and XGETBV).
Isa detect_isa();
/// Parses a set's name; an unknown one is an error that lists the known names.
Result<Isa> parse_isa(std::string_view name);
/// What to run on: detect_isa(), or what the environment variable GLIMPSE_FORCE_ISA names.
/// Errors: kInvalidArgument for an unknown name or for a set that this CPU lacks.
Result<Isa> selected_isa();

/// The last entry of a list of kernels that can run on isa and fits: lists go from the weakest to the strongest.
/// Kernel: has a member `isa`. nullptr when there is none.
template <class Kernels, class Fits>
const auto* select_kernel(const Kernels& kernels, Isa isa, Fits fits) {
  decltype(&*std::begin(kernels)) best = nullptr;
  for (const auto& kernel : kernels) {
    if (isa.has(kernel.isa) && fits(kernel)) best = &kernel;
  }
  return best;
}
/// The last entry that can run on isa.
template <class Kernels>
const auto* select_kernel(const Kernels& kernels, Isa isa) {
  return select_kernel(kernels, isa, [](const auto&) { return true; });
}

/// CPUs this process may use: the affinity mask, reduced by the CPU quotas of its cgroups (cpu_quota.h); at least 1.
int available_cpus();

}  // namespace glimpse
