#include "engine/base/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace glimpse {
namespace {

constexpr std::array kTypes = {
    DTypeInfo{DType::kF32, "F32", 1, 4, true},
    DTypeInfo{DType::kF16, "F16", 1, 2, true},
    DTypeInfo{DType::kQ4_0, "Q4_0", 32, 18, true},
    DTypeInfo{DType::kQ4_1, "Q4_1", 32, 20, true},
    DTypeInfo{DType::kQ5_0, "Q5_0", 32, 22, true},
    DTypeInfo{DType::kQ5_1, "Q5_1", 32, 24, true},
    DTypeInfo{DType::kQ8_0, "Q8_0", 32, 34, true},
    DTypeInfo{DType::kQ8_1, "Q8_1", 32, 36, false},
    DTypeInfo{DType::kQ2_K, "Q2_K", 256, 84, true},
    DTypeInfo{DType::kQ3_K, "Q3_K", 256, 110, true},
    DTypeInfo{DType::kQ4_K, "Q4_K", 256, 144, true},
    DTypeInfo{DType::kQ5_K, "Q5_K", 256, 176, true},
    DTypeInfo{DType::kQ6_K, "Q6_K", 256, 210, true},
    DTypeInfo{DType::kQ8_K, "Q8_K", 256, 292, false},
    DTypeInfo{DType::kIQ2_XXS, "IQ2_XXS", 256, 66, false},
    DTypeInfo{DType::kIQ2_XS, "IQ2_XS", 256, 74, false},
    DTypeInfo{DType::kIQ3_XXS, "IQ3_XXS", 256, 98, false},
    DTypeInfo{DType::kIQ1_S, "IQ1_S", 256, 50, false},
    DTypeInfo{DType::kIQ4_NL, "IQ4_NL", 32, 18, true},
    DTypeInfo{DType::kIQ3_S, "IQ3_S", 256, 110, false},
    DTypeInfo{DType::kIQ2_S, "IQ2_S", 256, 82, false},
    DTypeInfo{DType::kIQ4_XS, "IQ4_XS", 256, 136, true},
    DTypeInfo{DType::kI8, "I8", 1, 1, false},
    DTypeInfo{DType::kI16, "I16", 1, 2, false},
    DTypeInfo{DType::kI32, "I32", 1, 4, false},
    DTypeInfo{DType::kI64, "I64", 1, 8, false},
    DTypeInfo{DType::kF64, "F64", 1, 8, false},
    DTypeInfo{DType::kIQ1_M, "IQ1_M", 256, 56, false},
    DTypeInfo{DType::kBF16, "BF16", 1, 2, true},
    DTypeInfo{DType::kTQ1_0, "TQ1_0", 256, 54, false},
    DTypeInfo{DType::kTQ2_0, "TQ2_0", 256, 66, false},
    DTypeInfo{DType::kMXFP4, "MXFP4", 32, 17, false},
    DTypeInfo{DType::kNVFP4, "NVFP4", 64, 36, false},
    DTypeInfo{DType::kQ1_0, "Q1_0", 128, 18, false},
    DTypeInfo{DType::kQ2_0, "Q2_0", 64, 18, false},
};

}  // namespace

const DTypeInfo* find_dtype(uint32_t id) {
  for (const DTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == id) return &info;
  }
  return nullptr;
}

const DTypeInfo& dtype_info(DType type) {
  const DTypeInfo* info = find_dtype(static_cast<uint32_t>(type));
  return info != nullptr ? *info : kTypes[0];
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& info : kTypes) {
    const std::string_view candidate = info.name;
    if (std::equal(name.begin(), name.end(), candidate.begin(), candidate.end(),
                   [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; })) {
      return info.type;
    }
  }
  return std::nullopt;
}

}  // namespace glimpse
