// How config_text.cpp and config_vision.cpp read keys and tensors. Private to engine/model.
#pragma once

#include <cmath>
#include <string>

#include "loaders/gguf/gguf.h"

namespace glimpse {

inline constexpr uint64_t kMaxWidth = 1u << 20;  // far above any model; keeps products of two widths inside 64 bits
inline constexpr uint64_t kMaxHeadDim = 512;
inline constexpr uint64_t kMaxExperts = 4096;

// The value of a key that has to be there and lie in [1, limit].
inline Result<int64_t> size_key(const GgufFile& file, const std::string& key, uint64_t limit) {
  GLIMPSE_ASSIGN(const uint64_t value, file.require_uint(key));
  if (value == 0 || value > limit) {
    return make_error(ErrorCode::kCorrupt, "%s: %s is %d, want 1 to %d", file.path(), key, value, limit);
  }
  return static_cast<int64_t>(value);
}

// As size_key, but `fallback` where the key is absent.
inline Result<int64_t> size_key_or(const GgufFile& file, const std::string& key, uint64_t limit, int64_t fallback) {
  if (file.find(key) == nullptr) return fallback;
  return size_key(file, key, limit);
}

inline Result<double> positive_float_or(const GgufFile& file, const std::string& key, double fallback) {
  GLIMPSE_ASSIGN(const auto value, file.optional_float(key));
  if (!value) return fallback;
  if (!std::isfinite(*value) || *value <= 0) {
    return make_error(ErrorCode::kCorrupt, "%s: %s is %g, want a positive number", file.path(), key, *value);
  }
  return *value;
}

inline Result<const GgufTensor*> require_tensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) {
    return make_error(ErrorCode::kCorrupt, "%s: tensor %s is missing", file.path(), name);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    if (tensor->dims[i] == 0 || tensor->dims[i] > kMaxWidth * 16) {
      return make_error(ErrorCode::kCorrupt, "%s: %s has an impossible shape: %s", file.path(), name,
                        tensor->describe());
    }
  }
  return tensor;
}

inline std::string general_name(const GgufFile& file) {
  const auto name = file.optional_string("general.name");
  return name.ok() ? name->value_or("") : "";
}

inline bool flag(const GgufFile& file, const char* key) {
  const auto value = file.optional_bool(key);
  return value.ok() && value->value_or(false);
}

}  // namespace glimpse
