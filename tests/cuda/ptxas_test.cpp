// What ptxas says about every kernel: no register may live in local memory, and none may need more than leaves room for
// the blocks per multiprocessor that kernels.inc names.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "kernels/cuda/kernels.h"

namespace glimpse::cuda {
namespace {

#if defined(GLIMPSE_PTXAS_DIR)
struct Usage {
  int registers = 0, stack = 0, spill_stores = 0, spill_loads = 0;
};

// {kernel name: {architecture: usage}}; functions that a kernel calls count as its own.
std::map<std::string, std::map<std::string, Usage>> parse_report(std::istream& in) {
  static const std::regex kEntry("Compiling entry function '_ZN7glimpse4cuda[0-9]+(\\w+)_kernelE\\w*' for '(\\w+)'");
  static const std::regex kStack("(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill loads");
  static const std::regex kRegisters("Used (\\d+) registers");
  std::map<std::string, std::map<std::string, Usage>> report;
  Usage* usage = nullptr;
  std::smatch m;
  for (std::string line; std::getline(in, line);) {
    if (std::regex_search(line, m, kEntry)) {
      usage = &report[m[1].str()][m[2].str()];
    } else if (usage != nullptr && std::regex_search(line, m, kStack)) {
      usage->stack += std::stoi(m[1]), usage->spill_stores += std::stoi(m[2]), usage->spill_loads += std::stoi(m[3]);
    } else if (usage != nullptr && std::regex_search(line, m, kRegisters)) {
      usage->registers = std::stoi(m[1]);
    }
  }
  return report;
}
#endif

TEST(PtxasReport, NoKernelSpillsOrUsesTooManyRegisters) {
#if !defined(GLIMPSE_PTXAS_DIR)
  GTEST_SKIP() << "built without CUDA";
#else
  std::map<std::string, std::map<std::string, Usage>> report;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(GLIMPSE_PTXAS_DIR)) {
    if (entry.path().extension() != ".ptxas") continue;
    std::ifstream in(entry.path());
    report.merge(parse_report(in));
  }
  for (int i = 0; i < kKernels; ++i) {
    const KernelInfo& info = kernel_info(static_cast<Kernel>(i));
    const auto found = report.find(info.name);
    ASSERT_NE(found, report.end()) << info.name << ": ptxas said nothing";
    for (const auto& [architecture, usage] : found->second) {
      SCOPED_TRACE(std::string(info.name) + " for " + architecture);
      EXPECT_EQ(usage.spill_stores, 0);
      EXPECT_EQ(usage.spill_loads, 0);
      EXPECT_EQ(usage.stack, 0);
      EXPECT_GT(usage.registers, 0);
      EXPECT_LE(usage.registers * info.n_threads * info.blocks_per_sm, 65536);
    }
  }
#endif
}

// ptxas may wait after each product of a warpgroup, and says so; the kernel would still be right, and slow.
TEST(PtxasReport, ProductsOfWarpgroupsOverlap) {
#if !defined(GLIMPSE_PTXAS_DIR)
  GTEST_SKIP() << "built without CUDA";
#else
  for (const auto& entry : std::filesystem::recursive_directory_iterator(GLIMPSE_PTXAS_DIR)) {
    if (entry.path().extension() != ".ptxas") continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      EXPECT_EQ(line.find("Performance Loss"), std::string::npos) << line;
    }
  }
#endif
}

#if defined(GLIMPSE_PTXAS_DIR) && defined(GLIMPSE_CUOBJDUMP)
// Adds {mangled name: its instructions for sm_90a}.
void disassemble(const std::string& object, std::map<std::string, std::string>& functions) {
  const std::string command = "'" GLIMPSE_CUOBJDUMP "' -sass -arch sm_90a '" + object + "' 2>/dev/null";
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return;
  std::string* body = nullptr;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) {
    const std::string line = buffer;
    const size_t at = line.find("Function : ");
    if (at != std::string::npos) {
      body = &functions[line.substr(at + 11, line.find_last_not_of(" \n") + 1 - (at + 11))];
    } else if (body != nullptr) {
      *body += line;
    }
  }
  pclose(pipe);
}

// Those of some units of this build.
std::map<std::string, std::string> functions_of(std::initializer_list<const char*> units) {
  std::map<std::string, std::string> functions;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(GLIMPSE_PTXAS_DIR)) {
    for (const char* const unit : units) {
      if (entry.path().filename() == unit) disassemble(entry.path().string(), functions);
    }
  }
  return functions;
}
#endif

#if defined(GLIMPSE_PTXAS_DIR) && defined(GLIMPSE_CUOBJDUMP)
// From the first product to the last nobody waits for memory, and no cache is emptied.
void expect_no_fence_among_products(const std::string& body) {
  const size_t first = body.find("HGMMA"), last = body.rfind("HGMMA");
  for (const char* const text : {"MEMBAR", "CCTL", "ERRBAR"}) {
    const size_t at = body.find(text, first);
    EXPECT_TRUE(at == std::string::npos || at > last) << text;
  }
}
#endif

TEST(Sass, ProductsOfWarpgroupsAreHopperInstructions) {
#if !defined(GLIMPSE_PTXAS_DIR) || !defined(GLIMPSE_CUOBJDUMP)
  GTEST_SKIP() << "needs nvcc and cuobjdump";
#else
  const auto functions = functions_of({"kernels_warpgroup.cu.o", "kernels_attention.cu.o"});
  if (functions.empty()) GTEST_SKIP() << "this build has no code for sm_90a";
  int n_products = 0, n_attention = 0;
  const auto expect_in = [](const std::string& body, const std::string& text) {
    EXPECT_NE(body.find(text), std::string::npos) << text;
  };
  for (const auto& [name, body] : functions) {
    SCOPED_TRACE(name);
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (has("gemm_warpgroup_")) {
      ++n_products;
      expect_in(body, std::string("HGMMA.64x") +
                          (has("_64_kernel")    ? "64"
                           : has("_128_kernel") ? "128"
                                                : "256") +
                          "x16.F32.BF16");
      expect_in(body, "UBLKCP.S.G [");
      const bool clusters = !has("_64_kernel");
      for (const char* const text : {"UBLKCP.S.G.MULTICAST", "UCGABAR_ARV", "UCGABAR_WAIT"}) {
        EXPECT_EQ(body.find(text) != std::string::npos, clusters) << text;
      }
      // Predicated: beside a branch ptxas makes products wait.
      const size_t arrival = body.find("SYNCS.ARRIVE.TRANS64.RED");
      ASSERT_NE(arrival, std::string::npos);
      EXPECT_NE(body.substr(body.rfind('\n', arrival), arrival - body.rfind('\n', arrival)).find("@"),
                std::string::npos);
      if (clusters) {
        expect_in(body, "0x654");  // mapa
      }
      expect_no_fence_among_products(body);
    } else if (has("attend_warpgroup_")) {
      ++n_attention;
      const std::string type = has("_bf16_") ? "x16.F32.BF16" : "x16.F32";
      expect_in(body, "HGMMA.64x64" + type);
      expect_in(body, std::string("HGMMA.64x") + (has("_64_kernel") ? "64" : has("_80_kernel") ? "80" : "128") + type);
      expect_in(body, "tnspB");
      expect_in(body, "LDGSTS");
    } else {
      continue;
    }
    expect_in(body, "SYNCS");  // barriers in shared memory
    EXPECT_EQ(body.find("LDL"), std::string::npos);
    EXPECT_EQ(body.find("STL"), std::string::npos);
  }
  EXPECT_EQ(n_attention, 6);
  EXPECT_EQ(n_products, 3 * 19);
#endif
}

// What is the same for all launches of a format is a constant in its kernels, and the compiler knows what memory
// pointers are to: a search through the table of formats once cost each product of a step more than its weights did.
TEST(Sass, ProductsOfFewRowsReadGlobalMemoryAlone) {
#if !defined(GLIMPSE_PTXAS_DIR) || !defined(GLIMPSE_CUOBJDUMP)
  GTEST_SKIP() << "needs nvcc and cuobjdump";
#else
  const auto functions = functions_of({"kernels_gemv.cu.o"});
  if (functions.empty()) GTEST_SKIP() << "this build has no code for sm_90a";
  int n_kernels = 0;
  for (const auto& [name, body] : functions) {
    if (name.find("gemv_") == std::string::npos) continue;
    ++n_kernels;
    EXPECT_EQ(body.find(" LD.E"), std::string::npos) << name;
  }
  EXPECT_EQ(n_kernels, 3 * 20 + 2);
#endif
}

}  // namespace
}  // namespace glimpse::cuda
