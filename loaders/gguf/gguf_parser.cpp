#include "loaders/gguf/gguf_parser.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/checked.h"
#include "loaders/gguf/gguf_text.h"
#include "loaders/gguf/gguf_value_reader.h"

namespace glimpse {
namespace {

constexpr uint64_t kHeaderBytes = 24;
constexpr uint64_t kMinKeyBytes = 14;     // 8 + 1 key, 4 type, 1 value
constexpr uint64_t kMinTensorBytes = 24;  // name, number of dims, type, offset

class Parser {
 public:
  explicit Parser(ByteReader& reader) : reader_(reader) {}

  Result<GgufContents> parse() {
    GLIMPSE_TRY(parse_header());
    for (uint64_t i = 0; i < n_keys_; ++i) GLIMPSE_TRY(parse_key(i));
    GLIMPSE_TRY(read_alignment());
    GLIMPSE_TRY(check_counts(0, n_tensors_));
    for (uint64_t i = 0; i < n_tensors_; ++i) GLIMPSE_TRY(parse_tensor(i));
    GLIMPSE_TRY(place_tensors());
    GLIMPSE_TRY(check_overlap());
    return std::move(contents_);
  }

 private:
  Status parse_header();
  Status check_counts(uint64_t n_keys, uint64_t n_tensors) const;
  Status parse_key(uint64_t index);
  Status parse_tensor(uint64_t index);
  Status parse_tensor_shape(GgufTensor& tensor);
  Status read_alignment();
  Status place_tensors();
  Status check_overlap() const;

  ByteReader& reader_;
  uint64_t n_keys_ = 0, n_tensors_ = 0;
  GgufContents contents_;
  std::vector<uint64_t> offsets_;  // of the tensors, as stored: from the start of the data
  std::map<std::string, uint64_t, std::less<>> tensor_names_;
};

Status Parser::parse_header() {
  char first[64] = "";
  const size_t n_first = std::min<uint64_t>(sizeof first, reader_.size());
  constexpr std::string_view kMagic = "GGUF";
  GLIMPSE_TRY(reader_.read(first, std::min<size_t>(n_first, kMagic.size())));
  if (std::memcmp(first, kMagic.data(), std::min<size_t>(n_first, kMagic.size())) != 0 || n_first == 0) {
    if (n_first > kMagic.size()) GLIMPSE_TRY(reader_.read(first + kMagic.size(), n_first - kMagic.size()));
    return make_error(ErrorCode::kCorrupt, "not a GGUF file: %s",
                      describe_foreign_file(std::string_view(first, n_first)).c_str());
  }
  if (reader_.size() < kHeaderBytes) {
    return make_error(ErrorCode::kTruncated, "truncated header: the file has %llu bytes, a GGUF header has %llu",
                      ull(reader_.size()), ull(kHeaderBytes));
  }
  GLIMPSE_ASSIGN(contents_.version, reader_.read_value<uint32_t>());
  GLIMPSE_ASSIGN(n_tensors_, reader_.read_value<uint64_t>());
  GLIMPSE_ASSIGN(n_keys_, reader_.read_value<uint64_t>());
  const uint32_t version = contents_.version;
  if (version == 0) return make_error(ErrorCode::kCorrupt, "version 0 at offset 4; expected 2 or 3");
  if ((version & 0xffff) == 0) {
    return make_error(ErrorCode::kUnsupported,
                      "this is a big-endian GGUF file (its version reads as 0x%08x on this little-endian machine); "
                      "convert it with gguf-py's gguf_convert_endian or download the little-endian file",
                      version);
  }
  if (version == 1) {
    return make_error(ErrorCode::kUnsupported,
                      "GGUF version 1 (2023) is not supported; glimpse reads 2 and 3: download a newer conversion");
  }
  if (version > 3) {
    return make_error(ErrorCode::kUnsupported, "GGUF version %u at offset 4 is not supported; glimpse reads 2 and 3",
                      version);
  }
  contents_.n_bytes = reader_.size();
  for (const auto& [name, count] : {std::pair("tensor", n_tensors_), std::pair("key", n_keys_)}) {
    if (count > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "the header's %s count is negative (%lld)", name,
                        static_cast<long long>(count));
    }
  }
  return check_counts(n_keys_, n_tensors_);
}

// Before anything is reserved for them: can the rest of the file hold so many records?
Status Parser::check_counts(uint64_t n_keys, uint64_t n_tensors) const {
  const uint64_t remaining = reader_.remaining();
  if (n_keys > remaining / kMinKeyBytes) {
    return make_error(ErrorCode::kTruncated, "the header announces %llu keys, but only %llu bytes follow it",
                      ull(n_keys), ull(remaining));
  }
  if (n_tensors > remaining / kMinTensorBytes) {
    return make_error(ErrorCode::kTruncated,
                      "the header announces %llu tensors, but only %llu bytes follow offset %llu", ull(n_tensors),
                      ull(remaining), ull(reader_.position()));
  }
  return {};
}

Status Parser::parse_key(uint64_t index) {
  const uint64_t offset = reader_.position();
  const std::string where = format("key %llu of %llu at offset %llu", ull(index + 1), ull(n_keys_), ull(offset));
  auto key = read_gguf_string(reader_);
  if (!key.ok()) return with_context(std::move(key).error(), where);
  const std::string name = quoted(key.value());
  if (key.value().empty()) return make_error(ErrorCode::kCorrupt, "%s has an empty name", where.c_str());
  if (key.value().find('\0') != std::string::npos) {
    return make_error(ErrorCode::kCorrupt, "%s: its name %s contains a zero byte", where.c_str(), name.c_str());
  }
  if (contents_.values.contains(key.value())) {
    return make_error(ErrorCode::kCorrupt, "%s: %s appears twice", where.c_str(), name.c_str());
  }
  auto value = read_gguf_value(reader_);
  if (!value.ok()) return with_context(std::move(value).error(), name + " (" + where + ")");
  contents_.key_order.push_back(key.value());
  contents_.values.emplace(std::move(key).value(), std::move(value).value());
  return {};
}

Status Parser::read_alignment() {
  const auto found = contents_.values.find("general.alignment");
  if (found == contents_.values.end()) return {};
  const GgufValue& value = found->second;
  if (value.type != GgufType::kUint32) {
    return make_error(ErrorCode::kCorrupt, "'general.alignment' is %s; expected uint32", value.describe_type().c_str());
  }
  const uint64_t alignment = *std::get_if<uint64_t>(&value.data);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > kGgufMaxAlignment) {
    return make_error(ErrorCode::kCorrupt, "'general.alignment' is %llu; expected a power of two up to %llu",
                      ull(alignment), ull(kGgufMaxAlignment));
  }
  contents_.alignment = alignment;
  return {};
}

Status Parser::parse_tensor(uint64_t index) {
  const uint64_t offset = reader_.position();
  std::string where = format("tensor %llu of %llu at offset %llu", ull(index + 1), ull(n_tensors_), ull(offset));
  auto length = read_gguf_string_length(reader_);
  if (!length.ok()) return with_context(std::move(length).error(), where);
  if (length.value() == 0) return make_error(ErrorCode::kCorrupt, "%s has an empty name", where.c_str());
  if (length.value() > kGgufMaxTensorName) {
    return make_error(ErrorCode::kCorrupt, "%s has a name of %llu bytes; the limit is %llu", where.c_str(),
                      ull(length.value()), ull(kGgufMaxTensorName));
  }
  GgufTensor tensor;
  tensor.name.resize(length.value());
  GLIMPSE_TRY(reader_.read(tensor.name.data(), tensor.name.size()));
  where = "tensor " + quoted(tensor.name) + format(" (at offset %llu)", ull(offset));
  if (tensor.name.find('\0') != std::string::npos) {
    return make_error(ErrorCode::kCorrupt, "%s: its name contains a zero byte", where.c_str());
  }
  if (!tensor_names_.emplace(tensor.name, index).second) {
    return make_error(ErrorCode::kCorrupt, "%s appears twice", where.c_str());
  }
  if (auto shape = parse_tensor_shape(tensor); !shape.ok()) return with_context(std::move(shape).error(), where);
  contents_.tensors.push_back(std::move(tensor));
  return {};
}

// Number of dims, dims, type and offset, and what follows from them.
Status Parser::parse_tensor_shape(GgufTensor& tensor) {
  GLIMPSE_ASSIGN(tensor.n_dims, reader_.read_value<uint32_t>());
  if (tensor.n_dims > kGgufMaxDims) {
    return make_error(ErrorCode::kCorrupt, "%u dimensions; at most %u are possible", tensor.n_dims, kGgufMaxDims);
  }
  uint64_t product = 1;  // of the dims, an empty one counted as 1, so that no partial product overflows either
  for (uint32_t i = 0; i < tensor.n_dims; ++i) {
    GLIMPSE_ASSIGN(tensor.dims[i], reader_.read_value<uint64_t>());
    if (tensor.dims[i] > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "dimension %u is negative (%lld)", i,
                        static_cast<long long>(tensor.dims[i]));
    }
    const auto next = checked_mul(product, std::max<uint64_t>(tensor.dims[i], 1));
    if (!next || *next > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "its number of elements overflows at dimension %u (%llu x %llu)", i,
                        ull(product), ull(tensor.dims[i]));
    }
    product = *next;
  }
  GLIMPSE_ASSIGN(const uint32_t type_id, reader_.read_value<uint32_t>());
  const DTypeInfo* info = find_dtype(type_id);
  if (info == nullptr) return make_error(ErrorCode::kUnsupported, "%s", describe_unknown_dtype(type_id).c_str());
  tensor.type = info->type;
  if (tensor.dims[0] % info->block_length != 0) {
    return make_error(ErrorCode::kCorrupt, "rows of %llu elements are not whole %s blocks of %u", ull(tensor.dims[0]),
                      info->name, info->block_length);
  }
  const auto n_bytes = checked_mul(tensor.n_elements() / info->block_length, info->block_bytes);
  if (!n_bytes) {
    return make_error(ErrorCode::kCorrupt, "its size in bytes overflows (%llu %s elements)", ull(tensor.n_elements()),
                      info->name);
  }
  tensor.n_bytes = *n_bytes;
  GLIMPSE_ASSIGN(const uint64_t offset, reader_.read_value<uint64_t>());
  offsets_.push_back(offset);
  return {};
}

Status Parser::place_tensors() {
  contents_.data_start = reader_.position();
  if (contents_.tensors.empty()) return {};
  contents_.data_start = *checked_align_up(contents_.data_start, contents_.alignment);
  const uint64_t size = contents_.n_bytes;
  if (contents_.data_start > size) {
    return make_error(ErrorCode::kTruncated,
                      "the tensor data should start at byte %llu, but the file ends at byte %llu",
                      ull(contents_.data_start), ull(size));
  }
  const GgufTensor* first_missing = nullptr;
  uint64_t furthest = 0;
  for (size_t i = 0; i < offsets_.size(); ++i) {
    GgufTensor& tensor = contents_.tensors[i];
    if (offsets_[i] % contents_.alignment != 0) {
      return make_error(ErrorCode::kCorrupt, "tensor %s: its offset %llu is not a multiple of the alignment %llu",
                        quoted(tensor.name).c_str(), ull(offsets_[i]), ull(contents_.alignment));
    }
    const auto start = checked_add(contents_.data_start, offsets_[i]);
    const auto end = start ? checked_add(*start, tensor.n_bytes) : std::nullopt;
    if (!end) {
      return make_error(ErrorCode::kCorrupt, "tensor %s: its offset %llu overflows", quoted(tensor.name).c_str(),
                        ull(offsets_[i]));
    }
    tensor.file_offset = *start;
    furthest = std::max(furthest, *end);
    if (*end > size && first_missing == nullptr) first_missing = &tensor;
  }
  if (first_missing == nullptr) return {};
  return make_error(
      ErrorCode::kTruncated,
      "the data of tensor %s (%s) should lie at bytes %llu to %llu, but the file ends at byte %llu: %s of "
      "at least %s are missing",
      quoted(first_missing->name).c_str(), first_missing->describe().c_str(), ull(first_missing->file_offset),
      ull(first_missing->file_offset + first_missing->n_bytes), ull(size), byte_size(furthest - size).c_str(),
      byte_size(furthest).c_str());
}

Status Parser::check_overlap() const {
  std::vector<const GgufTensor*> sorted;
  sorted.reserve(contents_.tensors.size());
  for (const GgufTensor& tensor : contents_.tensors) {
    if (tensor.n_bytes > 0) sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->file_offset < b->file_offset; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    const GgufTensor& a = *sorted[i - 1];
    const GgufTensor& b = *sorted[i];
    if (a.file_offset + a.n_bytes > b.file_offset) {
      return make_error(ErrorCode::kCorrupt, "tensors %s (bytes %llu to %llu) and %s (from byte %llu) overlap",
                        quoted(a.name).c_str(), ull(a.file_offset), ull(a.file_offset + a.n_bytes),
                        quoted(b.name).c_str(), ull(b.file_offset));
    }
  }
  return {};
}

}  // namespace

Result<GgufContents> parse_gguf(ByteReader& reader) {
  return Parser(reader).parse();
}

}  // namespace glimpse
