#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kernels/matmul/matmul.h"
#include "kernels/registry/registry.h"

namespace glimpse::test {
namespace {

TEST(Registry, ListsEveryMatmulKernelOnce) {
  std::set<std::string> names;
  for (const KernelInfo& kernel : all_kernels()) EXPECT_TRUE(names.insert(kernel.name).second) << kernel.name;
  for (const PanelKernel& kernel : panel_kernels()) {
    const KernelInfo* info = find_kernel(kernel.name);
    ASSERT_NE(info, nullptr) << kernel.name;
    EXPECT_STREQ(info->op, "matmul");
    EXPECT_EQ(info->isa, kernel.isa);
  }
  EXPECT_EQ(find_kernel("matmul_of_nothing"), nullptr);
}

TEST(Registry, NamesEndInTheIsaTheyNeed) {
  for (const KernelInfo& kernel : all_kernels()) {
    const std::string suffix = std::string("_") + isa_name(kernel.isa), name = kernel.name;
    ASSERT_GE(name.size(), suffix.size());
    EXPECT_EQ(name.substr(name.size() - suffix.size()), suffix);
    EXPECT_EQ(name.rfind(std::string(kernel.op) + "_", 0), 0u) << name;
  }
}

TEST(Registry, DescribesEachOpInOneLine) {
  EXPECT_NE(describe_kernels().find("matmul: 16 ref, 16 avx2, 3 avx512, 13 avx512vnni, 1 avx512bf16\n"),
            std::string::npos)
      << describe_kernels();
}

}  // namespace
}  // namespace glimpse::test
