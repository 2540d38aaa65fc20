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

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return "ref";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
  }
  return "?";
}

const std::vector<Isa>& all_isas() {
  static const std::vector<Isa> isas = {Isa::kRef, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16};
  return isas;
}

Isa detect_isa() {
  const Registers one = cpuid(1, 0);
  const Registers seven = cpuid(7, 0);
  const Registers seven_one = cpuid(7, 1);
  const bool osxsave = bit(one.c, 27);
  const uint64_t saved = osxsave ? xgetbv0() : 0;
  const bool os_ymm = (saved & 0x6) == 0x6;
  const bool os_zmm = (saved & 0xe6) == 0xe6;
  const bool avx2 = os_ymm && bit(one.c, 28) && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5) &&
                    bit(seven.b, 3) && bit(seven.b, 8);  // AVX, FMA, F16C, AVX2, BMI1, BMI2
  if (!avx2) return Isa::kRef;
  const bool avx512 = os_zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) && bit(seven.b, 30) &&
                      bit(seven.b, 31);  // F, DQ, CD, BW, VL
  if (!avx512) return Isa::kAvx2;
  if (!bit(seven.c, 11)) return Isa::kAvx512;
  return bit(seven_one.a, 5) ? Isa::kAvx512Bf16 : Isa::kAvx512Vnni;
}

Result<Isa> parse_isa(std::string_view name) {
  std::string known;
  for (Isa isa : all_isas()) {
    if (name == isa_name(isa)) return isa;
    known += known.empty() ? "" : ", ";
    known += isa_name(isa);
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown instruction set '%s'; known: %s", name, known);
}

Result<Isa> selected_isa() {
  const Isa best = detect_isa();
  const char* forced = std::getenv("GLIMPSE_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  GLIMPSE_ASSIGN(const Isa wanted, parse_isa(forced));
  if (wanted > best) {
    return make_error(ErrorCode::kInvalidArgument, "GLIMPSE_FORCE_ISA=%s: this CPU offers %s at most", forced,
                      isa_name(best));
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
