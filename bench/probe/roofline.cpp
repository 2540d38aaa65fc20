#include "bench/probe/roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "bench/probe/rates.h"
#include "engine/base/aligned_buffer.h"
#include "engine/base/thread_team.h"

namespace glimpse::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Entry {
  Arithmetic arithmetic;
  Isa isa;
  const char* name;
  RateFn run;
};
const Entry kEntries[kArithmetics] = {
    {Arithmetic::kBaseline, Isa::kRef, "f32 baseline", fma_rate_ref},
    {Arithmetic::kFmaAvx2, Isa::kAvx2, "f32 avx2", fma_rate_avx2},
    {Arithmetic::kFmaAvx512, Isa::kAvx512, "f32 avx512", fma_rate_avx512},
    {Arithmetic::kInt8Avx2, Isa::kAvx2, "int8 avx2", int8_rate_avx2},
    {Arithmetic::kInt8AvxVnni, Isa::kAvxVnni, "int8 avxvnni", int8_rate_avxvnni},
    {Arithmetic::kInt8Vnni, Isa::kAvx512Vnni, "int8 vnni", int8_rate_avx512vnni},
    {Arithmetic::kBf16, Isa::kAvx512Bf16, "bf16", bf16_rate_avx512bf16},
};

const Entry& entry(Arithmetic arithmetic) {
  return kEntries[static_cast<size_t>(arithmetic)];
}

ReadFn read_function(Isa isa) {
  if (isa.has(Isa::kAvx512)) return read_bytes_avx512;
  return isa.has(Isa::kAvx2) ? read_bytes_avx2 : read_bytes_ref;
}

Result<double> read_bandwidth(Isa isa, ThreadTeam& team, const RooflineOptions& options) {
  constexpr uint64_t kPiece = 4096;
  const auto n_pieces = static_cast<int64_t>(options.n_bytes / kPiece);
  GLIMPSE_ASSIGN(AlignedBuffer buffer, AlignedBuffer::allocate(options.n_bytes, "the bandwidth probe"));
  const auto piece = [&](int64_t index) { return buffer.data() + static_cast<uint64_t>(index) * kPiece; };
  const Grain grain{.most = 256, .least = 16};
  team.for_ranges(n_pieces, grain, [&](int thread, int64_t begin, int64_t end) {  // every page gets memory of its own
    std::memset(piece(begin), thread + 1, static_cast<size_t>(end - begin) * kPiece);
  });
  const ReadFn read = read_function(isa);
  std::atomic<uint64_t> sink{0};
  double best = 0;
  team.pass([&] {
    for (int pass = 0; pass < options.passes; ++pass) {
      const auto start = Clock::now();
      team.for_ranges(n_pieces, grain, [&](int, int64_t begin, int64_t end) {
        sink += read(piece(begin), static_cast<size_t>(end - begin) * kPiece);
      });
      best = std::max(best, static_cast<double>(n_pieces * int64_t{kPiece}) / seconds_since(start));
    }
  });
  return best;
}

double multiply_rate(RateFn run, ThreadTeam& team, const RooflineOptions& options) {
  float sink = 0;
  const auto start = Clock::now();
  const double trial = run(1e7, &sink);
  const double operations = trial / std::max(1e-9, seconds_since(start)) * options.seconds_per_rate;
  double best = 0;
  team.pass([&] {
    for (int pass = 0; pass < options.rate_passes; ++pass) {
      std::atomic<int64_t> done{0};
      std::atomic<float> results{0};
      const auto pass_start = Clock::now();
      team.for_each(team.n_threads(), [&](int, int64_t) {
        float result = 0;
        done += static_cast<int64_t>(run(operations, &result));
        results.store(result, std::memory_order_relaxed);
      });
      best = std::max(best, static_cast<double>(done.load()) / seconds_since(pass_start));
    }
  });
  return best;
}

}  // namespace

const char* arithmetic_name(Arithmetic arithmetic) {
  return entry(arithmetic).name;
}
Isa arithmetic_isa(Arithmetic arithmetic) {
  return entry(arithmetic).isa;
}

Arithmetic int8_arithmetic(Isa isa) {
  if (isa.has(Isa::kAvx512Vnni)) return Arithmetic::kInt8Vnni;
  return isa.has(Isa::kAvxVnni) ? Arithmetic::kInt8AvxVnni : Arithmetic::kInt8Avx2;
}

double Roofline::int8_rate() const {
  return std::max({rate(Arithmetic::kInt8Avx2), rate(Arithmetic::kInt8AvxVnni), rate(Arithmetic::kInt8Vnni)});
}
double Roofline::f32_rate() const {
  return std::max({rate(Arithmetic::kBaseline), rate(Arithmetic::kFmaAvx2), rate(Arithmetic::kFmaAvx512)});
}

Result<Roofline> measure_roofline(Isa isa, int n_threads, const RooflineOptions& options) {
  if (n_threads < 1 || options.n_bytes < 4096 * static_cast<uint64_t>(std::max(1, n_threads)) || options.passes < 1 ||
      options.rate_passes < 1 || !(options.seconds_per_rate > 0)) {
    return make_error(ErrorCode::kInvalidArgument, "a roofline of %d threads over %d bytes", n_threads,
                      options.n_bytes);
  }
  ThreadTeam team(n_threads);
  Roofline roofline;
  roofline.n_threads = n_threads;
  GLIMPSE_ASSIGN(roofline.bytes_per_second, read_bandwidth(isa, team, options));
  for (const Entry& e : kEntries) {
    if (isa.has(e.isa))
      roofline.flop_per_second[static_cast<size_t>(e.arithmetic)] = multiply_rate(e.run, team, options);
  }
  return roofline;
}

}  // namespace glimpse::bench
