// Where and with what a figure was taken.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace glimpse::bench {

/// The commit that was checked out when the build was configured, with "-dirty" when files differed from it; "unknown"
/// outside of a checkout.
const char* build_commit();
/// Its number of ancestors, itself included; 0 outside of a checkout.
int build_number();

/// "AMD EPYC 9R14", from /proc/cpuinfo; "unknown" elsewhere.
std::string cpu_info();
/// "2026-01-31T12:34:56Z"
std::string utc_now();

/// The highest resident memory of this process in bytes: VmHWM of /proc/self/status; 0 where there is none.
uint64_t peak_resident_bytes();
/// Sets VmHWM to what is resident now. False where the kernel does not allow it: the peak is then that of the process.
bool reset_peak_resident();

/// What llama-bench says of a model.
struct ModelFacts {
  std::string filename;
  std::string type;       // "qwen2vl Q4_K_M": architecture and file type
  uint64_t n_bytes = 0;   // of all tensors
  uint64_t n_params = 0;  // elements of all tensors
};
/// Errors: those of GgufFile::open().
Result<ModelFacts> read_model_facts(const std::string& path);

}  // namespace glimpse::bench
