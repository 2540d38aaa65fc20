// Activations by tap name: of a run in memory, or of a GGUF that a run (or another engine) wrote; and how two differ.
//
// The names are those of TapSink (engine/model/tap.h); the vision encoder's have the picture's number before them:
// "0/v.blk.3.q". A file holds one F32 tensor (cols, rows) per activation and the prompt's token ids as "ids" (I32);
// other tensors are ignored. tests/golden holds such files, made from transformers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse::eval {

struct Activation {
  std::string name;
  int64_t rows = 0, cols = 0;
  std::vector<float> values;  // (rows, cols)
};

class ActivationSet {
 public:
  ActivationSet() = default;
  /// Errors: those of GgufFile::open(); kCorrupt: no activation in it.
  static Result<ActivationSet> open(const std::string& path);
  /// The same of a file that is open, or in memory.
  static Result<ActivationSet> from(GgufFile file);

  void add(Activation activation);
  void set_ids(std::vector<int32_t> ids) { ids_ = std::move(ids); }
  /// Token ids of the prompt; empty: not said.
  const std::vector<int32_t>& ids() const { return ids_; }
  /// In model order, or the file's.
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const;
  /// Precondition: has(name). Errors: kIo, kTruncated.
  Result<Activation> read(const std::string& name) const;

  /// Errors: kIo; kInvalidArgument: the file exists and is not to be replaced.
  Status save(const std::string& path, AtomicFileWriter::Existing existing, const std::string& prompt) const;

 private:
  std::optional<GgufFile> file_;
  std::vector<std::string> names_;
  std::map<std::string, Activation> memory_;
  std::vector<int32_t> ids_;
};

/// Of an activation against the one it should be.
struct Difference {
  std::string name;
  int64_t rows = 0, cols = 0;
  double nmse = 0;     // |got - want|^2 / |want|^2; infinity where want is zero and got is not
  double max_abs = 0;  // largest |got - want|
  double cosine = 1;   // of the two as vectors
  int64_t worst_row = 0;
  double worst_row_nmse = 0;
  double limit = 0;  // on nmse
  bool outside = false;
  int64_t rerouted_rows = 0;  // of a router's scores: count_rerouted_rows()
};
/// Precondition: the same shape, at least one value. A NaN on either side makes nmse NaN, which is outside any limit.
Difference compare_activations(const Activation& got, const Activation& want, double limit);

/// Of the scores of a router ("blk.3.router"), the rows that go through other experts than in the reference: from there
/// on they differ by more than rounding, and so does what attends to them.
/// Precondition: the same shape, n_used experts or more.
int64_t count_rerouted_rows(const Activation& got, const Activation& want, int64_t n_used);

}  // namespace glimpse::eval
