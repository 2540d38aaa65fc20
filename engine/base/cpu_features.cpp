#include "engine/base/cpu_features.h"

#include <cpuid.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/base/cpu_quota.h"

namespace glimpse {
namespace {

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return {};
  return r;
}

uint64_t xgetbv0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool bit(uint32_t word, int index) {
  return ((word >> index) & 1u) != 0;
}

struct NamedIsa {
  Isa isa;
  const char* name;
};
constexpr NamedIsa kNamed[] = {
    {Isa::kRef, "ref"},
    {Isa::kAvx2, "avx2"},
    {Isa::kAvxVnni, "avxvnni"},
    {Isa::kAvx512, "avx512"},
    {Isa::kAvx512Vnni, "avx512vnni"},
    {Isa::kAvx512Bf16, "avx512bf16"},
};

/// The names of the sets that `isa` has.
std::string names_within(Isa isa) {
  std::string names;
  for (const NamedIsa& named : kNamed) {
    if (!isa.has(named.isa)) continue;
    names += names.empty() ? "" : ", ";
    names += named.name;
  }
  return names;
}

}  // namespace

const std::vector<Isa>& all_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> all;
    for (const NamedIsa& named : kNamed) all.push_back(named.isa);
    return all;
  }();
  return isas;
}

const char* isa_name(Isa isa) {
  return select_kernel(kNamed, isa)->name;
}

Isa detect_isa() {
  const Registers one = cpuid(1, 0);
  const Registers seven = cpuid(7, 0);
  const Registers seven_one = cpuid(7, 1);
  const bool osxsave = bit(one.c, 27);
  const uint64_t saved = osxsave ? xgetbv0() : 0;
  const bool os_ymm = (saved & 0x6) == 0x6;
  const bool os_zmm = (saved & 0xe6) == 0xe6;
  Isa isa;
  const bool avx2 = os_ymm && bit(one.c, 28) && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5) &&
                    bit(seven.b, 3) && bit(seven.b, 8);  // AVX, FMA, F16C, AVX2, BMI1, BMI2
  if (!avx2) return isa;
  isa = isa | Isa::kAvx2;
  if (bit(seven_one.a, 4)) isa = isa | Isa::kAvxVnni;
  const bool avx512 = os_zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) && bit(seven.b, 30) &&
                      bit(seven.b, 31);  // F, DQ, CD, BW, VL
  if (!avx512) return isa;
  isa = isa | Isa::kAvx512;
  if (!bit(seven.c, 11)) return isa;
  isa = isa | Isa::kAvx512Vnni;
  return bit(seven_one.a, 5) ? isa | Isa::kAvx512Bf16 : isa;
}

Result<Isa> parse_isa(std::string_view name) {
  Isa every;
  for (const NamedIsa& named : kNamed) {
    if (name == named.name) return named.isa;
    every = every | named.isa;
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown instruction set '%s'; known: %s", name, names_within(every));
}

Result<Isa> selected_isa() {
  const Isa offered = detect_isa();
  const char* forced = std::getenv("GLIMPSE_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return offered;
  GLIMPSE_ASSIGN(const Isa wanted, parse_isa(forced));
  if (!offered.has(wanted)) {
    return make_error(ErrorCode::kInvalidArgument, "GLIMPSE_FORCE_ISA=%s: this CPU offers %s", forced,
                      names_within(offered));
  }
  return wanted;
}

int available_cpus() {
  int count = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
  const int quota = cgroup_cpu_quota();
  return quota > 0 ? std::clamp(quota, 1, count) : count;
}

}  // namespace glimpse
