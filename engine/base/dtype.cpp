#include "engine/base/dtype.h"

#include <algorithm>
#include <cctype>

#include "engine/base/block_format.h"

namespace glimpse {

const DTypeInfo* find_dtype(uint32_t id) {
  for (const BlockFormat& format : kBlockFormats) {
    if (static_cast<uint32_t>(format.info.type) == id && format.info.type != DType::kI8x32) return &format.info;
  }
  return nullptr;
}

const DTypeInfo& dtype_info(DType type) {
  for (const BlockFormat& format : kBlockFormats) {
    if (format.info.type == type) return format.info;
  }
  return kBlockFormats[0].info;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const BlockFormat& format : kBlockFormats) {
    const std::string_view candidate = format.info.name;
    if (std::equal(name.begin(), name.end(), candidate.begin(), candidate.end(),
                   [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; })) {
      return format.info.type;  // kI8x32 is written in small letters: nothing equals it
    }
  }
  return std::nullopt;
}

}  // namespace glimpse
