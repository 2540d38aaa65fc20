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
  GgufBudget budget_;
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
                      describe_foreign_file(std::string_view(first, n_first)));
  }
  if (reader_.size() < kHeaderBytes) {
    return make_error(ErrorCode::kTruncated, "truncated header: the file has %d bytes, a GGUF header has %d",
                      reader_.size(), kHeaderBytes);
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
    return make_error(ErrorCode::kUnsupported, "GGUF version %d at offset 4 is not supported; glimpse reads 2 and 3",
                      version);
  }
  contents_.n_bytes = reader_.size();
  for (const auto& [name, count] : {std::pair("tensor", n_tensors_), std::pair("key", n_keys_)}) {
    if (count > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "the header's %s count is negative (%d)", name,
                        static_cast<int64_t>(count));
    }
  }
  return check_counts(n_keys_, n_tensors_);
}

// Before anything is reserved for them: can the rest of the file hold so many records?
Status Parser::check_counts(uint64_t n_keys, uint64_t n_tensors) const {
  const uint64_t remaining = reader_.remaining();
  if (n_keys > remaining / kMinKeyBytes) {
    return make_error(ErrorCode::kTruncated, "the header announces %d keys, but only %d bytes follow it", n_keys,
                      remaining);
  }
  if (n_tensors > remaining / kMinTensorBytes) {
    return make_error(ErrorCode::kTruncated, "the header announces %d tensors, but only %d bytes follow offset %d",
                      n_tensors, remaining, reader_.position());
  }
  return {};
}

Status Parser::parse_key(uint64_t index) {
  const uint64_t offset = reader_.position();
  const std::string where = format("key %llu of %llu at offset %llu", index + 1, n_keys_, offset);
  auto key = read_gguf_string(reader_, budget_);
  if (!key.ok()) return with_context(std::move(key).error(), where);
  const std::string name = quoted(key.value());
  if (key.value().empty()) return make_error(ErrorCode::kCorrupt, "%s has an empty name", where);
  if (key.value().find('\0') != std::string::npos) {
    return make_error(ErrorCode::kCorrupt, "%s: its name %s contains a zero byte", where, name);
  }
  if (contents_.values.contains(key.value())) {
    return make_error(ErrorCode::kCorrupt, "%s: %s appears twice", where, name);
  }
  auto value = read_gguf_value(reader_, budget_);
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
    return make_error(ErrorCode::kCorrupt, "'general.alignment' is %s; expected uint32", value.describe_type());
  }
  const uint64_t alignment = *std::get_if<uint64_t>(&value.data);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > kGgufMaxAlignment) {
    return make_error(ErrorCode::kCorrupt, "'general.alignment' is %d; expected a power of two up to %d", alignment,
                      kGgufMaxAlignment);
  }
  contents_.alignment = alignment;
  return {};
}

Status Parser::parse_tensor(uint64_t index) {
  const uint64_t offset = reader_.position();
  std::string where = format("tensor %d of %d at offset %d", index + 1, n_tensors_, offset);
  auto length = read_gguf_string_length(reader_);
  if (!length.ok()) return with_context(std::move(length).error(), where);
  if (length.value() == 0) return make_error(ErrorCode::kCorrupt, "%s has an empty name", where);
  if (length.value() > kGgufMaxTensorName) {
    return make_error(ErrorCode::kCorrupt, "%s has a name of %d bytes; the limit is %d", where, length.value(),
                      kGgufMaxTensorName);
  }
  GgufTensor tensor;
  tensor.name.resize(length.value());
  GLIMPSE_TRY(reader_.read(tensor.name.data(), tensor.name.size()));
  where = "tensor " + quoted(tensor.name) + format(" (at offset %d)", offset);
  if (tensor.name.find('\0') != std::string::npos) {
    return make_error(ErrorCode::kCorrupt, "%s: its name contains a zero byte", where);
  }
  if (!tensor_names_.emplace(tensor.name, index).second) {
    return make_error(ErrorCode::kCorrupt, "%s appears twice", where);
  }
  if (auto shape = parse_tensor_shape(tensor); !shape.ok()) return with_context(std::move(shape).error(), where);
  contents_.tensors.push_back(std::move(tensor));
  return {};
}

// Number of dims, dims, type and offset, and what follows from them.
Status Parser::parse_tensor_shape(GgufTensor& tensor) {
  GLIMPSE_ASSIGN(tensor.n_dims, reader_.read_value<uint32_t>());
  if (tensor.n_dims > kGgufMaxDims) {
    return make_error(ErrorCode::kCorrupt, "%d dimensions; at most %d are possible", tensor.n_dims, kGgufMaxDims);
  }
  uint64_t product = 1;  // of the dims, an empty one counted as 1, so that no partial product overflows either
  for (uint32_t i = 0; i < tensor.n_dims; ++i) {
    GLIMPSE_ASSIGN(tensor.dims[i], reader_.read_value<uint64_t>());
    if (tensor.dims[i] > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "dimension %d is negative (%d)", i, static_cast<int64_t>(tensor.dims[i]));
    }
    const auto next = checked_mul(product, std::max<uint64_t>(tensor.dims[i], 1));
    if (!next || *next > INT64_MAX) {
      return make_error(ErrorCode::kCorrupt, "its number of elements overflows at dimension %d (%d x %d)", i, product,
                        tensor.dims[i]);
    }
    product = *next;
  }
  GLIMPSE_ASSIGN(const uint32_t type_id, reader_.read_value<uint32_t>());
  const DTypeInfo* info = find_dtype(type_id);
  if (info == nullptr) return make_error(ErrorCode::kUnsupported, "%s", describe_unknown_dtype(type_id));
  tensor.type = info->type;
  if (tensor.dims[0] % info->block_length != 0) {
    return make_error(ErrorCode::kCorrupt, "rows of %d elements are not whole %s blocks of %d", tensor.dims[0],
                      info->name, info->block_length);
  }
  const auto n_bytes = checked_mul(tensor.n_elements() / info->block_length, info->block_bytes);
  if (!n_bytes) {
    return make_error(ErrorCode::kCorrupt, "its size in bytes overflows (%d %s elements)", tensor.n_elements(),
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
    return make_error(ErrorCode::kTruncated, "the tensor data should start at byte %d, but the file ends at byte %d",
                      contents_.data_start, size);
  }
  const GgufTensor* first_missing = nullptr;
  uint64_t furthest = 0;
  for (size_t i = 0; i < offsets_.size(); ++i) {
    GgufTensor& tensor = contents_.tensors[i];
    if (offsets_[i] % contents_.alignment != 0) {
      return make_error(ErrorCode::kCorrupt, "tensor %s: its offset %d is not a multiple of the alignment %d",
                        quoted(tensor.name), offsets_[i], contents_.alignment);
    }
    const auto start = checked_add(contents_.data_start, offsets_[i]);
    const auto end = start ? checked_add(*start, tensor.n_bytes) : std::nullopt;
    if (!end) {
      return make_error(ErrorCode::kCorrupt, "tensor %s: its offset %d overflows", quoted(tensor.name), offsets_[i]);
    }
    tensor.file_offset = *start;
    furthest = std::max(furthest, *end);
    if (*end > size && first_missing == nullptr) first_missing = &tensor;
  }
  if (first_missing == nullptr) return {};
  return make_error(ErrorCode::kTruncated,
                    "the data of tensor %s (%s) should lie at bytes %d to %d, but the file ends at byte %d: %s of "
                    "at least %s are missing",
                    quoted(first_missing->name), first_missing->describe(), first_missing->file_offset,
                    first_missing->file_offset + first_missing->n_bytes, size, byte_size(furthest - size),
                    byte_size(furthest));
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
      return make_error(ErrorCode::kCorrupt, "tensors %s (bytes %d to %d) and %s (from byte %d) overlap",
                        quoted(a.name), a.file_offset, a.file_offset + a.n_bytes, quoted(b.name), b.file_offset);
    }
  }
  return {};
}

}  // namespace

Result<GgufContents> parse_gguf(ByteReader& reader) {
  return Parser(reader).parse();
}

}  // namespace glimpse
