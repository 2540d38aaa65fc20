// glimpse_kernel_bench: every kernel alone, on one thread, against the roofline of the moment. Flags: Google
// Benchmark's own (--benchmark_filter, --benchmark_format, ...) and those of usage() below.
#include <benchmark/benchmark.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/kernels/kernel_row.h"

namespace {

using namespace glimpse;
using namespace glimpse::bench;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Settings {
  bool quick = false;
  uint64_t rotate_mib = 512;
  Isa isa = Isa::kRef;  // the level to run on
};

void usage() {
  std::puts(
      "glimpse_kernel_bench: every kernel alone, on one thread\n"
      "  --quick           the smallest shape of each kernel, operands that stay in cache\n"
      "  --rotate-mib=N    weights, keys and values rotate over so many MiB (default 512)\n"
      "and the flags of Google Benchmark, of which the most useful are\n"
      "  --benchmark_list_tests  --benchmark_filter=REGEX  --benchmark_min_time=SECONDS  --benchmark_format=json\n"
      "Names: KERNEL/SHAPE, e.g. --benchmark_filter='q4_k.*avx512vnni/2b/.*n:1$'. GLIMPSE_FORCE_ISA limits the level.");
}

// Other work on the machine changes what is possible from one second to the next.
const Roofline& current_roofline(Isa isa) {
  constexpr double kSeconds = 15;
  static Roofline roofline;
  static Clock::time_point measured;
  if (!roofline.measured() || seconds_since(measured) > kSeconds) {
    const Result<Roofline> result = measure_roofline(isa, 1, {});
    if (result.ok()) roofline = result.value();
    measured = Clock::now();
  }
  return roofline;
}

void measure(benchmark::State& state, const KernelRow& row, const Settings& settings) {
  if (!settings.isa.has(row.isa)) {
    state.SkipWithError(
        (std::string("needs ") + isa_name(row.isa) + ", this run has " + isa_name(settings.isa)).c_str());
    return;
  }
  const Roofline roofline = current_roofline(settings.isa);
  const auto prepared = row.prepare(settings.quick ? 0 : settings.rotate_mib << 20);
  if (!prepared.ok()) {
    state.SkipWithError(prepared.error().message.c_str());
    return;
  }
  KernelRun& run = *prepared.value();
  const double error = run.nmse();
  run.run();  // touches what is written
  // Processor time: it leaves out what the machine gives to somebody else, and a kernel never waits otherwise.
  const double start = thread_seconds();
  for (auto _ : state) run.run();
  const double seconds = (thread_seconds() - start) / static_cast<double>(state.iterations());
  state.counters["GB/s"] = row.bytes / seconds * 1e-9;
  if (row.flop > 0) state.counters["GOP/s"] = row.flop / seconds * 1e-9;
  state.counters["pct_roofline"] = 100 * floor_seconds(row, roofline) / seconds;
  state.counters["roof_GB/s"] = roofline.bytes_per_second * 1e-9;
  if (row.flop > 0) state.counters["roof_GOP/s"] = roofline.rate(row.arithmetic) * 1e-9;
  state.counters["nmse"] = error;
}

// Takes our flags out of the list; false: there is something wrong with one.
bool parse(int& argc, char** argv, Settings& settings) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    constexpr const char* kRotate = "--rotate-mib=";
    if (std::strcmp(argv[i], "--quick") == 0) {
      settings.quick = true;
    } else if (std::strncmp(argv[i], kRotate, std::strlen(kRotate)) == 0) {
      char* end = nullptr;
      settings.rotate_mib = std::strtoull(argv[i] + std::strlen(kRotate), &end, 10);
      if (*end != '\0' || end == argv[i] + std::strlen(kRotate) || settings.rotate_mib > (1u << 20)) {
        std::fprintf(stderr, "glimpse_kernel_bench: %s: want 0 to 1048576\n", argv[i]);
        return false;
      }
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    usage();
    return 0;
  }
  Settings settings;
  if (!parse(argc, argv, settings)) return 2;
  const Result<Isa> isa = selected_isa();
  if (!isa.ok()) {
    std::fprintf(stderr, "glimpse_kernel_bench: %s\n", isa.error().message.c_str());
    return 2;
  }
  settings.isa = isa.value();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("isa", isa_name(settings.isa));
  benchmark::AddCustomContext("rotate_mib", settings.quick ? "0" : std::to_string(settings.rotate_mib));

  const std::vector<KernelRow> all = kernel_rows();
  const std::vector<KernelRow> rows = settings.quick ? smallest_rows(all) : all;
  for (const KernelRow& row : rows) {
    benchmark::RegisterBenchmark(row.name().c_str(),
                                 [&row, &settings](benchmark::State& state) { measure(state, row, settings); });
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
