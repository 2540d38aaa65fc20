#include "loaders/gguf/gguf_check.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "engine/base/checked.h"
#include "engine/base/enum_names.h"
#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

using Level = GgufFinding::Level;

enum class Want { kInteger, kFloat, kNumber, kBool, kString, kStrings, kIntegers, kFloats };

const char* want_name(Want want) {
  constexpr const char* kNames[] = {
      "an integer",           "a float",           "a number", "a bool", "a string", "an array of strings",
      "an array of integers", "an array of floats"};
  return enum_name<Want::kFloats>(kNames, want, "?");
}

// Keys every architecture shares (gguf-py constants.py). One that starts with '.' stands for any architecture.
struct KnownKey {
  std::string_view key;
  Want want;
};
constexpr KnownKey kKnownKeys[] = {
    {"general.architecture", Want::kString},
    {"general.type", Want::kString},
    {"general.name", Want::kString},
    {"general.file_type", Want::kInteger},
    {"general.quantization_version", Want::kInteger},
    {"split.no", Want::kInteger},
    {"split.count", Want::kInteger},
    {"split.tensors.count", Want::kInteger},
    {"tokenizer.ggml.model", Want::kString},
    {"tokenizer.ggml.pre", Want::kString},
    {"tokenizer.ggml.tokens", Want::kStrings},
    {"tokenizer.ggml.merges", Want::kStrings},
    {"tokenizer.ggml.token_type", Want::kIntegers},
    {"tokenizer.ggml.scores", Want::kFloats},
    {"tokenizer.ggml.bos_token_id", Want::kInteger},
    {"tokenizer.ggml.eos_token_id", Want::kInteger},
    {"tokenizer.ggml.padding_token_id", Want::kInteger},
    {"tokenizer.ggml.unknown_token_id", Want::kInteger},
    {"tokenizer.ggml.add_bos_token", Want::kBool},
    {"tokenizer.ggml.add_eos_token", Want::kBool},
    {"tokenizer.chat_template", Want::kString},
    {".context_length", Want::kInteger},
    {".embedding_length", Want::kInteger},
    {".block_count", Want::kInteger},
    {".feed_forward_length", Want::kInteger},
    {".attention.head_count", Want::kInteger},
    {".attention.head_count_kv", Want::kInteger},
    {".attention.layer_norm_epsilon", Want::kFloat},
    {".attention.layer_norm_rms_epsilon", Want::kFloat},
    {".rope.freq_base", Want::kNumber},
    {".rope.dimension_count", Want::kInteger},
    {".rope.dimension_sections", Want::kIntegers},
};

bool is_integer(GgufType type) {
  return type != GgufType::kFloat32 && type != GgufType::kFloat64 && type != GgufType::kBool &&
         type != GgufType::kString && type != GgufType::kArray;
}
bool is_float(GgufType type) {
  return type == GgufType::kFloat32 || type == GgufType::kFloat64;
}

// Per-layer arrays are common where a scalar is meant, so an array of the right element type is fine for a scalar.
bool fits(const GgufValue& value, Want want) {
  const GgufType type = value.is_array() ? value.element_type : value.type;
  switch (want) {
    case Want::kInteger:
      return is_integer(type);
    case Want::kFloat:
      return is_float(type);
    case Want::kNumber:
      return is_float(type) || is_integer(type);
    case Want::kBool:
      return type == GgufType::kBool;
    case Want::kString:
      return !value.is_array() && type == GgufType::kString;
    case Want::kStrings:
      return value.is_array() && type == GgufType::kString;
    case Want::kIntegers:
      return value.is_array() && is_integer(type);
    case Want::kFloats:
      return value.is_array() && is_float(type);
  }
  return true;
}

class Checker {
 public:
  explicit Checker(const GgufFile& file) : file_(file) {}

  std::vector<GgufFinding> check() {
    for (uint32_t i = 0; i < file_.n_shards(); ++i) check_shard(i);
    check_architecture();
    for (const std::string& key : file_.keys()) check_key(key, *file_.find(key));
    check_vocabulary();
    check_tensors();
    return std::move(findings_);
  }

 private:
  void add(Level level, std::string text) { findings_.push_back({level, std::move(text)}); }
  void check_shard(uint32_t index);
  void check_layout(uint32_t index, const std::string& name);
  void check_architecture();
  void check_key(const std::string& key, const GgufValue& value);
  void check_vocabulary();
  void check_tensors();

  const GgufFile& file_;
  std::vector<GgufFinding> findings_;
};

void Checker::check_shard(uint32_t index) {
  const GgufShard& shard = file_.shards()[index];
  // Which shard: said only where there are several.
  const std::string name = file_.n_shards() > 1 ? shard.path + ": " : "";
  if (shard.version != 3) {
    add(Level::kNote, format("%sGGUF version %d; everything writes 3 today", name, shard.version));
  }
  if (shard.alignment < 32) {
    add(Level::kNote, format("%salignment %d instead of 32: tensors may start at odd places for vector loads", name,
                             shard.alignment));
  } else if (shard.alignment != 32) {
    add(Level::kNote, format("%salignment %d instead of the usual 32", name, shard.alignment));
  }
  check_layout(index, name);
}

// llama.cpp wants every tensor exactly at the padded end of the one before it, in file order.
void Checker::check_layout(uint32_t index, const std::string& name) {
  const GgufShard& shard = file_.shards()[index];
  uint64_t expected = shard.data_start;
  uint64_t data_end = shard.data_start;  // without padding
  uint64_t n_misplaced = 0, n_tensors = 0;
  for (const GgufTensor& tensor : file_.tensors()) {
    if (tensor.shard != index) continue;
    ++n_tensors;
    if (tensor.file_offset != expected && n_misplaced++ == 0) {
      add(Level::kWarning, format("%stensor %s starts at byte %d, where %d is next: offsets are not consecutive, "
                                  "so llama.cpp refuses the file",
                                  name, quoted(tensor.name), tensor.file_offset, expected));
    }
    const uint64_t end = tensor.file_offset + tensor.n_bytes;
    expected = checked_align_up(end, shard.alignment).value_or(end);
    data_end = std::max(data_end, end);
  }
  if (n_misplaced > 1) {
    add(Level::kWarning,
        format("%s%d of %d tensors are not where llama.cpp expects them", name, n_misplaced, n_tensors));
  }
  const uint64_t padded_end = checked_align_up(data_end, shard.alignment).value_or(data_end);
  if (shard.n_bytes > padded_end) {
    add(Level::kNote, format("%s%d bytes after the end of the data (byte %d) belong to nothing", name,
                             shard.n_bytes - padded_end, padded_end));
  } else if (n_tensors > 0 && shard.n_bytes < padded_end) {
    add(Level::kNote,
        format("%sthe padding after the last tensor is missing (%d bytes)", name, padded_end - shard.n_bytes));
  }
}

void Checker::check_architecture() {
  if (file_.find("general.architecture") == nullptr) {
    add(Level::kWarning, "key 'general.architecture' is missing: nothing can tell which model this is");
  } else if (file_.keys().front() != "general.architecture") {
    add(Level::kNote, "key 'general.architecture' is not the first one");
  }
}

void Checker::check_key(const std::string& key, const GgufValue& value) {
  const std::string name = quoted(key);
  for (const KnownKey& known : kKnownKeys) {
    const bool same = known.key.starts_with('.') ? key.ends_with(known.key) : key == known.key;
    if (same && !fits(value, known.want)) {
      add(Level::kWarning, format("key %s is %s; expected %s", name, value.describe_type(), want_name(known.want)));
      break;
    }
  }
  const bool conventional = std::all_of(key.begin(), key.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-' || c == '/';
  });
  if (!conventional) add(Level::kNote, format("key %s has unusual characters", name));
  if (value.is_array() && value.array_size() == 0) {
    add(Level::kNote, format("key %s is an empty array; glimpse treats it as absent", name));
  }
  if (const auto* text = std::get_if<std::string>(&value.data)) {
    if (text->empty()) add(Level::kNote, format("key %s is an empty string", name));
    if (!is_valid_utf8(*text)) add(Level::kWarning, format("key %s is not valid UTF-8", name));
  }
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value.data)) {
    const auto bad = std::count_if(texts->begin(), texts->end(), [](const auto& text) { return !is_valid_utf8(text); });
    if (bad > 0) {
      add(Level::kWarning, format("key %s: %d of its %d strings are not valid UTF-8", name, bad, texts->size()));
    }
  }
  bool finite = true;
  if (const auto* number = std::get_if<double>(&value.data)) finite = std::isfinite(*number);
  if (const auto* numbers = std::get_if<GgufNumbers>(&value.data); numbers != nullptr && is_float(numbers->type())) {
    // -inf and NaN appear among token scores of damaged conversions.
    for (size_t i = 0; i < numbers->size() && finite; ++i) finite = std::isfinite(std::get<double>((*numbers)[i]));
  }
  if (!finite) add(Level::kWarning, format("key %s is not finite", name));
}

void Checker::check_vocabulary() {
  const auto* tokens = file_.string_array("tokenizer.ggml.tokens");
  if (tokens == nullptr) return;
  for (const char* key : {"tokenizer.ggml.token_type", "tokenizer.ggml.scores"}) {
    const GgufValue* value = file_.find(key);
    if (value != nullptr && value->array_size() != tokens->size()) {
      add(Level::kWarning, format("key '%s' has %d entries for %d tokens", key, value->array_size(), tokens->size()));
    }
  }
  for (const std::string& key : file_.keys()) {
    if (!key.starts_with("tokenizer.ggml.") || !key.ends_with("_token_id")) continue;
    const auto id = file_.optional_uint(key);
    if (id.ok() && id.value().value_or(0) >= tokens->size()) {
      add(Level::kWarning, format("key %s is %d, but there are %d tokens", quoted(key), *id.value(), tokens->size()));
    }
  }
  std::vector<std::string_view> sorted(tokens->begin(), tokens->end());
  std::sort(sorted.begin(), sorted.end());
  const auto twin = std::adjacent_find(sorted.begin(), sorted.end());
  if (twin != sorted.end()) {
    add(Level::kWarning, format("token %s appears more than once in the vocabulary", quoted(*twin)));
  }
}

void Checker::check_tensors() {
  struct Group {
    uint64_t count = 0;
    std::string first;
  };
  std::map<DType, Group> unusable;
  Group empty, scalar;
  const auto note = [](Group& group, const GgufTensor& tensor) {
    if (group.count++ == 0) group.first = quoted(tensor.name) + " " + tensor.describe();
  };
  bool quantized = false;
  for (const GgufTensor& tensor : file_.tensors()) {
    const DTypeInfo& info = dtype_info(tensor.type);
    if (!info.is_weight) note(unusable[tensor.type], tensor);
    if (tensor.n_elements() == 0) note(empty, tensor);
    if (tensor.n_dims == 0) note(scalar, tensor);
    quantized = quantized || info.block_length > 1;
  }
  for (const auto& [type, group] : unusable) {
    add(Level::kWarning, format("tensors of type %s, which glimpse cannot multiply: %d, the first %s", dtype_name(type),
                                group.count, group.first));
  }
  if (empty.count > 0) {
    add(Level::kWarning, format("tensors without elements: %d, the first %s", empty.count, empty.first));
  }
  if (scalar.count > 0) {
    add(Level::kNote, format("tensors without dimensions: %d, the first %s", scalar.count, scalar.first));
  }
  const auto version = file_.optional_uint("general.quantization_version");
  if (quantized && version.ok() && version.value().value_or(2) != 2) {
    add(Level::kWarning,
        format("general.quantization_version is %d; the block layouts known today are version 2", *version.value()));
  }
  const GgufValue* type = file_.find("general.type");
  const auto* kind = type == nullptr ? nullptr : std::get_if<std::string>(&type->data);
  const bool tensors_expected = kind == nullptr || *kind != "vocab";
  if (file_.tensors().empty() && tensors_expected) {
    add(Level::kNote, "no tensors: a vocabulary or metadata file, not a model that can run");
  }
}

}  // namespace

std::vector<GgufFinding> check_gguf(const GgufFile& file) {
  return Checker(file).check();
}

}  // namespace glimpse
