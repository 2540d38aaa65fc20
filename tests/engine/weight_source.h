// A matrix in memory as a backend packs it.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "engine/runtime/ops.h"

namespace glimpse {

inline WeightSource source_of(std::vector<std::byte> bytes, DType type, int64_t rows, int64_t cols) {
  WeightSource source;
  source.name = "some.weight";
  source.type = type;
  source.rows = rows;
  source.cols = cols;
  source.read_rows = [bytes = std::move(bytes), type, cols](int64_t first, int64_t count, std::span<std::byte> out) {
    const uint64_t row = dtype_row_bytes(type, static_cast<uint64_t>(cols));
    std::memcpy(out.data(), bytes.data() + static_cast<uint64_t>(first) * row, static_cast<uint64_t>(count) * row);
    return Status();
  };
  return source;
}

}  // namespace glimpse
