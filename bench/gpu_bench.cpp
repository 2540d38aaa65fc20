// Times the CUDA kernels at the shapes of Qwen2-VL 2B against what the same GPU can read and multiply at best, measured
// in the same run. One JSON object per line on standard output, a table on standard error.
//
//   gpu_bench [MIB]     MIB: device memory that weights rotate over, so that L2 does not serve them (512)
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "bench/gpu_rates.h"
#include "engine/runtime/cuda/cuda_ops.h"
#include "engine/runtime/cuda/weights_ahead.h"

namespace glimpse::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

template <typename T>
T need(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "gpu_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}
void need(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "gpu_bench: %s\n", status.error().message.c_str());
  std::exit(1);
}

class Bench {
 public:
  Bench(std::shared_ptr<Device> device, const bench::GpuRates& rates, uint64_t pool_bytes)
      : device_(std::move(device)), stream_(need(device_->make_stream())), rates_(rates) {
    pool_ = need(Memory::on_device(device_, pool_bytes, "weights to rotate over"));
    floats_ = need(Memory::on_device(device_, kFloats * sizeof(float), "activations"));
    // Random codes; scales of any size, which do not matter to the clock. NaN would not either, but has its own paths.
    std::vector<uint32_t> random(16 << 20);
    std::mt19937 engine(1);
    for (uint32_t& word : random) word = engine() & 0xbfffbfffu;
    for (uint64_t at = 0; at < pool_bytes; at += random.size() * 4) {
      need(stream_->copy_in(pool_.as<uint8_t>() + at, random.data(), std::min(random.size() * 4, pool_bytes - at)));
    }
    std::vector<float> values(4 << 20);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(engine);
    for (uint64_t at = 0; at < kFloats; at += values.size()) {
      need(stream_->copy_in(floats_.as<float>() + at, values.data(), values.size() * sizeof(float)));
    }
    need(stream_->synchronize());
  }

  // y (n, rows) = W (rows, cols) x (n, cols); many columns by the products of warpgroups, with blocks of so many
  // columns, where asked for.
  void linear(const char* label, Format format, int64_t rows, int64_t cols, int64_t n, int wg_columns = 0) {
    const bool warpgroups = wg_columns > 0;
    WeightView view;
    const uint64_t bytes = lay_out(format, rows, cols, view);
    const uint64_t copies = std::max<uint64_t>(1, pool_.size() / bytes);
    const int64_t ld = view.column_tiles * kTileColumns;
    const bool many = n > CudaOps::kFewRows && format != Format::kF32;
    const auto launch = [&](uint64_t i) {
      LinearArgs args = linear_args(view, i % copies * bytes / 256 * 256, rows, cols, n);
      if (many) {
        RowsArgs r;
        r.x = args.x;
        r.ld_x = cols;
        r.n = args.n;
        r.k = args.k;
        r.out = reinterpret_cast<uint16_t*>(floats_.as<float>() + kFloats / 4);
        r.ld_out = ld;
        need(launcher_->launch(warpgroups ? Kernel::rows_tiled : Kernel::rows_bf16,
                               LaunchShape{{rows_blocks(n), 1, 1}, 0}, &r));
        args.act = r.out;
        args.ld_act = ld;
        const int64_t columns = warpgroups ? wg_columns : kGemmColumnsPerBlock;
        const int64_t groups = (args.segment[0].n_pairs + kGemmPairsPerBlock - 1) / kGemmPairsPerBlock;
        const int64_t column_groups = (n + columns - 1) / columns;
        if (wg_columns == 64 || wg_columns == 128) share_chunks(args, groups * column_groups);
        need(launcher_->launch(warpgroups ? gemm_warpgroup_kernel(format, wg_columns) : gemm_kernel(format),
                               LaunchShape{{groups, column_groups, args.n_splits},
                                           warpgroups ? gemm_warpgroup_shared_bytes(wg_columns) : gemm_shared_bytes()},
                               &args));
        return;
      }
      gemv(format, args);
    };
    const std::string kind = warpgroups ? "linear_" + std::to_string(wg_columns) : "linear";
    report(kind.c_str(), label, dtype_name(format), rows, cols, n, launch,
           static_cast<double>(bytes) + 4.0 * static_cast<double>(n * (rows + cols)),
           2.0 * static_cast<double>(rows) * static_cast<double>(cols * n));
  }

  // The products of one token of the 2B decoder in Q4_K and Q6_K, one after another: launch by launch, or recorded and
  // played, which shows what launches cost and what overlapping them gains.
  void token(const char* label, bool recorded) {
    uint64_t at = 0;
    double bytes = 0, weights = 0;
    const auto product = [&](Format format, int64_t rows, int64_t cols) {
      WeightView view;
      const uint64_t n_bytes = lay_out(format, rows, cols, view);
      if (at + n_bytes > pool_.size()) at = 0;
      gemv(format, linear_args(view, at, rows, cols, 1));
      at += (n_bytes + 255) / 256 * 256;
      bytes += static_cast<double>(n_bytes);
      weights += static_cast<double>(rows) * static_cast<double>(cols);
    };
    const auto all = [&] {
      for (int layer = 0; layer < 28; ++layer) {
        product(Format::kQ4_K, 2048, 1536);
        product(Format::kQ4_K, 1536, 1536);
        product(Format::kQ4_K, 17920, 1536);
        product(Format::kQ4_K, 1536, 8960);
      }
      product(Format::kQ6_K, 151936, 1536);
    };
    all();
    const double bytes_once = bytes, flop = 2 * weights;
    if (!recorded) {
      report(
          "token", label, "Q4_K", 0, 0, 1, [&](uint64_t) { all(); }, bytes_once, flop, Timing::kLaunches);
      return;
    }
    const std::shared_ptr<const Recording> recording = record(all);
    report(
        "token", label, "Q4_K", 0, 0, 1, [&](uint64_t) { need(stream_->play(recording)); }, bytes_once, flop,
        Timing::kLaunches);
  }

  struct Attention {
    const char* label;
    int64_t heads, kv_heads, dim, rows, keys;
    CacheType type = CacheType::kBf16;
    bool causal = false;
  };
  // warpgroups: many rows by the kernels of devices that have them.
  void attention(const Attention& a, bool warpgroups = false) {
    AttentionArgs args = attention_args(a);
    const bool q8 = a.type == CacheType::kQ8_0;
    const int padded = args.kv.padded_dim;
    const int64_t row_bytes = q8 ? padded + 2 * scale_blocks(padded) : 2 * padded;
    // Another cache each time, as a decoder's layers have their own: one alone would stay in L2.
    const int64_t half_bytes = (a.kv_heads * args.kv.capacity * row_bytes + 255) / 256 * 256;
    const uint64_t copies = std::max<uint64_t>(1, pool_.size() / (2 * static_cast<uint64_t>(half_bytes)));
    const auto launch = [&](uint64_t i) {
      args.kv.keys = pool_.as<std::byte>() + i % copies * 2 * static_cast<uint64_t>(half_bytes);
      args.kv.values = static_cast<std::byte*>(args.kv.keys) + half_bytes;
      if (a.rows > CudaOps::kFewRows) return attend_many_rows(args, warpgroups);
      args.n_splits = static_cast<int32_t>((a.keys + kKeysPerSplit - 1) / kKeysPerSplit);
      args.partial = floats_.as<float>() + kFloats / 4;
      args.tickets = tickets();
      const int group =
          attend_heads(a.type, args.group, a.rows * a.kv_heads * args.n_splits, device_->n_multiprocessors());
      need(launcher_->launch(attend_rows_kernel(a.type, group),
                             LaunchShape{{a.rows, a.kv_heads * ((args.group + group - 1) / group), args.n_splits},
                                         attend_rows_shared_bytes(group, padded)},
                             &args));
    };
    const int64_t hidden = a.causal ? a.rows * (a.rows - 1) / 2 : 0;
    report(warpgroups ? "attend_wg" : "attention", a.label,
           q8                          ? "Q8_0"
           : a.type == CacheType::kF16 ? "F16"
                                       : "BF16",
           a.heads, a.keys, a.rows, launch, 2.0 * static_cast<double>(row_bytes * a.kv_heads * a.keys),
           4.0 * static_cast<double>((a.rows * a.keys - hidden) * a.heads * a.dim));
    if (warpgroups) compare_attention(a, args);
  }
  bool all_same() const { return all_same_; }

 private:
  static constexpr uint64_t kFloats = 256u << 20;

  AttentionArgs attention_args(const Attention& a) const {
    AttentionArgs args;
    args.kv.type = a.type;
    args.kv.head_dim = static_cast<int32_t>(a.dim);
    args.kv.padded_dim = static_cast<int32_t>(padded_head_dim(a.dim));
    args.kv.n_heads = static_cast<int32_t>(a.kv_heads);
    args.kv.capacity = (a.keys + 255) / 256 * 256;
    args.q = floats_.as<float>();
    args.out = floats_.as<float>() + kFloats / 2;
    args.ld_q = args.ld_out = a.heads * a.dim;
    args.n_heads = static_cast<int32_t>(a.heads);
    args.group = static_cast<int32_t>(a.heads / a.kv_heads);
    args.n = static_cast<int32_t>(a.rows);
    args.n_keys = a.keys;
    args.causal = a.causal ? 1 : 0;
    args.at.n_past = a.keys - a.rows;
    args.scale = 0.1f;
    return args;
  }
  void attend_many_rows(const AttentionArgs& args, bool warpgroups) {
    const AttendMany many = attend_many(args.kv.type, args.kv.padded_dim, warpgroups);
    need(launcher_->launch(
        many.kernel, LaunchShape{{(args.n + many.rows - 1) / many.rows, args.n_heads, 1}, many.shared_bytes}, &args));
  }
  // Both kernels on the same values: order of sums and rounding of weights leave less than a millionth.
  void compare_attention(const Attention& a, const AttentionArgs& args) {
    std::vector<float> out[2];
    for (const bool warpgroups : {false, true}) {
      out[warpgroups].resize(static_cast<size_t>(a.rows * args.ld_out));
      const uint64_t n_bytes = out[warpgroups].size() * sizeof(float);
      need(stream_->zero(args.out, n_bytes));
      attend_many_rows(args, warpgroups);
      need(stream_->copy_out(out[warpgroups].data(), args.out, n_bytes));
      need(stream_->synchronize());
    }
    double error = 0, norm = 0;
    for (size_t i = 0; i < out[0].size(); ++i) {
      const double difference = static_cast<double>(out[1][i]) - out[0][i];
      error += difference * difference;
      norm += static_cast<double>(out[0][i]) * out[0][i];
    }
    const double nmse = error / norm;
    const bool same = nmse < 1e-6;  // not NaN either
    all_same_ = all_same_ && same;
    std::puts(json({{"kind", "same"}, {"name", a.label}, {"n", a.rows}, {"nmse", nmse}}).dump().c_str());
    std::fprintf(stderr, "%-10s %-22s n %5lld  %s other devices' kernel, nmse %.1e\n", "attend_wg", a.label,
                 static_cast<long long>(a.rows), same ? "as" : "DIFFERS from", nmse);
  }

  LinearArgs linear_args(const WeightView& view, uint64_t at, int64_t rows, int64_t cols, int64_t n) const {
    LinearArgs args;
    args.n_segments = 1;
    Segment& s = args.segment[0];
    s.w[0] = s.w[1] = view;
    s.w[0].data = s.w[1].data = pool_.as<uint8_t>() + at;
    s.n_pairs = count_pairs(s);
    s.out = floats_.as<float>() + kFloats / 2;
    s.ld = rows;
    args.n = static_cast<int32_t>(n);
    args.k = static_cast<int32_t>(cols);
    args.x = floats_.as<float>();
    args.ld_x = cols;
    return args;
  }

  // As CudaPass does it.
  void share_chunks(LinearArgs& args, int64_t blocks) {
    const int k_tiles = args.segment[0].w[0].column_tiles;
    args.chunk_tiles = gemm_chunk_tiles(k_tiles);
    args.n_splits = gemm_splits(blocks, k_tiles, device_->n_multiprocessors());
    if (args.n_splits == 1) return;
    const uint64_t n_bytes = static_cast<uint64_t>(blocks * args.n_splits) * kGemmBlockResults * sizeof(float);
    if (partials_.size() < n_bytes) partials_ = need(Memory::on_device(device_, n_bytes, "sums of chunks"));
    args.partial = partials_.as<float>();
    args.tickets = tickets();
  }

  void gemv(Format format, const LinearArgs& args) {
    const int columns = gemv_columns(format, args.n, args.segment[0].w[0].column_tiles, device_->max_shared_bytes());
    const int n_pairs = args.segment[0].n_pairs;
    const Kernel kernel = gemv_kernel(format, columns);
    const int64_t groups = (args.n + columns - 1) / columns;
    need(launcher_->launch(kernel,
                           LaunchShape{{gemv_blocks(n_pairs, groups, device_->n_multiprocessors()), groups, 1},
                                       gemv_shared_bytes(format, columns, args.segment[0].w[0].column_tiles)},
                           &args));
  }

  int32_t* tickets() {
    if (tickets_.size() == 0) tickets_ = need(Memory::on_device(device_, 4096, "tickets"));
    return tickets_.as<int32_t>();
  }

  template <typename Work>
  std::shared_ptr<const Recording> record(const Work& work) {
    const std::unique_ptr<LaunchRecorder> recorder = need(stream_->record());
    WeightsAhead launcher(*recorder);
    launcher_ = &launcher;
    work();
    launcher_ = stream_.get();
    need(launcher.finish());
    return need(recorder->finish());
  }

  // Microseconds of each of `count` launches, several times: as a recording, whose kernels overlap as those of a decode
  // step do and in which the host has no part; or launched one by one.
  enum class Timing { kReplays, kLaunches };
  template <typename Launch>
  std::vector<double> time_replays(const Launch& launch, uint64_t count) {
    launch(0);  // what is allocated at the first launch cannot be recorded
    need(stream_->synchronize());
    const std::shared_ptr<const Recording> recording = record([&] {
      for (uint64_t i = 0; i < count; ++i) launch(i);
    });
    return time([&] { need(stream_->play(recording)); }, count);
  }
  template <typename Launch>
  std::vector<double> time_launches(const Launch& launch, uint64_t count) {
    const auto all = [&] {
      for (uint64_t i = 0; i < count; ++i) launch(i);
    };
    return time(all, count);
  }
  template <typename Work>
  std::vector<double> time(const Work& work, uint64_t count) {
    std::vector<double> us;
    for (int batch = 0; batch < 9; ++batch) {
      const auto begin = Clock::now();
      work();
      need(stream_->synchronize());
      const double here = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
      if (batch > 0) us.push_back(here / static_cast<double>(count));
    }
    return us;
  }

  template <typename Launch>
  void report(const char* kind, const char* label, const char* type, int64_t m, int64_t k, int64_t columns,
              const Launch& launch, double bytes, double flop, Timing timing = Timing::kReplays) {
    // Enough launches that the weights of one replay do not fit into L2.
    const auto n = static_cast<uint64_t>(std::clamp(256e6 / bytes, 20.0, 192.0));
    std::vector<double> us = timing == Timing::kReplays ? time_replays(launch, n) : time_launches(launch, 20);
    std::sort(us.begin(), us.end());
    const double median = us[us.size() / 2];
    const double tflop_s = std::max(rates_.mma_tflop_s, rates_.wgmma_tflop_s);
    const double floor_us = std::max(bytes / (rates_.read_gb_s * 1e3), flop / (tflop_s * 1e6));
    const json line = {{"kind", kind},
                       {"name", label},
                       {"type", type},
                       {"m", m},
                       {"k", k},
                       {"n", columns},
                       {"median_us", median},
                       {"min_us", us.front()},
                       {"gb_s", bytes / median * 1e-3},
                       {"tflop_s", flop / median * 1e-6},
                       {"of_roofline", floor_us / median}};
    std::puts(line.dump().c_str());
    std::fflush(stdout);
    std::fprintf(stderr, "%-10s %-22s %-5s n %5lld  %9.2f us  %7.0f GB/s  %7.1f TFLOP/s  %5.1f%% of roofline\n", kind,
                 label, type, static_cast<long long>(columns), median, bytes / median * 1e-3, flop / median * 1e-6,
                 100 * floor_us / median);
  }

  std::shared_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  Launcher* launcher_ = stream_.get();  // or a recorder
  const bench::GpuRates rates_;
  Memory pool_, floats_, tickets_, partials_;
  bool all_same_ = true;
};

int run(uint64_t pool_bytes) {
  const std::shared_ptr<Device> device = need(open_cuda_device());
  const bench::GpuRates rates = bench::measure_gpu_rates();
  if (!rates.error.empty()) {
    std::fprintf(stderr, "gpu_bench: the rates of the device: %s\n", rates.error.c_str());
    return 1;
  }
  std::puts(json({{"kind", "device"},
                  {"name", device->describe()},
                  {"copy_gb_s", rates.copy_gb_s},
                  {"read_gb_s", rates.read_gb_s},
                  {"mma_tflop_s", rates.mma_tflop_s},
                  {"wgmma_tflop_s", rates.wgmma_tflop_s},
                  {"launch_us", rates.launch_us}})
                .dump()
                .c_str());
  std::fprintf(stderr, "%s: copy %.0f GB/s, read %.0f GB/s, mma.sync bf16 %.0f TFLOP/s, wgmma %.0f, launch %.2f us\n",
               device->describe().c_str(), rates.copy_gb_s, rates.read_gb_s, rates.mma_tflop_s, rates.wgmma_tflop_s,
               rates.launch_us);
  Bench b(device, rates, pool_bytes);
  struct Shape {
    const char* name;
    int64_t rows, cols;
  };
  const Shape decoder[] = {{"2b qkv 2048x1536", 2048, 1536},
                           {"2b o 1536x1536", 1536, 1536},
                           {"2b gate+up 17920x1536", 17920, 1536},
                           {"2b down 1536x8960", 1536, 8960}};
  const Shape vision[] = {{"vit qkv 3840x1280", 3840, 1280},
                          {"vit o 1280x1280", 1280, 1280},
                          {"vit up 5120x1280", 5120, 1280},
                          {"vit down 1280x5120", 1280, 5120}};
  for (const Format format : {Format::kQ4_K, Format::kQ6_K, Format::kQ8_0, Format::kQ4_0}) {
    for (const Shape& s : decoder) b.linear(s.name, format, s.rows, s.cols, 1);
  }
  b.linear("2b head 151936x1536", Format::kQ6_K, 151936, 1536, 1);
  b.token("2b, 113 launches", false);
  b.token("2b, recorded", true);
  for (const int64_t n : {2, 4, 8}) b.linear("2b gate+up 17920x1536", Format::kQ4_K, 17920, 1536, n);
  std::vector<int> wg_columns = {0};  // 0: the kernels of other devices
  if (device->has_warpgroups()) wg_columns = {0, 64, 128, 256};
  for (const int64_t n : {64, 256, 1024}) {
    for (const Shape& s : decoder) {
      for (const int columns : wg_columns) {
        if (columns == 0 || columns == 128 || (n <= 64) == (columns == 64)) {
          b.linear(s.name, Format::kQ4_K, s.rows, s.cols, n, columns);
        }
      }
    }
  }
  for (const int64_t n : {1024, 5184}) {
    for (const Shape& s : vision) {
      for (const int columns : wg_columns) {
        if (columns != 64) b.linear(s.name, Format::kBF16, s.rows, s.cols, n, columns);
      }
    }
  }
  for (const int64_t keys : {128, 1024, 4096, 16384}) b.attention({"decode 12/2 hd 128", 12, 2, 128, 1, keys});
  for (const int64_t keys : {1024, 16384}) {
    b.attention({"decode 12/2 hd 128", 12, 2, 128, 1, keys, CacheType::kQ8_0});
  }
  b.attention({"prefill 12/2 hd 128", 12, 2, 128, 1024, 1024, CacheType::kQ8_0});
  for (const bool warpgroups : {false, true}) {
    if (warpgroups && !device->has_warpgroups()) break;
    b.attention({"prefill 12/2 hd 128", 12, 2, 128, 1024, 1024}, warpgroups);
    b.attention({"causal 12/2 hd 128", 12, 2, 128, 1024, 1024, CacheType::kF16, true}, warpgroups);
    for (const int64_t n : {1024, 5184}) b.attention({"vit 16 hd 80", 16, 16, 80, n, n}, warpgroups);
  }
  return b.all_same() ? 0 : 1;
}

}  // namespace
}  // namespace glimpse::cuda

int main(int argc, char** argv) {
  const uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
  if (mib < 256 || mib > 65536) {
    std::fprintf(stderr, "gpu_bench: want 256 to 65536 MiB to rotate weights over\n");
    return 2;
  }
  return glimpse::cuda::run(mib << 20);
}
