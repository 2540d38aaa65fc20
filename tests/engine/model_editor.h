// Copies a golden GGUF file with changes: the bad and the unusual files of the loader tests.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "loaders/gguf/gguf_writer.h"
#include "tests/base/scratch_dir.h"
#include "tests/engine/golden_support.h"

namespace glimpse::testing {

class ModelEditor {
 public:
  struct Tensor {
    std::string name;
    DType type = DType::kF32;
    std::vector<uint64_t> dims;
    std::vector<std::byte> bytes;
  };

  explicit ModelEditor(const std::string& golden_name) {
    const GgufFile file = must(GgufFile::open(golden_path(golden_name)));
    for (const std::string& key : file.keys()) keys_.emplace_back(key, *file.find(key));
    for (const GgufTensor& t : file.tensors()) {
      Tensor tensor{t.name, t.type, std::vector<uint64_t>(t.dims, t.dims + t.n_dims), {}};
      tensor.bytes.resize(t.n_bytes);
      EXPECT_OK(file.read(t, 0, tensor.bytes));
      tensors_.push_back(std::move(tensor));
    }
  }

  ModelEditor& remove_key(const std::string& key) {
    EXPECT_EQ(std::erase_if(keys_, [&](const auto& entry) { return entry.first == key; }), 1u) << key;
    return *this;
  }
  ModelEditor& set(const std::string& key, const std::string& value) { return put(key, GgufType::kString, value); }
  ModelEditor& set(const std::string& key, uint64_t value) { return put(key, GgufType::kUint32, value); }
  ModelEditor& set_bool(const std::string& key, bool value) {
    return put(key, GgufType::kBool, static_cast<uint64_t>(value));
  }
  ModelEditor& set_ints(const std::string& key, const std::vector<int64_t>& values) {
    GgufValue value;
    value.type = GgufType::kArray;
    value.element_type = GgufType::kInt32;
    value.data = must(GgufNumbers::narrow(GgufType::kInt32, values));
    return put(key, value);
  }
  ModelEditor& set_value(const std::string& key, const GgufValue& value) { return put(key, value); }
  /// Gives a token another text.
  ModelEditor& name_token(size_t id, const std::string& text) {
    for (auto& [key, value] : keys_) {
      if (key != "tokenizer.ggml.tokens") continue;
      auto* const tokens = std::get_if<std::vector<std::string>>(&value.data);
      if (tokens != nullptr && id < tokens->size()) (*tokens)[id] = text;
    }
    return *this;
  }

  ModelEditor& set_token_type(size_t id, int32_t type) {
    for (auto& [key, value] : keys_) {
      if (key != "tokenizer.ggml.token_type") continue;
      std::vector<int64_t> types;
      const auto* const numbers = std::get_if<GgufNumbers>(&value.data);
      for (size_t i = 0; numbers != nullptr && i < numbers->size(); ++i) {
        std::visit([&](auto v) { types.push_back(static_cast<int64_t>(v)); }, (*numbers)[i]);
      }
      if (id < types.size()) types[id] = type;
      return set_ints(key, types);
    }
    return *this;
  }

  std::vector<Tensor>& tensors() { return tensors_; }
  Tensor& tensor(const std::string& name) {
    for (Tensor& t : tensors_) {
      if (t.name == name) return t;
    }
    ADD_FAILURE() << "no tensor " << name;
    std::abort();
  }
  float* floats(const std::string& name) { return reinterpret_cast<float*>(tensor(name).bytes.data()); }
  ModelEditor& scale(const std::string& name, float factor) {
    Tensor& t = tensor(name);
    EXPECT_EQ(t.type, DType::kF32);
    for (size_t i = 0; i < t.bytes.size() / 4; ++i) floats(name)[i] *= factor;
    return *this;
  }
  ModelEditor& remove_tensor(const std::string& name) {
    EXPECT_EQ(std::erase_if(tensors_, [&](const Tensor& t) { return t.name == name; }), 1u) << name;
    return *this;
  }
  ModelEditor& rename(const std::string& from, const std::string& to) {
    tensor(from).name = to;
    return *this;
  }
  ModelEditor& add(Tensor tensor) {
    tensors_.push_back(std::move(tensor));
    return *this;
  }
  /// Joins the rows of several tensors into one, as fused projections are stored.
  ModelEditor& join(const std::vector<std::string>& names, const std::string& to) {
    Tensor joined = tensor(names[0]);
    joined.name = to;
    for (size_t i = 1; i < names.size(); ++i) {
      const Tensor& part = tensor(names[i]);
      joined.dims.back() += part.dims.back();
      joined.bytes.insert(joined.bytes.end(), part.bytes.begin(), part.bytes.end());
    }
    for (const std::string& name : names) remove_tensor(name);
    return add(std::move(joined));
  }

  /// Writes the file to a temporary folder that lives as long as this object; returns its path.
  std::string write(const std::string& name = "edited.gguf") {
    const std::string path = folder_.file(name);
    GgufWriter writer;
    for (const auto& [key, value] : keys_) writer.add_value(key, value);
    for (const Tensor& t : tensors_) writer.declare_tensor(t.name, t.type, t.dims);
    EXPECT_OK(writer.begin(path, AtomicFileWriter::Existing::kReplace));
    for (const Tensor& t : tensors_) EXPECT_OK(writer.append(t.bytes));
    EXPECT_OK(writer.commit());
    return path;
  }

 private:
  template <typename T>
  ModelEditor& put(const std::string& key, GgufType type, T scalar) {
    GgufValue value;
    value.type = type;
    value.data = scalar;
    return put(key, value);
  }
  ModelEditor& put(const std::string& key, const GgufValue& value) {
    for (auto& entry : keys_) {
      if (entry.first == key) {
        entry.second = value;
        return *this;
      }
    }
    keys_.emplace_back(key, value);
    return *this;
  }

  std::vector<std::pair<std::string, GgufValue>> keys_;
  std::vector<Tensor> tensors_;
  ScratchDir folder_;
};

}  // namespace glimpse::testing
