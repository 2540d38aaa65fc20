// A GGUF file taken apart, changed in its meaning and put together again: what the bytes of a fuzzer say, or a seed.
// The container stays well-formed, so that what lies behind it is reached: configuration, vocabulary, shapes, weights.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/dtype.h"
#include "loaders/gguf/gguf_number.h"

namespace glimpse::fuzz {

class ModelMutant {
 public:
  explicit ModelMutant(const GgufFile& file) {
    for (const std::string& key : file.keys()) keys_.emplace_back(key, *file.find(key));
    for (const GgufTensor& t : file.tensors()) {
      Tensor tensor{t.name, t.type, std::vector<uint64_t>(t.dims, t.dims + t.n_dims), std::string(t.n_bytes, '\0')};
      if (!file.read(t, 0, std::as_writable_bytes(std::span(tensor.bytes))).ok()) std::abort();
      tensors_.push_back(std::move(tensor));
    }
  }

  /// Five bytes a change: what, which (two), how, how much; a rest is left out. At most 16 changes.
  ModelMutant& apply(std::span<const uint8_t> program) {
    for (size_t i = 0; i + 5 <= program.size() && i < 16 * 5; i += 5) {
      const size_t which = program[i + 1] | size_t{program[i + 2]} << 8;
      change(program[i] % 12, which, program[i + 3], program[i + 4]);
    }
    return *this;
  }

  /// The file.
  std::string build() const {
    std::string out = "GGUF", data;
    put<uint32_t>(out, 3);
    put<uint64_t>(out, tensors_.size());
    put<uint64_t>(out, keys_.size());
    for (const auto& [key, value] : keys_) {
      put_text(out, key);
      put_value(out, value);
    }
    for (const Tensor& tensor : tensors_) {
      put_text(out, tensor.name);
      put(out, static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t dim : tensor.dims) put(out, dim);
      put(out, static_cast<uint32_t>(tensor.type));
      put<uint64_t>(out, data.size());
      data += tensor.bytes;
      data.resize((data.size() + 31) / 32 * 32);
    }
    out.resize((out.size() + 31) / 32 * 32);
    return out + data;
  }

 private:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<uint64_t> dims;
    std::string bytes;
  };

  static uint64_t number(uint8_t how, uint8_t much) {
    static constexpr uint64_t kNumbers[] = {0,        1,          2,          3,          5,         7,       8,
                                            13,       16,         64,         100,        1 << 16,   1 << 20, 1 << 30,
                                            1u << 31, 0xffffffff, 1ull << 40, 1ull << 63, UINT64_MAX};
    return how % 3 == 0 ? much : kNumbers[much % std::size(kNumbers)];
  }
  static float real(uint8_t much) {
    static constexpr float kReals[] = {0, -0.0f, -1, 1e-45f, 1e-30f, 1, 1e10f, 1e30f, 3e38f};
    if (much % 16 == 14) return std::numeric_limits<float>::infinity();
    if (much % 16 == 15) return std::numeric_limits<float>::quiet_NaN();
    return kReals[much % std::size(kReals)];
  }
  static const char* text(uint8_t much) {
    static constexpr const char* kTexts[] = {"",       "qwen2vl",        "qwen2", "clip",
                                             "llama",  "gpt2",           "yarn",  "none",
                                             "linear", "qwen2vl_merger", "\xff",  "qwen2.5vl_merger"};
    return kTexts[much % std::size(kTexts)];
  }
  static const char* name(uint8_t much) {
    static constexpr const char* kNames[] = {
        "blk.0.attn_output.bias",  "blk.0.attn_qkv.weight", "blk.1.attn_q_norm.weight", "blk.99.ffn_up.weight",
        "output.weight",           "output.bias",           "rope_freqs.weight",        "rope_factors_long.weight",
        "v.patch_embd.bias",       "v.class_embd",          "v.position_embd.weight",   "v.blk.0.attn_qkv.weight",
        "v.blk.0.ffn_gate.weight", "mm.1.weight",           "a.conv1d.weight",          "token_embd.weight",
        "blk.0.ffn_down.weight",   "mm.2.weight",           "v.blk.1.ln1.bias"};
    return kNames[much % std::size(kNames)];
  }

  void change(int what, size_t which, uint8_t how, uint8_t much) {
    if (what < 5) {
      if (!keys_.empty()) change_key(what, keys_[which % keys_.size()], which, how, much);
    } else if (!tensors_.empty()) {
      change_tensor(what - 5, which % tensors_.size(), which, how, much);
    }
  }

  void change_key(int what, std::pair<std::string, GgufValue>& entry, size_t which, uint8_t how, uint8_t much) {
    GgufValue& value = entry.second;
    auto* texts = std::get_if<std::vector<std::string>>(&value.data);
    auto* numbers = std::get_if<GgufNumbers>(&value.data);
    if (texts != nullptr && !texts->empty() && what > 0) {  // vocabulary and merges
      std::string& one = (*texts)[(which * 31 + how) % texts->size()];
      if (what == 1) one = (*texts)[much % texts->size()];
      if (what == 2) one = text(much);
      if (what == 3) one.push_back(static_cast<char>(much));
      if (what == 4) texts->resize(texts->size() - std::min<size_t>(much, texts->size()));
      return;
    }
    if (numbers != nullptr && numbers->size() > 0 && what == 1) {
      std::vector<std::byte> bytes(numbers->bytes().begin(), numbers->bytes().end());
      bytes[(which * 31 + how) % bytes.size()] = static_cast<std::byte>(much);
      value.data = GgufNumbers(numbers->type(), std::move(bytes));
      return;
    }
    switch (what) {
      case 0:
        entry.first += static_cast<char>('a' + much % 26);  // gone, as far as a reader of its name can tell
        break;
      case 1: {
        const bool is_signed = value.type == GgufType::kInt32;
        value = {is_signed ? GgufType::kInt32 : GgufType::kUint64, GgufType::kUint32, number(how, much)};
        if (is_signed) value.data = static_cast<int64_t>(static_cast<int32_t>(number(how, much)));
        break;
      }
      case 2:
        value = {GgufType::kString, GgufType::kUint32, std::string(text(much))};
        break;
      case 3:
        value = {GgufType::kFloat32, GgufType::kUint32, static_cast<double>(real(much))};
        break;
      default: {
        std::vector<std::byte> bytes(size_t{4} * (much % 8), static_cast<std::byte>(how));
        value = {GgufType::kArray, GgufType::kInt32, GgufNumbers(GgufType::kInt32, std::move(bytes))};
      }
    }
  }

  void change_tensor(int what, size_t i, size_t which, uint8_t how, uint8_t much) {
    Tensor& tensor = tensors_[i];
    switch (what) {
      case 0:
        tensors_.erase(tensors_.begin() + static_cast<ptrdiff_t>(i));
        return;
      case 1: {  // the same under another name, or two that swap theirs
        const std::string other = name(much);
        const auto taken =
            std::find_if(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.name == other; });
        if (taken != tensors_.end()) {
          std::swap(taken->name, tensor.name);
        } else if (how % 2 == 0) {
          tensor.name = other;
        } else {
          Tensor copy = tensor;
          copy.name = other;
          tensors_.push_back(std::move(copy));
        }
        return;
      }
      case 2:
        if (!tensor.dims.empty()) tensor.dims[how % tensor.dims.size()] = number(how / 4, much);
        break;
      case 3:
        if (tensor.dims.size() > 1) std::swap(tensor.dims[0], tensor.dims[1]);
        break;
      case 4: {
        static constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,   DType::kQ8_0, DType::kQ4_K,
                                           DType::kQ6_K, DType::kQ4_0, DType::kIQ4_XS, DType::kI32};
        tensor.type = kTypes[much % std::size(kTypes)];
        break;
      }
      default: {  // the data
        if (tensor.bytes.size() < 4) return;
        const float value = real(much);
        const size_t at = (which * 2654435761u + how * 4) % (tensor.bytes.size() / 4) * 4;
        if (how % 2 == 0) {
          std::memcpy(tensor.bytes.data() + at, &value, 4);
        } else {
          std::fill(tensor.bytes.begin() + static_cast<ptrdiff_t>(at), tensor.bytes.end(), static_cast<char>(much));
        }
        return;
      }
    }
    // As many bytes as the new shape has, where that is not absurd: otherwise the file is found to be cut short.
    uint64_t rows = 1;
    for (size_t k = 1; k < tensor.dims.size(); ++k) rows *= std::min<uint64_t>(tensor.dims[k], 1 << 12);
    const uint64_t width = tensor.dims.empty() ? 1 : std::min<uint64_t>(tensor.dims[0], 1 << 12);
    const DTypeInfo& info = dtype_info(tensor.type);
    const uint64_t n_bytes = width / info.block_length * info.block_bytes * std::min<uint64_t>(rows, 1 << 16);
    if (n_bytes <= 1 << 20) tensor.bytes.resize(n_bytes);
  }

  template <typename T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void put_text(std::string& out, const std::string& text) {
    put<uint64_t>(out, text.size());
    out += text;
  }
  static void put_scalar(std::string& out, GgufType type, const GgufValue& value) {
    const auto as = [&]<typename T>(T) {
      std::visit(
          [&](const auto& data) {
            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(data)>>) put(out, static_cast<T>(data));
          },
          value.data);
    };
    visit_number_type(type, as);
  }
  static void put_value(std::string& out, const GgufValue& value) {
    put(out, static_cast<uint32_t>(value.type));
    if (const auto* text = std::get_if<std::string>(&value.data)) return put_text(out, *text);
    if (!value.is_array()) return put_scalar(out, value.type, value);
    put(out, static_cast<uint32_t>(value.element_type));
    put<uint64_t>(out, value.array_size());
    if (const auto* numbers = std::get_if<GgufNumbers>(&value.data)) {
      out.append(reinterpret_cast<const char*>(numbers->bytes().data()), numbers->bytes().size());
    } else {
      for (const std::string& text : std::get<std::vector<std::string>>(value.data)) put_text(out, text);
    }
  }

  std::vector<std::pair<std::string, GgufValue>> keys_;
  std::vector<Tensor> tensors_;
};

/// The model or vision file that a fuzzer starts from. Aborts when it is not there: the build is wrong.
inline GgufFile open_base(const std::string& path) {
  auto file = GgufFile::open(path);
  if (!file.ok()) std::abort();
  return std::move(file).value();
}

}  // namespace glimpse::fuzz
