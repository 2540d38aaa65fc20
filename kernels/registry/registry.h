// Every kernel of every op, for tests, benchmarks and `glimpse --version`: what was compiled, and what this CPU can
// run.
#pragma once

#include <span>
#include <string>

#include "engine/base/cpu_features.h"

namespace glimpse {

struct KernelInfo {
  const char* op;    // the folder: "matmul"
  const char* name;  // the function: "matmul_q4_k_int8x128k_avx512vnni"
  Isa isa;           // lowest level it runs on
};

/// All kernels, ops in alphabetical order, each op in the order of its .inc file.
std::span<const KernelInfo> all_kernels();
/// The kernel of that name, or nullptr.
const KernelInfo* find_kernel(const char* name);
/// One line per op: "matmul: 15 ref, 15 avx2, 3 avx512, 12 avx512vnni, 1 avx512bf16".
std::string describe_kernels();

}  // namespace glimpse
