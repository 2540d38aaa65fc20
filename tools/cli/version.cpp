#include "tools/cli/version.h"

#include "engine/base/cpu_features.h"
#include "engine/base/format.h"
#include "engine/include/glimpse/glimpse.h"

namespace glimpse::cli {
namespace {

#if defined(__clang__)
constexpr auto kCompiler = "Clang " __clang_version__;
#else
constexpr auto kCompiler = "GCC " __VERSION__;
#endif

std::string instruction_sets() {
  std::string has;
  for (const Isa isa : all_isas()) {
    if (!detect_isa().has(isa)) continue;
    if (!has.empty()) has += ' ';
    has += isa_name(isa);
  }
  const Result<Isa> used = selected_isa();
  if (!used.ok()) return format("this CPU has %s; %s", has, used.error().message);
  return format("this CPU has %s; in use: %s", has, isa_name(used.value()));
}

}  // namespace

std::string version_text() {
  return format(
      "glimpse %s\n"
      "build: %s, %s, %s\n"
      "instruction sets: %s\n"
      "backends: cpu%s\n"
      "pictures: %s",
      glimpse_version(), kCompiler, GLIMPSE_BUILD_TYPE, GLIMPSE_BUILD_THREADS, instruction_sets(), GLIMPSE_BUILD_CUDA,
      GLIMPSE_BUILD_PICTURES);
}

}  // namespace glimpse::cli
