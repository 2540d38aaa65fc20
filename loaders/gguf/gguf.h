// GGUF container: parse and validate (versions 2 and 3, split files). Knows no model and no kernel.
// Source: llama.cpp ggml/include/gguf.h and ggml/src/gguf.cpp (format), with stricter validation.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/result.h"

namespace glimpse {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};
/// "uint32", "string", ...
const char* gguf_type_name(GgufType type);

/// A number of any type, widened: unsigned and bool, signed, float.
using GgufNumber = std::variant<uint64_t, int64_t, double>;

/// The numbers of an array, as wide as the file stores them: a million bytes must not take eight million.
class GgufNumbers {
 public:
  GgufNumbers() = default;
  /// bytes: whole elements of `type`, which is no string and no array.
  GgufNumbers(GgufType type, std::vector<std::byte> bytes);
  /// Narrows. Errors: kInvalidArgument when a number does not fit `type`.
  static Result<GgufNumbers> narrow(GgufType type, std::span<const int64_t> numbers);

  GgufType type() const { return type_; }
  size_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Precondition: i < size().
  GgufNumber operator[](size_t i) const;
  bool operator==(const GgufNumbers&) const = default;

 private:
  GgufType type_ = GgufType::kUint8;
  size_t size_ = 0;
  std::vector<std::byte> bytes_;
};

/// One metadata value. Scalars are widened; arrays keep their element type.
struct GgufValue {
  GgufType type = GgufType::kUint32;          // kArray for arrays
  GgufType element_type = GgufType::kUint32;  // of arrays
  // Scalars: uint64_t (unsigned and bool), int64_t (signed), double (floats), std::string.
  std::variant<uint64_t, int64_t, double, std::string, GgufNumbers, std::vector<std::string>> data;

  bool is_array() const { return type == GgufType::kArray; }
  size_t array_size() const;  // 0 for scalars
  /// "uint32", "array of 24 int32": for messages.
  std::string describe_type() const;
};
// Ordered, so that a file cannot make lookups slow by choosing keys that collide.
using GgufValues = std::map<std::string, GgufValue, std::less<>>;

/// Where a tensor lies. dims[0] is the row length (contiguous axis), as in the file.
struct GgufTensor {
  std::string name;
  DType type = DType::kF32;
  uint32_t n_dims = 0;
  uint64_t dims[4] = {1, 1, 1, 1};  // missing ones are 1
  uint32_t shard = 0;               // which file of a split model
  uint64_t file_offset = 0;         // absolute, in that file
  uint64_t n_bytes = 0;

  uint64_t row_length() const { return dims[0]; }
  uint64_t n_rows() const { return dims[1] * dims[2] * dims[3]; }
  uint64_t n_elements() const { return dims[0] * n_rows(); }
  uint64_t row_bytes() const { return dtype_row_bytes(type, dims[0]); }
  /// "q4_k (1536, 8960)": type and dims for messages.
  std::string describe() const;
};

/// Other names for a part of a file: what is not named is left out.
struct GgufNames {
  std::map<std::string, std::string, std::less<>> keys, tensors;  // from, to
  GgufValues values;                                              // further keys; one that is there already is replaced
};

struct GgufContents;  // what the parser finds in one file

/// One file of a model (of a split model: one of several).
struct GgufShard {
  std::string path;
  uint32_t version = 0;
  uint64_t alignment = 32;
  uint64_t data_start = 0;  // the end of the tensor infos, padded when there are tensors
  uint64_t n_bytes = 0;
};

/// A parsed and validated GGUF file (or set of shards). Immutable; reading tensors is thread-safe.
class GgufFile {
 public:
  /// Opens the file; when it is the first shard of a split model (split.count > 1) also its siblings.
  /// Errors name the path, the offset and what was expected: kNotFound, kIo, kTruncated, kCorrupt, kTooLarge (a limit
  /// of the format), kUnsupported (big-endian, version 1, removed or unknown tensor types), kMismatch (shards that do
  /// not belong together, or a shard that is not the first).
  static Result<GgufFile> open(const std::string& path);
  /// Parses bytes in memory (tests, fuzzers, embedded models). Tensor data is read from the same span, which must
  /// outlive the object. `name` stands for the path in messages. Errors: as open(); a shard of a split model is
  /// kUnsupported, for it has no siblings here.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, const std::string& name);

  /// A part of this file under other names, on files of its own; content_key() differs. Errors: those of open();
  /// kCorrupt (two tensors of one name).
  Result<GgufFile> renamed(const GgufNames& names) const;

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t n_bytes() const;  // of all shards
  /// A hash that differs, but for accidents, when the content does; for caches of what was made from the file. Of every
  /// shard it covers size, time of the last change, everything before the tensor data, and 256 samples of 4 KiB of the
  /// data: hashing gigabytes would take longer than what a cache saves. The header tells models, types and shapes
  /// apart; the time tells that a file was rewritten; the samples tell files apart that were given the same time
  /// (copied with it, or from an archive). Not seen: data changed in place between the samples with the time set back
  /// on purpose. Errors: kInvalidArgument (parsed from memory), kTruncated, kIo.
  Result<uint64_t> content_key() const;
  /// A hash of what the file computes, never 0: names, types, shapes and samples (start, middle and end) of every
  /// tensor, and the keys that start with `prefix`. The same for copies, whatever their names and times; also from
  /// memory. Errors: kTruncated, kIo.
  Result<uint64_t> fingerprint(std::string_view prefix) const;
  uint32_t n_shards() const { return static_cast<uint32_t>(shards_.size()); }
  const std::vector<GgufShard>& shards() const { return shards_; }

  /// Keys in file order.
  const std::vector<std::string>& keys() const { return key_order_; }
  const GgufValue* find(std::string_view key) const;

  // Typed lookups. optional_*: nullopt when the key is absent (or an empty array, which gguf-py writes as absent), a
  // kCorrupt error that names the key, the expected and the found type when it does not fit.
  // Any integer type is accepted where the value is in range; any float type (or integer) for floats; an integer 0 or
  // 1 for bool; a one-value array, or an array whose entries are all equal, for a scalar; a scalar for an array of
  // one. int_array also takes bools. require_*: absent is a kNotFound error that names the key.
  Result<std::optional<uint64_t>> optional_uint(std::string_view key) const;
  Result<std::optional<double>> optional_float(std::string_view key) const;
  Result<std::optional<bool>> optional_bool(std::string_view key) const;
  Result<std::optional<std::string>> optional_string(std::string_view key) const;
  // Empty when absent. An array widens to 8 bytes a number, so one of more than kMostWidened is kTooLarge.
  static constexpr size_t kMostWidened = size_t{1} << 22;
  Result<std::vector<int64_t>> int_array(std::string_view key) const;
  Result<std::vector<double>> float_array(std::string_view key) const;
  Result<uint64_t> require_uint(std::string_view key) const;
  Result<double> require_float(std::string_view key) const;
  Result<std::string> require_string(std::string_view key) const;
  /// Borrowed string array (vocabularies are large); nullptr when absent or not an array of strings.
  const std::vector<std::string>* string_array(std::string_view key) const;

  /// Tensors in file order (shard by shard).
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

  /// Reads `out.size()` bytes of the tensor, from byte `offset` inside it.
  /// Errors: kInvalidArgument past the tensor's end, kTruncated (the file became shorter), kIo.
  Status read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) const;

 private:
  Status add_first(const std::string& path, GgufContents contents);
  Status add_shard(const std::string& path, GgufContents contents);
  Status open_siblings();

  std::string path_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  bool renamed_ = false;
  std::vector<GgufShard> shards_;
  std::vector<File> files_;            // one per shard; empty when parsed from memory
  std::span<const std::byte> memory_;  // when parsed from memory
  std::vector<std::string> key_order_;
  GgufValues values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace glimpse
