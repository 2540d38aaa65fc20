// Hashes that tell two models apart without reading them whole.
#include <algorithm>
#include <array>

#include "engine/base/hash.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 18;  // of the header, per read
constexpr uint64_t kSample = 4096, kSamples = 256;

Status add_range(const File& file, uint64_t first, uint64_t end, std::vector<std::byte>& buffer, Hash64& hash) {
  while (first < end) {
    buffer.resize(static_cast<size_t>(std::min(kPiece, end - first)));
    GLIMPSE_TRY(file.read_at(first, buffer));
    hash.add(buffer);
    first += buffer.size();
  }
  return {};
}

void add_text(std::string_view text, Hash64& hash) {
  hash.add(std::as_bytes(std::span(text)));
}

void add_value(const GgufValue& value, Hash64& hash) {
  hash.add(uint64_t{static_cast<uint32_t>(value.type)} << 32 | static_cast<uint32_t>(value.element_type));
  std::visit(
      [&](const auto& data) {
        using T = std::decay_t<decltype(data)>;
        if constexpr (std::is_same_v<T, std::string>) {
          add_text(data, hash);
        } else if constexpr (std::is_arithmetic_v<T>) {
          hash.add(std::as_bytes(std::span(&data, 1)));
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          for (const std::string& text : data) add_text(text, hash);
        } else {
          hash.add(data.bytes());
        }
      },
      value.data);
}

}  // namespace

Result<uint64_t> GgufFile::fingerprint(std::string_view prefix) const {
  Hash64 hash;
  for (const auto& [key, value] : values_) {
    if (!key.starts_with(prefix)) continue;
    add_text(key, hash);
    add_value(value, hash);
  }
  std::vector<std::byte> sample;
  for (const auto& [name, index] : tensor_index_) {  // by name: the order in the file does not matter
    const GgufTensor& tensor = tensors_[index];
    add_text(name, hash);
    hash.add(static_cast<uint64_t>(tensor.type));
    hash.add(std::as_bytes(std::span(tensor.dims)));
    const uint64_t n = std::min(tensor.n_bytes, kSample), last = tensor.n_bytes - n;
    sample.resize(static_cast<size_t>(n));
    for (const uint64_t at : {uint64_t{0}, last / 2, last}) {
      GLIMPSE_TRY(read(tensor, at, sample));
      hash.add(sample);
    }
  }
  return std::max<uint64_t>(hash.value(), 1);
}

Result<uint64_t> GgufFile::content_key() const {
  if (files_.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "%s is no file: it has no content key", path_);
  }
  Hash64 hash;
  std::vector<std::byte> buffer;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const GgufShard& shard = shards_[i];
    const File& file = files_[i];
    hash.add(shard.n_bytes);
    hash.add(static_cast<uint64_t>(file.modified_ns()));
    GLIMPSE_TRY(add_range(file, 0, std::min(shard.data_start, shard.n_bytes), buffer, hash));
    const uint64_t start = std::min(shard.data_start, shard.n_bytes), n_data = shard.n_bytes - start;
    if (n_data <= kSample * kSamples) {
      GLIMPSE_TRY(add_range(file, start, shard.n_bytes, buffer, hash));
      continue;
    }
    for (uint64_t s = 0; s < kSamples; ++s) {  // evenly from the first byte to the last
      const uint64_t at = start + (n_data - kSample) * s / (kSamples - 1);
      GLIMPSE_TRY(add_range(file, at, at + kSample, buffer, hash));
    }
  }
  if (renamed_) hash.add(uint64_t{1});
  return hash.value();
}

Result<GgufFile> GgufFile::renamed(const GgufNames& names) const {
  GLIMPSE_ASSIGN(GgufFile part, files_.empty() ? parse(memory_, path_) : open(path_));
  part.renamed_ = true;
  part.key_order_.clear();
  GgufValues values = names.values;
  for (const auto& [from, to] : names.keys) {
    if (const auto found = values_.find(from); found != values_.end()) values.emplace(to, found->second);
  }
  for (const auto& [key, value] : values) part.key_order_.push_back(key);
  part.values_ = std::move(values);
  part.tensors_.clear();
  part.tensor_index_.clear();
  for (const GgufTensor& tensor : tensors_) {
    const auto to = names.tensors.find(tensor.name);
    if (to == names.tensors.end()) continue;
    GgufTensor& renamed = part.tensors_.emplace_back(tensor);
    renamed.name = to->second;
    if (!part.tensor_index_.emplace(renamed.name, part.tensors_.size() - 1).second) {
      return make_error(ErrorCode::kCorrupt, "%s: %s and another tensor would both be called %s", path_, tensor.name,
                        renamed.name);
    }
  }
  return part;
}

}  // namespace glimpse
