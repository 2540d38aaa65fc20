#include "tools/quantize/importance.h"

#include <cmath>
#include <cstring>

#include "engine/base/file.h"
#include "loaders/gguf/byte_reader.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;  // a 72B model's has about 40 MB
constexpr int32_t kMaxNameBytes = 1024;                // GGUF allows 63
constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

// A length of at least `least` whose `item_bytes` each are still there.
Result<size_t> read_length(ByteReader& reader, int32_t least, size_t item_bytes, const std::string& what) {
  GLIMPSE_ASSIGN(const auto length, reader.read_value<int32_t>());
  if (length < least) {
    return make_error(ErrorCode::kCorrupt, "%s is %d: this is no importance matrix", what, length);
  }
  const uint64_t bytes = static_cast<uint64_t>(length) * item_bytes;
  if (bytes > reader.remaining()) {
    return make_error(ErrorCode::kTruncated, "%s is %d, which needs %d bytes; the file has %d more", what, length,
                      bytes, reader.remaining());
  }
  return static_cast<size_t>(length);
}

Result<std::vector<float>> read_floats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != DType::kF32) {
    return make_error(ErrorCode::kCorrupt, "tensor %s: want F32, file has %s", quoted(tensor.name), tensor.describe());
  }
  std::vector<float> values(tensor.n_elements());
  GLIMPSE_TRY(file.read(tensor, 0, std::as_writable_bytes(std::span(values))));
  return values;
}

// Mean squares from sums of squares: `counts` holds the number of summed activations of each expert.
Status divide_by_counts(std::vector<float>& sums, const std::vector<float>& counts) {
  if (counts.empty() || sums.size() % counts.size() != 0) {
    return make_error(ErrorCode::kCorrupt, "%d sums for %d counts", sums.size(), counts.size());
  }
  const size_t n_columns = sums.size() / counts.size();
  for (size_t i = 0; i < counts.size(); ++i) {
    if (!(counts[i] >= 0) || counts[i] > 1e15f) {
      return make_error(ErrorCode::kNumeric, "a count is %g", static_cast<double>(counts[i]));
    }
    const float count = std::round(counts[i]);
    // An expert that saw no token: all its columns matter alike.
    for (float& value : std::span(sums).subspan(i * n_columns, n_columns)) value = count > 0 ? value / count : 1.0f;
  }
  return {};
}

}  // namespace

Result<ImportanceMatrix> ImportanceMatrix::load(const std::string& path) {
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, read_file(path, kMaxFileBytes));
  return parse(bytes, path);
}

Result<ImportanceMatrix> ImportanceMatrix::parse(std::span<const std::byte> bytes, const std::string& name) {
  ImportanceMatrix matrix;
  matrix.path_ = name;
  if (is_gguf(bytes)) {
    GLIMPSE_ASSIGN(const GgufFile file, GgufFile::parse(bytes, name));  // names the path itself
    if (Status status = matrix.parse_gguf(file); !status.ok()) return with_context(status.error(), name);
  } else if (Status status = matrix.parse_dat(bytes); !status.ok()) {
    return with_context(status.error(), name);
  }
  return matrix;
}

const std::vector<float>* ImportanceMatrix::find(std::string_view tensor) const {
  const auto at = entries_.find(tensor);
  return at == entries_.end() ? nullptr : &at->second;
}

Status ImportanceMatrix::add(const std::string& tensor, std::vector<float> values) {
  for (const float value : values) {
    if (!std::isfinite(value) || value < 0) {
      return make_error(ErrorCode::kNumeric, "the importance of %s has the value %g", quoted(tensor),
                        static_cast<double>(value));
    }
  }
  if (!entries_.emplace(tensor, std::move(values)).second) {
    return make_error(ErrorCode::kCorrupt, "there are two entries for %s", quoted(tensor));
  }
  return {};
}

// int32 n_entries; each: int32 length, name, int32 n_calls, int32 n, n floats (mean square times n_calls). Then,
// since 2024: int32 n_chunks, int32 length, name of the text.
Status ImportanceMatrix::parse_dat(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  GLIMPSE_ASSIGN(const size_t n_entries, read_length(reader, 1, 3 * sizeof(int32_t), "the number of entries"));
  for (size_t i = 0; i < n_entries; ++i) {
    const std::string which = format("entry %d: ", i);
    GLIMPSE_ASSIGN(const size_t n_name, read_length(reader, 1, 1, which + "the length of its name"));
    if (n_name > kMaxNameBytes) return make_error(ErrorCode::kCorrupt, "%sa name of %d bytes", which, n_name);
    std::string name(n_name, '\0');
    GLIMPSE_TRY(reader.read(name.data(), n_name));
    GLIMPSE_ASSIGN(const auto n_calls, reader.read_value<int32_t>());
    GLIMPSE_ASSIGN(const size_t n_values, read_length(reader, 1, sizeof(float), which + "the number of its values"));
    std::vector<float> values(n_values);
    GLIMPSE_TRY(reader.read(values.data(), n_values * sizeof(float)));
    if (n_calls > 0) {
      for (float& value : values) value /= static_cast<float>(n_calls);
    }
    GLIMPSE_TRY(add(name, std::move(values)));
  }
  if (reader.remaining() == 0) return {};
  GLIMPSE_ASSIGN(const size_t n_chunks, read_length(reader, 0, 0, "the number of chunks"));
  n_chunks_ = static_cast<uint32_t>(n_chunks);
  if (reader.remaining() == 0) return {};
  GLIMPSE_ASSIGN(const size_t n_dataset, read_length(reader, 0, 1, "the length of the text's name"));
  dataset_.resize(n_dataset);
  GLIMPSE_TRY(reader.read(dataset_.data(), n_dataset));
  if (reader.remaining() == 0) return {};
  return make_error(ErrorCode::kCorrupt, "%d bytes after the end", reader.remaining());
}

// Two F32 tensors for each weight matrix: NAME.in_sum2 (columns, experts) and NAME.counts (1, experts).
Status ImportanceMatrix::parse_gguf(const GgufFile& file) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    const GgufTensor* const counts = file.find_tensor(name + std::string(kCounts));
    if (name.empty() || counts == nullptr) {
      return make_error(ErrorCode::kCorrupt, "tensor %s has no counts beside it", quoted(tensor.name));
    }
    GLIMPSE_ASSIGN(std::vector<float> values, read_floats(file, tensor));
    GLIMPSE_ASSIGN(const std::vector<float> n, read_floats(file, *counts));
    if (Status status = divide_by_counts(values, n); !status.ok()) return with_context(status.error(), quoted(name));
    GLIMPSE_TRY(add(name, std::move(values)));
  }
  if (entries_.empty()) {
    return make_error(ErrorCode::kCorrupt, "no tensor is called *.in_sum2: this is no importance matrix");
  }
  GLIMPSE_ASSIGN(const auto n_chunks, file.optional_uint("imatrix.chunk_count"));
  n_chunks_ = static_cast<uint32_t>(std::min<uint64_t>(n_chunks.value_or(0), UINT32_MAX));
  const std::vector<std::string>* const datasets = file.string_array("imatrix.datasets");
  if (datasets != nullptr && !datasets->empty()) dataset_ = datasets->front();
  return {};
}

}  // namespace glimpse
