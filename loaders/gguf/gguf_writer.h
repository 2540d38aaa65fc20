// Writes GGUF version 3, byte for byte as gguf-py lays files out: metadata in insertion order, tensors padded with
// zeros, strict consecutive offsets. The file appears whole or not at all.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Use: add metadata, declare every tensor, begin(), then append the tensors' bytes in the declared order (in pieces
/// of any size), commit().
class GgufWriter {
 public:
  void add_uint32(const std::string& key, uint32_t value);
  void add_int32(const std::string& key, int32_t value);
  void add_uint64(const std::string& key, uint64_t value);
  void add_float32(const std::string& key, float value);
  void add_bool(const std::string& key, bool value);
  void add_string(const std::string& key, const std::string& value);
  void add_int32_array(const std::string& key, const std::vector<int32_t>& values);
  void add_float32_array(const std::string& key, const std::vector<float>& values);
  void add_bool_array(const std::string& key, const std::vector<bool>& values);
  void add_string_array(const std::string& key, const std::vector<std::string>& values);
  /// Copies a value of another file unchanged, with its exact type.
  void add_value(const std::string& key, const GgufValue& value);

  /// dims: fastest first, 1 to 4 of them.
  void declare_tensor(const std::string& name, DType type, const std::vector<uint64_t>& dims);

  /// Errors: kInvalidArgument (duplicate key or tensor, name of 64 bytes or more, a row that is not whole blocks), kIo.
  Status begin(const std::string& path, AtomicFileWriter::Existing existing);
  /// The next bytes of the tensor at hand. Errors: kIo; kInternal when more arrive than were declared.
  Status append(std::span<const std::byte> bytes);
  /// Errors: kInternal when bytes are missing, kIo.
  Status commit();

 private:
  struct Entry { std::string key; std::vector<std::byte> encoded; };
  struct Tensor { std::string name; DType type; std::vector<uint64_t> dims; uint64_t n_bytes; };
  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
  AtomicFileWriter file_;
  size_t current_ = 0;         // tensor being appended
  uint64_t current_bytes_ = 0; // of it
};

}  // namespace glimpse
