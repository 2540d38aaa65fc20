// Parses bytes as an importance matrix of either form.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tools/quantize/importance.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto matrix = glimpse::ImportanceMatrix::parse(std::as_bytes(std::span(data, size)), "fuzz.imatrix");
  if (!matrix.ok()) return matrix.error().message.empty() ? __builtin_trap(), 0 : 0;
  if (matrix->n_entries() == 0) __builtin_trap();
  if (const auto* values = matrix->find("blk.0.attn_q.weight")) {
    for (const float value : *values) {
      if (!std::isfinite(value) || value < 0) __builtin_trap();
    }
  }
  return 0;
}
