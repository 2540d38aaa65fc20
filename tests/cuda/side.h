// Tests of operations call the same ones on several backends: one of them, with the memory that the calls need.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <memory>
#include <vector>

#include "tests/cuda/cuda_support.h"

namespace glimpse::cuda {

/// A backend and the memory of a test on it.
class Side {
 public:
  explicit Side(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}
  Ops& operator*() { return *ops_; }
  Ops* operator->() { return ops_.get(); }

  Linear linear(const std::vector<std::byte>& bytes, DType type, int64_t rows, int64_t cols,
                const std::vector<float>& bias) {
    return {must(ops_->pack(source_of(bytes, type, rows, cols), WeightPrecision::kAsStored)),
            bias.empty() ? nullptr : buffer(*ops_, bias)};
  }
  Norm norm(Norm::Kind kind, int64_t width, const std::vector<float>& weight, const std::vector<float>& bias) {
    Norm n;
    n.kind = kind;
    n.width = width;
    n.weight = buffer(*ops_, weight);
    if (kind == Norm::Kind::kLayer) n.bias = buffer(*ops_, bias);
    return n;
  }
  /// Floats in the backend's memory that live as long as this.
  Mat mat(const std::vector<float>& values, int64_t rows) {
    held_.push_back(buffer(*ops_, values));
    return Mat::contiguous(held_.back()->data, rows, static_cast<int64_t>(values.size()) / rows);
  }
  Mat poisoned(int64_t rows, int64_t cols) {
    return mat(std::vector<float>(static_cast<size_t>(rows * cols), std::numeric_limits<float>::quiet_NaN()), rows);
  }
  std::vector<float> values(Mat m) {
    std::vector<float> out(static_cast<size_t>(m.rows * m.cols));
    ops_->download(m.data, m.rows * m.cols, out.data());
    return out;
  }
  void run(FunctionRef<void()> body) { EXPECT_OK(ops_->run(body)); }
  /// out = in W^T, as many rows a call as `cuts` says, in one run.
  void run_linear(Mat in, const Linear& w, const std::vector<int64_t>& cuts, Mat out) {
    run([&] {
      int64_t first = 0;
      for (const int64_t count : cuts) {
        ops_->norm_linear(in.slice(first, count), Norm{}, w, Activation::kNone, out.slice(first, count));
        first += count;
      }
    });
  }

 private:
  std::unique_ptr<Ops> ops_;
  std::vector<std::shared_ptr<const BackendBuffer>> held_;
};

/// What compute(Side&) gives on each backend.
template <class Compute, class... Backends>
auto on_each(Compute compute, std::unique_ptr<Backends>... ops) {
  const auto on = [&](std::unique_ptr<Ops> one) {
    Side side(std::move(one));
    return compute(side);
  };
  return std::array{on(std::move(ops))...};
}

/// A matrix of `type` (rows, cols) of random numbers, and `n` rows to multiply with it.
struct Product {
  DType type;
  int64_t rows, cols, n;
  std::vector<std::byte> weight;
  std::vector<float> x, residual;

  Product(DType t, int64_t n_rows, int64_t n_cols, int64_t n_x, Random& random)
      : type(t),
        rows(n_rows),
        cols(n_cols),
        n(n_x),
        weight(quantized(t, random.gaussian(rows * cols), rows, cols)),
        x(random.gaussian(n * cols)) {
    residual = random.gaussian(n * rows);
  }
  /// x W^T, as many rows a call as `cuts` says.
  std::vector<float> cut(std::unique_ptr<Ops> ops, const std::vector<int64_t>& cuts) const {
    Side s(std::move(ops));
    const Linear w = s.linear(weight, type, rows, cols, {});
    const Mat in = s.mat(x, n), out = s.poisoned(n, rows);
    s.run_linear(in, w, cuts, out);
    return s.values(out);
  }
  /// residual + x W^T
  std::vector<float> added(Side& s) const {
    const Linear w = s.linear(weight, type, rows, cols, {});
    const Mat in = s.mat(x, n), sum = s.mat(residual, n);
    s.run([&] { s->linear_add(in, w, sum); });
    return s.values(sum);
  }
};

/// QuickGELU(norm(in) W^T) and in W^T + residual, in one run.
struct LinearAndAdded {
  std::vector<float> linear, added;
};
inline LinearAndAdded linear_and_added(Side& s, const Norm& norm, const Linear& w, Mat in, Mat residual) {
  const Mat out = s.poisoned(residual.rows, residual.cols);
  s.run([&] {
    s->norm_linear(in, norm, w, Activation::kQuickGelu, out);
    s->linear_add(in, w, residual);
  });
  return {s.values(out), s.values(residual)};
}

/// silu(gate(norm(x)) + bias) * up(norm(x)) of random matrices (kRows, kCols).
struct SwigluCase {
  static constexpr int64_t kCols = 256, kRows = 77;
  std::vector<float> gate, up, scale, bias;

  explicit SwigluCase(Random& random) {
    gate = random.gaussian(kRows * kCols, 0.1f);
    up = random.gaussian(kRows * kCols, 0.1f);
    scale = norm_weights(random, kCols);
    bias = random.gaussian(kRows);
  }
  std::vector<float> run(Side& s, DType type_gate, DType type_up, Mat in) const {
    const Linear g = s.linear(quantized(type_gate, gate, kRows, kCols), type_gate, kRows, kCols, bias);
    const Linear u = s.linear(quantized(type_up, up, kRows, kCols), type_up, kRows, kCols, {});
    const Norm norm = s.norm(Norm::Kind::kRms, kCols, scale, {});
    const Mat y = s.poisoned(in.rows, kRows);
    s.run([&] { s->norm_swiglu(in, norm, g, u, y); });
    return s.values(y);
  }
};

/// NMSE that one product may add.
inline double limit_of(DType type, int64_t rows) {
  if (type == DType::kF32) return 1e-11;
  if (rows > CudaOps::kFewRows) return 2e-5;
  return type == DType::kF16 || type == DType::kBF16 ? 1e-11 : 1e-4;
}

}  // namespace glimpse::cuda
