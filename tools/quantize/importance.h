// Importance matrices: for each weight matrix and each of its input columns the mean of the squared activations that
// calibration text fed it. They weigh the quantiser's error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// What llama-imatrix writes, in its GGUF form and in the older .dat form. Immutable; every value is finite and >= 0.
class ImportanceMatrix {
 public:
  /// Reads a file of either form. Errors: those of read_file and parse().
  static Result<ImportanceMatrix> load(const std::string& path);
  /// bytes: untrusted; those that start with "GGUF" are taken for GGUF, all others for the .dat form. `name` stands for
  /// the path in messages.
  /// Errors name the entry: kTruncated, kCorrupt (no entries, an entry twice, impossible counts, bytes after the end),
  /// kNumeric (values that are not finite or negative), and those of GgufFile::parse.
  /// Source: llama.cpp common/imatrix-loader.cpp (layouts), tools/quantize/quantize.cpp (division by the counts).
  static Result<ImportanceMatrix> parse(std::span<const std::byte> bytes, const std::string& name);

  /// The values of a tensor, one per input column (of every expert, one expert after the other); nullptr when it has
  /// none.
  const std::vector<float>* find(std::string_view tensor) const;
  size_t n_entries() const { return entries_.size(); }
  /// Pieces of calibration text that were read; 0 when the file does not say.
  uint32_t n_chunks() const { return n_chunks_; }
  /// Name of the calibration text; empty when the file does not say.
  const std::string& dataset() const { return dataset_; }
  /// Path or name it was read from.
  const std::string& path() const { return path_; }

 private:
  Status parse_dat(std::span<const std::byte> bytes);
  Status parse_gguf(const GgufFile& file);
  Status add(const std::string& tensor, std::vector<float> values);

  std::string path_, dataset_;
  uint32_t n_chunks_ = 0;
  std::map<std::string, std::vector<float>, std::less<>> entries_;
};

}  // namespace glimpse
