#include "loaders/gguf/gguf.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>

#include "loaders/gguf/byte_reader.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

constexpr const char* kSplitNo = "split.no";
constexpr const char* kSplitCount = "split.count";
constexpr const char* kSplitTensors = "split.tensors.count";
constexpr uint64_t kMaxShards = 65535;  // gguf-py stores the count as uint16

// "-00001-of-00003.gguf": llama.cpp's name of shard `index` (from 0).
std::string shard_suffix(uint64_t index, uint64_t count) {
  return format("-%05d-of-%05d.gguf", index + 1, count);
}

Result<GgufContents> parse_with_advice(ByteReader& reader, const std::string& name) {
  auto contents = parse_gguf(reader);
  if (contents.ok()) return contents;
  Error error = with_context(std::move(contents).error(), name);
  if (error.code == ErrorCode::kTruncated) {
    error.message += ". The file is incomplete, most likely an interrupted download: download it again";
  }
  return error;
}

}  // namespace

std::string GgufTensor::describe() const {
  std::string text;
  for (const char* c = dtype_name(type); *c != '\0'; ++c) {
    text += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  text += " (";
  for (uint32_t i = 0; i < std::max(n_dims, 1u); ++i) text += format("%s%d", i == 0 ? "" : ", ", dims[i]);
  return text + ")";
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile gguf;
  GLIMPSE_ASSIGN(File file, File::open(path));
  ByteReader reader(file);
  GLIMPSE_ASSIGN(auto contents, parse_with_advice(reader, path));
  GLIMPSE_TRY(gguf.add_first(path, std::move(contents)));
  gguf.files_.push_back(std::move(file));
  GLIMPSE_TRY(gguf.open_siblings());
  return gguf;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  GgufFile gguf;
  ByteReader reader(bytes);
  GLIMPSE_ASSIGN(auto contents, parse_with_advice(reader, name));
  GLIMPSE_TRY(gguf.add_first(name, std::move(contents)));
  gguf.memory_ = bytes;
  GLIMPSE_ASSIGN(const auto count, gguf.optional_uint(kSplitCount));
  if (count.value_or(1) > 1) {
    return make_error(ErrorCode::kUnsupported,
                      "%s is one of %d shards of a split model; such a model can only be opened from files", name,
                      *count);
  }
  return gguf;
}

Status GgufFile::add_first(const std::string& path, GgufContents contents) {
  path_ = path;
  version_ = contents.version;
  alignment_ = contents.alignment;
  key_order_ = std::move(contents.key_order);
  values_ = std::move(contents.values);
  return add_shard(path, std::move(contents));
}

Status GgufFile::add_shard(const std::string& path, GgufContents contents) {
  const auto index = static_cast<uint32_t>(shards_.size());
  for (GgufTensor& tensor : contents.tensors) {
    const auto [entry, is_new] = tensor_index_.emplace(tensor.name, tensors_.size());
    if (!is_new) {
      return make_error(ErrorCode::kCorrupt, "%s: tensor %s is already in %s", path, quoted(tensor.name),
                        shards_[tensors_[entry->second].shard].path);
    }
    tensor.shard = index;
    tensors_.push_back(std::move(tensor));
  }
  shards_.push_back({path, contents.version, contents.alignment, contents.data_start, contents.n_bytes});
  return {};
}

// Opens the other files of a split model, when this one says that there are any.
Status GgufFile::open_siblings() {
  GLIMPSE_ASSIGN(const auto count, optional_uint(kSplitCount));
  if (count.value_or(1) <= 1) return {};
  GLIMPSE_ASSIGN(const auto number, optional_uint(kSplitNo));
  if (*count > kMaxShards || number.value_or(0) >= *count) {
    return make_error(ErrorCode::kCorrupt, "%s: split.no is %d and split.count is %d", path_, number.value_or(0),
                      *count);
  }
  const std::string suffix = shard_suffix(number.value_or(0), *count);
  const std::string first = shard_suffix(0, *count);
  if (number.value_or(0) != 0) {
    const std::string wanted =
        path_.ends_with(suffix) ? path_.substr(0, path_.size() - suffix.size()) + first : "*" + first;
    return make_error(ErrorCode::kMismatch, "%s is shard %d of %d of a split model; open the first one: %s", path_,
                      *number + 1, *count, wanted);
  }
  if (!path_.ends_with(first)) {
    return make_error(ErrorCode::kMismatch,
                      "%s is the first of %d shards, but its name does not end in %s, so that the others cannot be "
                      "found; give the shards their original names",
                      path_, *count, first);
  }
  const std::string prefix = path_.substr(0, path_.size() - first.size());
  for (uint64_t i = 1; i < *count; ++i) {
    const std::string path = prefix + shard_suffix(i, *count);
    const auto where = [&] { return format("shard %d of %d", i + 1, *count); };
    auto file = File::open(path);
    if (!file.ok()) return with_context(std::move(file).error(), where());
    ByteReader reader(file.value());
    auto contents = parse_with_advice(reader, path);
    if (!contents.ok()) return with_context(std::move(contents).error(), where());
    // The shard's own keys are needed only to see that it belongs here.
    GgufFile shard;
    shard.path_ = path;
    shard.values_ = std::move(contents->values);
    GLIMPSE_ASSIGN(const auto shard_no, shard.require_uint(kSplitNo));
    GLIMPSE_ASSIGN(const auto shard_count, shard.optional_uint(kSplitCount));
    if (shard_no != i || shard_count.value_or(*count) != *count) {
      return make_error(ErrorCode::kMismatch, "%s: its metadata say shard %d of %d; expected shard %d of %d", path,
                        shard_no + 1, shard_count.value_or(*count), i + 1, *count);
    }
    GLIMPSE_TRY(add_shard(path, std::move(contents).value()));
    files_.push_back(std::move(file).value());
  }
  GLIMPSE_ASSIGN(const auto total, optional_uint(kSplitTensors));
  if (total.value_or(tensors_.size()) != tensors_.size()) {
    return make_error(ErrorCode::kMismatch, "%s: split.tensors.count is %d, but the %d shards have %d tensors", path_,
                      *total, *count, tensors_.size());
  }
  return {};
}

uint64_t GgufFile::n_bytes() const {
  uint64_t total = 0;
  for (const GgufShard& shard : shards_) total += shard.n_bytes;
  return total;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Status GgufFile::read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) const {
  if (tensor.shard >= shards_.size() || offset > tensor.n_bytes || out.size() > tensor.n_bytes - offset) {
    return make_error(ErrorCode::kInvalidArgument, "%s: %d bytes at %d of tensor %s, which has %d", path_, out.size(),
                      offset, quoted(tensor.name), tensor.n_bytes);
  }
  if (!files_.empty()) return files_[tensor.shard].read_at(tensor.file_offset + offset, out);
  if (!out.empty()) std::memcpy(out.data(), memory_.data() + tensor.file_offset + offset, out.size());
  return {};
}

}  // namespace glimpse
