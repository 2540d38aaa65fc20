// Tensor element types as GGUF numbers them: name, block length, bytes per block. What the bytes mean: block_format.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace glimpse {

/// ggml type ids (ggml.h). Ids that ggml has removed (4, 5, 31-33, 36-38) are not listed.
enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
  kI8x32 = 0x10001,  // not of GGUF: made at load from float weights, mixed int8 with one float scale per 32 columns
};

struct DTypeInfo {
  DType type;
  const char* name;       // upper case, as llama.cpp prints it: "Q4_K"
  uint32_t block_length;  // elements per block
  uint32_t block_bytes;
  bool is_weight;  // a type that glimpse can multiply with
};

/// A type that files may have; nullptr for ids that are unknown or removed.
const DTypeInfo* find_dtype(uint32_t id);
/// The table row of a known type.
const DTypeInfo& dtype_info(DType type);
/// Finds a type of files by name, ignoring case ("q4_k", "Q4_K"); nullopt when there is none.
std::optional<DType> dtype_from_name(std::string_view name);

/// F32, F16 and BF16: elements that are floats, not blocks of codes.
constexpr bool is_float_type(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}
inline const char* dtype_name(DType type) {
  return dtype_info(type).name;
}
/// Bytes of a row of n elements; n must be a multiple of the block length.
inline uint64_t dtype_row_bytes(DType type, uint64_t n) {
  const DTypeInfo& info = dtype_info(type);
  return n / info.block_length * info.block_bytes;
}

}  // namespace glimpse
