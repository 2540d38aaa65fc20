// Looks at activations while a pass computes them: hands them to a tap, or searches for the first that is not finite.
#pragma once

#include <string>
#include <vector>

#include "engine/model/tap.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// Costs nothing (one test of a flag) when there is neither a tap nor a search.
class Probe {
 public:
  Probe(Ops& ops, const TapSink& tap) : ops_(ops), tap_(tap) {}

  /// Names that follow start with this: "blk.3.".
  void enter(std::string prefix) { prefix_ = std::move(prefix); }
  /// From now on the first activation that holds a NaN or an infinity is remembered by name.
  void search_non_finite() { searching_ = true; }
  const std::string& first_non_finite() const { return first_non_finite_; }
  bool active() const { return searching_ || static_cast<bool>(tap_); }
  /// x, of which nobody but a product knows unless the probe looks at it.
  Mat read_by(const Linear& product, Mat x) const {
    if (!active()) x.read_by = product.weight.get();
    return x;
  }

  void see(const char* name, Mat x);
  void see(const char* name, const float* host, int64_t rows, int64_t cols);
  /// What the rows of a pass wrote to their stores, as rows of (n_kv_heads * head_dim): "k" and "v".
  void see_kv(Segments segments);

  // An activation that is made some rows at a time: rows are collected, finish() shows them as one.
  void see_rows(Mat rows);
  void finish(const char* name, int64_t cols);

 private:
  void show(const char* name, const std::vector<float>& values, int64_t cols);
  void append(Mat rows, std::vector<float>& values);

  Ops& ops_;
  const TapSink& tap_;
  bool searching_ = false;
  std::string prefix_;
  std::string first_non_finite_;
  std::vector<float> collected_;
};

}  // namespace glimpse
