// What gpu_bench measures, on any device: each kernel at a shape, many times in a recording, beside what the device can
// do at best; and whether the products of warpgroups give what the kernels of other devices give. Without a GPU tests
// run it on the host executor, where times mean nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/runtime/cuda/cuda_ops.h"
#include "engine/runtime/cuda/weights_ahead.h"

namespace glimpse::cuda {

/// Of a benchmark: an error ends the program.
template <typename T>
T need(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "gpu_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}
inline void need(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "gpu_bench: %s\n", status.error().message.c_str());
  std::exit(1);
}

/// The sum of squared differences over that of the squares of `want`: NaN where something is not finite or all of
/// `want` is zero, which nothing is the same as.
inline double nmse_of(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - want[i];
    error += difference * difference;
    norm += static_cast<double>(want[i]) * want[i];
  }
  return error / norm;
}

class KernelBench {
 public:
  struct Options {
    uint64_t pool_bytes = 512u << 20;  // that weights and caches rotate over, so that L2 does not serve them
    uint64_t n_floats = 256u << 20;    // for activations: inputs in the first quarter, results in the second half
    double replay_bytes = 256e6;       // of a replay: several times what L2 holds
    int fewest = 20, most = 640;       // launches of a replay
    int batches = 9;                   // replays, of which the first does not count
  };
  /// Bests of the device, and where results go: one JSON object a line, one row of a table.
  struct Sinks {
    double read_gb_s, tflop_s;
    std::function<void(const std::string&)> line, row;
  };

  KernelBench(std::shared_ptr<Device> device, const Options& options, Sinks sinks)
      : device_(std::move(device)),
        stream_(need(device_->make_stream())),
        launcher_(stream_.get()),
        options_(options),
        sinks_(std::move(sinks)) {
    pool_ = need(Memory::on_device(device_, options_.pool_bytes, "weights to rotate over"));
    floats_ = need(Memory::on_device(device_, options_.n_floats * sizeof(float), "activations"));
    state_ = need(Memory::on_device(device_, sizeof(StepState), "the state of a step"));
    tickets_ = need(Memory::on_device(device_, kTickets * sizeof(int32_t), "tickets"));
    // Random codes; scales of any size below 2, which do not matter to the clock. NaN would not either, but has its own
    // paths.
    std::mt19937 engine(1);
    std::vector<uint32_t> random(std::min<uint64_t>(16 << 20, options_.pool_bytes / 4));
    for (uint32_t& word : random) word = engine() & 0xbfffbfffu;
    fill(pool_.as<uint32_t>(), options_.pool_bytes / 4, random);
    std::vector<float> values(std::min<uint64_t>(4 << 20, options_.n_floats));
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(engine);
    fill(floats_.as<float>(), options_.n_floats, values);
    need(stream_->synchronize());
  }

  // y (n, rows) = W (rows, cols) x (n, cols); many columns by the products of warpgroups, with blocks of so many
  // columns, where asked for, in clusters of so many blocks.
  void linear(const char* label, Format format, int64_t rows, int64_t cols, int64_t n, int wg_columns = 0,
              int cluster = 1) {
    const bool of_warpgroups = wg_columns > 0;
    need(fits(n * cols, n * rows));
    WeightView view;
    const uint64_t bytes = lay_out(format, rows, cols, view);
    const uint64_t copies = std::max<uint64_t>(1, pool_.size() / bytes);
    const int64_t ld = view.column_tiles * kTileColumns;
    const bool many = n > CudaOps::kFewRows && format != Format::kF32;
    const auto launch = [&](uint64_t i) {
      const bool warpgroups = wg_columns > 0;
      LinearArgs args = linear_args(view, i % copies * bytes / 256 * 256, rows, cols, n);
      if (many) {
        RowsArgs r;
        r.x = args.x;
        r.ld_x = cols;
        r.n = args.n;
        r.k = args.k;
        r.out = reinterpret_cast<uint16_t*>(scratch());
        r.ld_out = ld;
        need(launcher_->launch(warpgroups ? Kernel::rows_tiled : Kernel::rows_bf16,
                               LaunchShape{{rows_blocks(n), 1, 1}, 0}, &r));
        args.act = r.out;
        args.ld_act = ld;
        const int64_t columns = warpgroups ? wg_columns : kGemmColumnsPerBlock;
        const int64_t groups = (args.segment[0].n_pairs + kGemmPairsPerBlock - 1) / kGemmPairsPerBlock;
        const int64_t column_groups = (n + columns - 1) / columns;
        if (wg_columns == 64 || wg_columns == 128) need(share_chunks(args, groups * column_groups));
        LaunchShape shape{{groups, column_groups, args.n_splits},
                          warpgroups ? gemm_warpgroup_shared_bytes(wg_columns) : gemm_shared_bytes()};
        shape.cluster = cluster;
        shape.grid[0] = (groups + cluster - 1) / cluster * cluster;
        need(launcher_->launch(warpgroups ? gemm_warpgroup_kernel(format, wg_columns) : gemm_kernel(format), shape,
                               &args));
        return;
      }
      gemv(format, args);
    };
    std::string kind = of_warpgroups ? "linear_" + std::to_string(wg_columns) : "linear";
    if (cluster > 1) kind += "x" + std::to_string(cluster);
    report(kind.c_str(), label, dtype_name(format), rows, cols, n, launch,
           static_cast<double>(bytes) + 4.0 * static_cast<double>(n * (rows + cols)),
           2.0 * static_cast<double>(rows) * static_cast<double>(cols * n));
    if (!of_warpgroups) return;
    const auto values = [&](int columns, int blocks) {
      need(stream_->zero(out(), static_cast<uint64_t>(n * rows) * sizeof(float)));
      wg_columns = columns;
      cluster = blocks;
      launch(0);
      return last_rows(n, rows);
    };
    const std::vector<float> got = values(wg_columns, cluster);
    // The same bits.
    constexpr double kNothing = std::numeric_limits<double>::min();
    if (cluster > 1) compare(kind.c_str(), label, n, got, values(wg_columns, 1), kNothing, "blocks alone");
    compare(kind.c_str(), label, n, got, values(0, 1), 1e-8);
  }

  struct Decoder {
    int64_t layers, hidden, qkv, ffn, vocab;
  };
  // The products of one token of a decoder in Q4_K and Q6_K, one after another, with what a step does before and behind
  // them (norms, SwiGLU, residuals): launch by launch, or recorded and played, which shows what launches cost and what
  // overlapping them gains.
  void token(const char* label, const Decoder& d, bool recorded) {
    need(fits(d.ffn, d.vocab));
    uint64_t at = 0;
    double bytes = 0, weights = 0;
    NormView norm;
    norm.kind = NormKind::kRms;
    norm.eps = 1e-6f;
    norm.weight = floats_.as<float>();
    norm.width = static_cast<int32_t>(d.hidden);
    const auto product = [&](Format format, int64_t rows, int64_t cols, Output output, const NormView& of) {
      WeightView view;
      const int n_matrices = output == Output::kSwiglu ? 2 : 1;
      const uint64_t n_bytes = (lay_out(format, rows, cols, view) + 255) / 256 * 256;
      if (at + n_matrices * n_bytes > options_.pool_bytes) at = 0;
      LinearArgs args = linear_args(view, at, rows, cols, 1);
      Segment& s = args.segment[0];
      s.output = output;
      if (n_matrices > 1) s.w[1].data += n_bytes;
      s.n_pairs = count_pairs(s);
      args.norm = of;
      gemv(format, args);
      at += n_matrices * n_bytes;
      bytes += static_cast<double>(n_matrices) * static_cast<double>(n_bytes);
      weights += static_cast<double>(n_matrices * rows) * static_cast<double>(cols);
    };
    const auto all = [&] {
      bytes = weights = 0;
      for (int64_t layer = 0; layer < d.layers; ++layer) {
        product(Format::kQ4_K, d.qkv, d.hidden, Output::kStore, norm);
        product(Format::kQ4_K, d.hidden, d.hidden, Output::kAdd, {});
        product(Format::kQ4_K, d.ffn, d.hidden, Output::kSwiglu, norm);
        product(Format::kQ4_K, d.hidden, d.ffn, Output::kAdd, {});
      }
      product(Format::kQ6_K, d.vocab, d.hidden, Output::kStore, norm);
    };
    all();
    const double bytes_once = bytes, flop = 2 * weights;
    const std::shared_ptr<const Recording> recording = recorded ? record(all) : nullptr;
    const auto one = [&](uint64_t) {
      if (recorded) return need(stream_->play(recording));
      all();
    };
    report("token", label, "Q4_K", 0, 0, 1, one, bytes_once, flop, Timing::kLaunches);
  }

  struct Attention {
    const char* label;
    int64_t heads, kv_heads, dim, rows, keys;
    CacheType type = CacheType::kBf16;
    bool causal = false;
  };
  // warpgroups: many rows by the kernels of devices that have them.
  void attention(const Attention& a, bool warpgroups = false) {
    const int64_t width = a.heads * a.dim;
    need(fits(a.rows * width, a.rows * width));
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
      // As in a recorded step: what earlier steps wrote is loaded before the wait.
      args.causal = 1;
      args.at.steps = state_.as<StepState>();
      args.n_splits = static_cast<int32_t>((a.keys + kKeysPerSplit - 1) / kKeysPerSplit);
      args.partial = scratch();
      args.tickets = tickets_.as<int32_t>();
      const int group =
          attend_heads(a.type, args.group, a.rows * a.kv_heads * args.n_splits, device_->n_multiprocessors());
      need(launcher_->launch(attend_rows_kernel(a.type, group),
                             LaunchShape{{a.rows, a.kv_heads * ((args.group + group - 1) / group), args.n_splits},
                                         attend_rows_shared_bytes(group, padded)},
                             &args));
    };
    if (a.rows <= CudaOps::kFewRows) {
      need(a.rows == 1 ? Status()
                       : Status(make_error(ErrorCode::kInvalidArgument, "attention of a step of %d rows", a.rows)));
      StepState state;
      state.n_past = static_cast<int32_t>(a.keys - 1);
      need(stream_->copy_in(state_.as<void>(), &state, sizeof state));
    }
    const int64_t hidden = a.causal ? a.rows * (a.rows - 1) / 2 : 0;
    report(warpgroups ? "attend_wg" : "attention", a.label,
           q8                          ? "Q8_0"
           : a.type == CacheType::kF16 ? "F16"
                                       : "BF16",
           a.heads, a.keys, a.rows, launch, 2.0 * static_cast<double>(row_bytes * a.kv_heads * a.keys),
           4.0 * static_cast<double>((a.rows * a.keys - hidden) * a.heads * a.dim));
    if (!warpgroups) return;
    const auto values = [&](bool of_warpgroups) {
      need(stream_->zero(args.out, static_cast<uint64_t>(a.rows * width) * sizeof(float)));
      attend_many_rows(args, of_warpgroups);
      return last_rows(a.rows, width);
    };
    // Order of sums and rounding of weights.
    const std::vector<float> got = values(true);
    compare("attend_wg", a.label, a.rows, got, values(false), 1e-6);
  }
  /// Products of warpgroups that gave other results than the kernels of other devices, in clusters than alone.
  const std::vector<std::string>& different() const { return different_; }

 private:
  static constexpr uint64_t kTickets = 4096;

  template <typename T>
  void fill(T* to, uint64_t n, const std::vector<T>& values) {
    for (uint64_t at = 0; at < n; at += values.size()) {
      need(stream_->copy_in(to + at, values.data(), std::min<uint64_t>(values.size(), n - at) * sizeof(T)));
    }
  }
  float* scratch() const { return floats_.as<float>() + options_.n_floats / 4; }
  float* out() const { return floats_.as<float>() + options_.n_floats / 2; }
  // Of n_in floats, operands are at most as many values of two bytes.
  Status fits(int64_t n_in, int64_t n_out) const {
    const auto quarter = static_cast<int64_t>(options_.n_floats / 4);
    if (n_in + kTileColumns * 1024 <= quarter && n_out <= 2 * quarter) return {};
    return make_error(ErrorCode::kInvalidArgument, "%d values in and %d out do not fit into %d", n_in, n_out,
                      4 * quarter);
  }

  AttentionArgs attention_args(const Attention& a) const {
    AttentionArgs args;
    args.kv.type = a.type;
    args.kv.head_dim = static_cast<int32_t>(a.dim);
    args.kv.padded_dim = static_cast<int32_t>(padded_head_dim(a.dim));
    args.kv.n_heads = static_cast<int32_t>(a.kv_heads);
    args.kv.capacity = (a.keys + 255) / 256 * 256;
    args.q = floats_.as<float>();
    args.out = out();
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
  // The last of n rows of results.
  std::vector<float> last_rows(int64_t n, int64_t width) {
    const int64_t count = std::min<int64_t>(n, 256);
    std::vector<float> values(static_cast<size_t>(count * width));
    need(stream_->copy_out(values.data(), out() + (n - count) * width, values.size() * sizeof(float)));
    need(stream_->synchronize());
    return values;
  }
  void compare(const char* kind, const char* label, int64_t n, const std::vector<float>& got,
               const std::vector<float>& want, double most, const char* whose = "other devices' kernel") {
    const double nmse = nmse_of(got, want);
    const bool same = nmse < most;  // not NaN either
    if (!same) different_.push_back(std::string(kind) + " " + label + " from " + whose);
    sinks_.line(
        nlohmann::json(
            {{"kind", "same"}, {"of", kind}, {"name", label}, {"n", n}, {"as", whose}, {"nmse", nmse}, {"same", same}})
            .dump());
    sinks_.row(
        format("%-10s %-22s n %5d  %s %s, nmse %.1e", kind, label, n, same ? "as" : "DIFFERS from", whose, nmse));
  }

  LinearArgs linear_args(const WeightView& view, uint64_t at, int64_t rows, int64_t cols, int64_t n) const {
    LinearArgs args;
    args.n_segments = 1;
    Segment& s = args.segment[0];
    s.w[0] = s.w[1] = view;
    s.w[0].data = s.w[1].data = pool_.as<uint8_t>() + at;
    s.n_pairs = count_pairs(s);
    s.out = out();
    s.ld = rows;
    args.n = static_cast<int32_t>(n);
    args.k = static_cast<int32_t>(cols);
    args.x = floats_.as<float>();
    args.ld_x = cols;
    return args;
  }

  // As CudaPass does it.
  Status share_chunks(LinearArgs& args, int64_t blocks) {
    const int k_tiles = args.segment[0].w[0].column_tiles;
    args.chunk_tiles = gemm_chunk_tiles(k_tiles);
    args.n_splits = gemm_splits(blocks, k_tiles, device_->n_multiprocessors());
    if (args.n_splits == 1) return {};
    if (blocks > static_cast<int64_t>(kTickets))
      return make_error(ErrorCode::kInternal, "tickets for %d blocks", blocks);
    const uint64_t n_bytes = static_cast<uint64_t>(blocks * args.n_splits) * kGemmBlockResults * sizeof(float);
    if (partials_.size() < n_bytes) {
      GLIMPSE_TRY(stream_->synchronize());
      GLIMPSE_ASSIGN(partials_, Memory::on_device(device_, n_bytes, "sums of chunks"));
    }
    args.partial = partials_.as<float>();
    args.tickets = tickets_.as<int32_t>();
    return {};
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
    for (int batch = 0; batch < options_.batches; ++batch) {
      const auto begin = std::chrono::steady_clock::now();
      work();
      need(stream_->synchronize());
      const double here = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
      if (batch > 0) us.push_back(here / static_cast<double>(count));
    }
    return us;
  }

  template <typename Launch>
  void report(const char* kind, const char* label, const char* type, int64_t m, int64_t k, int64_t columns,
              const Launch& launch, double bytes, double flop, Timing timing = Timing::kReplays) {
    // Enough launches that the weights of one replay do not fit into L2.
    const auto fewest = static_cast<uint64_t>(options_.fewest);
    const auto n =
        std::clamp(static_cast<uint64_t>(options_.replay_bytes / bytes), fewest, static_cast<uint64_t>(options_.most));
    std::vector<double> us = timing == Timing::kReplays ? time_replays(launch, n) : time_launches(launch, fewest);
    std::sort(us.begin(), us.end());
    const double median = us[us.size() / 2];
    const double floor_us = std::max(bytes / (sinks_.read_gb_s * 1e3), flop / (sinks_.tflop_s * 1e6));
    const nlohmann::json line = {{"kind", kind},
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
    sinks_.line(line.dump());
    sinks_.row(format("%-10s %-22s %-5s n %5d  %9.2f us  %7.0f GB/s  %7.1f TFLOP/s  %5.1f%% of roofline", kind, label,
                      type, columns, median, bytes / median * 1e-3, flop / median * 1e-6, 100 * floor_us / median));
  }

  const std::shared_ptr<Device> device_;
  const std::unique_ptr<Stream> stream_;
  Launcher* launcher_;  // the stream, or a recorder
  const Options options_;
  const Sinks sinks_;
  Memory pool_, floats_, state_, tickets_, partials_;
  std::vector<std::string> different_;
};

}  // namespace glimpse::cuda
