// Networks of experts for tests of backends.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/quant/quant.h"
#include "tests/engine/golden_support.h"

namespace glimpse::testing {

/// A network of experts of random weights, packed for any backend.
struct Network {
  int64_t hidden, width, shared_width, n_experts, n_used;
  bool normalize;
  DType gate, down;
  bool up_like_down = false;  // the type of the second matrix; otherwise like gate
  std::mt19937 random{11};

  std::vector<float> gaussian(int64_t n, float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out) v = normal(random);
    return out;
  }

  Linear matrix(Ops& ops, DType type, int64_t rows, int64_t cols, float gain = 1) {
    const std::vector<float> values = gaussian(rows * cols, gain / std::sqrt(static_cast<float>(cols)));
    const uint64_t row_bytes = dtype_row_bytes(type, static_cast<uint64_t>(cols));
    std::vector<std::byte> bytes(static_cast<size_t>(rows) * row_bytes);
    for (int64_t r = 0; r < rows; ++r) {
      quantize_row_ref(type, values.data() + r * cols, bytes.data() + static_cast<uint64_t>(r) * row_bytes, cols,
                       nullptr);
    }
    WeightSource source;
    source.name = "some.weight";
    source.type = type;
    source.rows = rows;
    source.cols = cols;
    source.read_rows = [bytes, row_bytes](int64_t first, int64_t count, std::span<std::byte> out) {
      std::memcpy(out.data(), bytes.data() + static_cast<uint64_t>(first) * row_bytes,
                  static_cast<uint64_t>(count) * row_bytes);
      return Status();
    };
    return {must(ops.pack(source, WeightPrecision::kAsStored)), nullptr};
  }

  ExpertWeights pack(Ops& ops) {
    random.seed(11);
    ExpertWeights w;
    w.n_used = n_used;
    w.normalize = normalize;
    w.router = matrix(ops, DType::kF32, n_experts, hidden, 3);
    for (int64_t e = 0; e < n_experts; ++e) {
      w.gate.push_back(matrix(ops, gate, width, hidden));
      w.up.push_back(matrix(ops, up_like_down ? down : gate, width, hidden));
      w.down.push_back(matrix(ops, down, hidden, width));
    }
    if (shared_width > 0) {
      w.shared_router = matrix(ops, DType::kF32, 1, hidden);
      w.shared_gate = matrix(ops, gate, shared_width, hidden);
      w.shared_up = matrix(ops, down, shared_width, hidden);
      w.shared_down = matrix(ops, down, hidden, shared_width);
    }
    w.index = must(ops.index_experts(w));
    return w;
  }
};

}  // namespace glimpse::testing
