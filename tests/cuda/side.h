// Tests of operations call the same ones on several backends: one of them, with the memory that the calls need.
#pragma once

#include <gtest/gtest.h>

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

/// NMSE that one product may add.
inline double limit_of(DType type, int64_t rows) {
  if (type == DType::kF32) return 1e-11;
  if (rows > CudaOps::kFewRows) return 2e-5;
  return type == DType::kF16 || type == DType::kBF16 ? 1e-11 : 1e-4;
}

}  // namespace glimpse::cuda
