// Writes GGUF version 3, byte for byte as gguf-py lays files out: metadata in insertion order, tensors padded with
// zeros, strict consecutive offsets. The file appears whole or not at all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Use: add metadata, declare every tensor, begin(), then append the tensors' bytes in the declared order (in pieces
/// of any size), commit(). Destroyed before commit() succeeded, it leaves no file behind. Move-only.
///
/// A "general.alignment" among the metadata (uint32) sets the alignment; without it, it is 32. The caller adds
/// "general.architecture" first, as gguf-py does.
class GgufWriter {
 public:
  void add_uint32(const std::string& key, uint32_t value);
  void add_int32(const std::string& key, int32_t value);
  void add_uint64(const std::string& key, uint64_t value);
  void add_float32(const std::string& key, float value);
  void add_bool(const std::string& key, bool value);
  /// An empty string or array adds no key, as in gguf-py.
  void add_string(const std::string& key, const std::string& value);
  void add_int32_array(const std::string& key, const std::vector<int32_t>& values);
  void add_float32_array(const std::string& key, const std::vector<float>& values);
  void add_bool_array(const std::string& key, const std::vector<bool>& values);
  void add_string_array(const std::string& key, const std::vector<std::string>& values);
  /// Copies a value of another file unchanged, with its exact type; empty strings and arrays too.
  void add_value(const std::string& key, const GgufValue& value);

  /// dims: fastest first, 1 to 4 of them.
  void declare_tensor(const std::string& name, DType type, const std::vector<uint64_t>& dims);

  /// Writes everything up to the tensor data.
  /// Errors: kInvalidArgument (duplicate key or tensor, empty key or name, name of 64 bytes or more, a row that is not
  /// whole blocks, a bad alignment, a value that contradicts its type), kIo; kInternal when called twice.
  Status begin(const std::string& path, AtomicFileWriter::Existing existing);
  /// The next bytes of the tensor at hand. Errors: kIo; kInternal when more arrive than were declared.
  Status append(std::span<const std::byte> bytes);
  /// Errors: kInternal when bytes are missing or something was added after begin(), kIo.
  Status commit();

 private:
  struct Entry {
    std::string key;
    std::vector<std::byte> encoded;  // type and value
  };
  struct Tensor {
    std::string name;
    DType type;
    std::vector<uint64_t> dims;
    uint64_t n_bytes;
  };
  enum class State { kCollecting, kWriting, kDone };

  std::vector<std::byte>& add_entry(const std::string& key);
  void refuse_late(const std::string& name);
  template <typename T>
  void add_scalar(const std::string& key, GgufType type, T value);
  template <typename T, typename Values>
  void add_array(const std::string& key, GgufType type, const Values& values);
  void set_alignment(const std::string& key, GgufType type, uint64_t value);
  Status check_entries() const;
  Status check_tensors();
  Status finish_tensors();  // pads and steps past tensors that are complete

  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
  AtomicFileWriter file_;
  uint64_t alignment_ = 32;
  size_t current_ = 0;          // tensor being appended
  uint64_t current_bytes_ = 0;  // of it
  State state_ = State::kCollecting;
  std::optional<Error> misuse_;  // by a function that returns nothing: reported by the next one that does
};

}  // namespace glimpse
