// Finds, checks and packs the tensors of one GGUF file. One text names a model's weights; it runs twice: once to check
// every tensor and to count bytes before any is read, once to load.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/pack_cache.h"
#include "engine/runtime/ops.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// How far a load of one or two files has come.
struct LoadProgress {
  const ProgressSink* sink = nullptr;  // may be empty
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  const std::atomic<bool>* futile = nullptr;  // set when what goes on beside the load has failed
  /// kCancelled when the host says so, or when the load is futile.
  Status advance(uint64_t n_bytes);
};

/// kNone: the model has none; one that the file has is left unread, and refuse_unused_tensors() speaks of it.
enum class Presence { kRequired, kOptional, kNone };

class WeightReader {
 public:
  /// Checks and counts only: the weights it returns are empty.
  static WeightReader checker(const GgufFile& file, Ops& ops) { return WeightReader(file, ops, nullptr, nullptr); }
  /// cache: opened with the records of a checker that saw the same calls.
  static WeightReader loader(const GgufFile& file, Ops& ops, LoadProgress& progress, PackCache& cache) {
    return WeightReader(file, ops, &progress, &cache);
  }

  /// Bytes that everything read so far occupies in the backend.
  uint64_t n_bytes() const { return n_bytes_; }
  /// Of these, the packed matrices.
  uint64_t n_packed_bytes() const { return n_packed_bytes_; }
  /// The matrices so far as a side file holds them; empty when the backend's weights cannot be kept in files.
  const std::vector<PackRecord>& pack_records() const { return records_; }
  /// Names of all tensors that were asked for so far.
  const std::set<std::string>& used() const { return used_; }

  /// From now on matrices whose name contains one of `parts` are kept as kF32, whatever precision is asked for.
  void keep_f32(std::vector<std::string> parts) { f32_parts_ = std::move(parts); }

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  const GgufTensor* find(const std::string& name) const { return file_.find_tensor(name); }

  /// Matrix `stem`.weight (rows, cols) = (out_features, in_features) and, as `bias` says, vector `stem`.bias (rows).
  Result<Linear> linear(const std::string& stem, int64_t rows, int64_t cols, WeightPrecision precision, Presence bias);
  /// Rows [first, first + rows) of matrix and bias `stem`, which have total_rows rows: one part of a fused projection.
  Result<Linear> linear_part(const std::string& stem, int64_t first, int64_t rows, int64_t total_rows, int64_t cols,
                             WeightPrecision precision, Presence bias);
  /// Rows [first, first + rows) of matrix `expert` of `stem`.weight, which has n_experts of (total_rows, cols).
  Result<Linear> expert(const std::string& stem, int64_t expert, int64_t n_experts, int64_t first, int64_t rows,
                        int64_t total_rows, int64_t cols, WeightPrecision precision);
  /// Fills in w.index. Everything else has been read.
  Status index_experts(ExpertWeights& w);
  /// Vector `stem`.weight (cols) as a matrix of one row.
  Result<Linear> row(const std::string& stem, int64_t cols, WeightPrecision precision);
  /// Vectors `stem`.weight and, for kLayer, `stem`.bias (width each).
  Result<Norm> norm(const std::string& stem, Norm::Kind kind, int64_t width, float eps);
  /// What a vector that was read holds; nothing where there is none.
  std::vector<float> values(const BackendBuffer* vector) const;
  /// The sum of float tensors of the same shape, each taken as a matrix (rows, cols) of consecutive elements.
  Result<std::shared_ptr<const PackedWeight>> sum_of_tensors(const std::vector<std::string>& names,
                                                             const std::vector<uint64_t>& dims, int64_t rows,
                                                             int64_t cols);
  /// The sum of frames [first, first + count) of a float tensor (pixels, n_frames, cols / pixels * rows), rows of
  /// channels, frames between them: a matrix (rows, cols) of channels and pixels.
  Result<std::shared_ptr<const PackedWeight>> sum_of_frames(const std::string& name, const std::vector<uint64_t>& dims,
                                                            int64_t pixels, int64_t n_frames, int64_t first,
                                                            int64_t count, int64_t rows, int64_t cols);
  /// A tensor of a float type, as floats in host memory.
  Result<std::vector<float>> host_floats(const std::string& name, const std::vector<uint64_t>& dims);
  /// A vector of n floats. first, total: its place in the tensor.
  Result<std::shared_ptr<const BackendBuffer>> vector(const std::string& name, int64_t first, int64_t n, int64_t total);

 private:
  WeightReader(const GgufFile& file, Ops& ops, LoadProgress* progress, PackCache* cache)
      : file_(file), ops_(ops), progress_(progress), cache_(cache) {}
  Result<Linear> rows_of(const GgufTensor* tensor, int64_t first, int64_t rows, int64_t cols, WeightPrecision precision,
                         int64_t n_alike = 1);
  Result<const GgufTensor*> expect(const std::string& name, const std::vector<uint64_t>& dims, bool float_type);
  Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision);

  const GgufFile& file_;
  Ops& ops_;
  LoadProgress* progress_;  // nullptr: check only
  std::vector<std::string> f32_parts_;
  PackCache* cache_;  // nullptr: check only
  uint64_t n_bytes_ = 0, n_packed_bytes_ = 0;
  std::vector<PackRecord> records_;
  std::set<std::string> used_;
};

}  // namespace glimpse
