// Times the CUDA kernels at the shapes of Qwen2-VL 2B against what the same GPU can read and multiply at best, measured
// in the same run. One JSON object per line on standard output, a table on standard error. Exit status: 1 after an
// error, or when kernels for warpgroups give other results than those of other devices; 2 for wrong arguments.
//
//   gpu_bench [MIB]     MIB: device memory that weights rotate over, so that L2 does not serve them (512)
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/gpu_kernel_bench.h"
#include "bench/gpu_rates.h"

namespace glimpse::cuda {
namespace {

struct Shape {
  const char* name;
  int64_t rows, cols;
};
constexpr Shape kDecoder[] = {{"2b qkv 2048x1536", 2048, 1536},
                              {"2b o 1536x1536", 1536, 1536},
                              {"2b gate+up 17920x1536", 17920, 1536},
                              {"2b down 1536x8960", 1536, 8960}};
constexpr Shape kVision[] = {{"vit qkv 3840x1280", 3840, 1280},
                             {"vit o 1280x1280", 1280, 1280},
                             {"vit up 5120x1280", 5120, 1280},
                             {"vit down 1280x5120", 1280, 5120}};

void time_few_rows(KernelBench& b) {
  for (const Format format : {Format::kQ4_K, Format::kQ6_K, Format::kQ8_0, Format::kQ4_0}) {
    for (const Shape& s : kDecoder) b.linear(s.name, format, s.rows, s.cols, 1);
  }
  b.linear("2b head 151936x1536", Format::kQ6_K, 151936, 1536, 1);
  const KernelBench::Decoder decoder = {28, 1536, 2048, 8960, 151936};
  b.token("2b, 113 launches", decoder, false);
  b.token("2b, recorded", decoder, true);
  for (const int64_t n : {2, 4, 8}) b.linear("2b gate+up 17920x1536", Format::kQ4_K, 17920, 1536, n);
  for (const int64_t keys : {128, 1024, 4096, 16384}) b.attention({"decode 12/2 hd 128", 12, 2, 128, 1, keys});
  for (const int64_t keys : {1024, 16384}) {
    b.attention({"decode 12/2 hd 128", 12, 2, 128, 1, keys, CacheType::kQ8_0});
  }
}

// warpgroups: also by the kernels of devices that have them, which are compared with the others; clusters: these also
// in clusters, which are compared with blocks alone.
void time_many_rows(KernelBench& b, bool warpgroups, bool clusters) {
  std::vector<int> wg_columns = {0};  // 0: the kernels of other devices
  if (warpgroups) wg_columns = {0, 64, 128, 256};
  for (const int64_t n : {64, 256, 1024}) {
    for (const Shape& s : kDecoder) {
      for (const int columns : wg_columns) {
        if (columns == 0 || columns == 128 || (n <= 64) == (columns == 64)) {
          b.linear(s.name, Format::kQ4_K, s.rows, s.cols, n, columns);
        }
        if (clusters && columns >= 128 && n > 64) b.linear(s.name, Format::kQ4_K, s.rows, s.cols, n, columns, 2);
      }
    }
  }
  for (const int64_t n : {1024, 5184}) {
    for (const Shape& s : kVision) {
      for (const int columns : wg_columns) {
        if (columns != 64) b.linear(s.name, Format::kBF16, s.rows, s.cols, n, columns);
        if (clusters && columns >= 128) b.linear(s.name, Format::kBF16, s.rows, s.cols, n, columns, 2);
      }
    }
  }
  b.attention({"prefill 12/2 hd 128", 12, 2, 128, 1024, 1024, CacheType::kQ8_0});
  for (const bool of_warpgroups : {false, true}) {
    if (of_warpgroups && !warpgroups) break;
    b.attention({"prefill 12/2 hd 128", 12, 2, 128, 1024, 1024}, of_warpgroups);
    b.attention({"causal 12/2 hd 128", 12, 2, 128, 1024, 1024, CacheType::kF16, true}, of_warpgroups);
    for (const int64_t n : {1024, 5184}) b.attention({"vit 16 hd 80", 16, 16, 80, n, n}, of_warpgroups);
  }
}

int run(uint64_t pool_bytes) {
  const std::shared_ptr<Device> device = need(open_cuda_device([](LogLevel, std::string_view message) {
    std::fprintf(stderr, "gpu_bench: %.*s\n", static_cast<int>(message.size()), message.data());
  }));
  const bench::GpuRates rates = bench::measure_gpu_rates();
  if (!rates.error.empty()) {
    std::fprintf(stderr, "gpu_bench: the rates of the device: %s\n", rates.error.c_str());
    return 1;
  }
  const auto line = [](const std::string& text) {
    if (std::puts(text.c_str()) >= 0 && std::fflush(stdout) == 0) return;
    std::fprintf(stderr, "gpu_bench: writing results: %s\n", std::strerror(errno));
    std::exit(1);
  };
  const auto row = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  line(nlohmann::json({{"kind", "device"},
                       {"name", device->describe()},
                       {"copy_gb_s", rates.copy_gb_s},
                       {"read_gb_s", rates.read_gb_s},
                       {"mma_tflop_s", rates.mma_tflop_s},
                       {"wgmma_tflop_s", rates.wgmma_tflop_s},
                       {"launch_us", rates.launch_us}})
           .dump());
  row(format("%s: copy %.0f GB/s, read %.0f GB/s, mma.sync bf16 %.0f TFLOP/s, wgmma %.0f, launch %.2f us",
             device->describe(), rates.copy_gb_s, rates.read_gb_s, rates.mma_tflop_s, rates.wgmma_tflop_s,
             rates.launch_us));
  KernelBench::Options options;
  options.pool_bytes = pool_bytes;
  KernelBench b(device, options, {rates.read_gb_s, std::max(rates.mma_tflop_s, rates.wgmma_tflop_s), line, row});
  time_few_rows(b);
  time_many_rows(b, device->has_warpgroups(), device->has_clusters());
  for (const std::string& name : b.different()) {
    std::fprintf(stderr, "gpu_bench: DIFFERS: %s\n", name.c_str());
  }
  return b.different().empty() ? 0 : 1;
}

}  // namespace
}  // namespace glimpse::cuda

int main(int argc, char** argv) {
  uint64_t mib = 512;
  if (argc > 1) {
    const char* const end = argv[1] + std::strlen(argv[1]);
    const auto [rest, error] = std::from_chars(argv[1], end, mib);
    if (error != std::errc() || rest != end) mib = 0;
  }
  if (argc > 2 || mib < 256 || mib > 65536) {
    std::fprintf(stderr, "usage: gpu_bench [MIB]   256 to 65536 MiB to rotate weights over\n");
    return 2;
  }
  return glimpse::cuda::run(mib << 20);
}
