#include "kernels/registry/registry.h"

#include <cstring>
#include <map>

namespace glimpse {
namespace {

// An op joins the registry by its .inc file: define GLIMPSE_KERNEL with its parameters, include the file, undefine.
constexpr KernelInfo kKernels[] = {
#define GLIMPSE_KERNEL(isa, element, function) {"attention", #function, Isa::isa},
#include "kernels/attention/attention_kernels.inc"
#define GLIMPSE_KERNEL(isa, weights, activations, function) {"matmul", #function, Isa::isa},
#include "kernels/matmul/matmul_kernels.inc"
#undef GLIMPSE_KERNEL
};

}  // namespace

std::span<const KernelInfo> all_kernels() {
  return kKernels;
}

const KernelInfo* find_kernel(const char* name) {
  for (const KernelInfo& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

std::string describe_kernels() {
  std::map<std::string, std::map<Isa, int>> counts;
  for (const KernelInfo& kernel : kKernels) ++counts[kernel.op][kernel.isa];
  std::string text;
  for (const auto& [op, levels] : counts) {
    text += op + ":";
    const char* separator = " ";
    for (const auto& [isa, count] : levels) {
      text += separator + std::to_string(count) + " " + isa_name(isa);
      separator = ", ";
    }
    text += "\n";
  }
  return text;
}

}  // namespace glimpse
