// Reads bytes as a saved embedding: as they are, and with magic, version and checksum made right, so that what lies
// behind those is reached.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/model/image_embedding.h"

namespace {

void check(std::span<const std::byte> bytes) {
  const auto embedding = glimpse::load_embedding(bytes);
  if (!embedding.ok()) {
    if (embedding.error().message.empty()) __builtin_trap();
    return;
  }
  const glimpse::GridThw& grid = embedding->grid;
  const int64_t group = embedding->merge_size * embedding->merge_size;
  if (grid.t < 1 || grid.h < 1 || grid.w < 1 || !glimpse::are_cells(embedding->cells, grid.n_patches() / group)) {
    __builtin_trap();
  }
  const int64_t n_cells =
      embedding->cells.empty() ? grid.n_patches() / group : static_cast<int64_t>(embedding->cells.size());
  if (n_cells != embedding->n_tokens) __builtin_trap();
  if (static_cast<int64_t>(embedding->values.size()) != embedding->n_tokens * embedding->width) __builtin_trap();
  for (const float value : embedding->values) {
    if (!std::isfinite(value)) __builtin_trap();
  }
  const std::vector<std::byte> again = glimpse::save_embedding(embedding.value());
  if (again.size() != bytes.size() || std::memcmp(again.data(), bytes.data(), bytes.size()) != 0) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  const size_t least = glimpse::save_embedding({}).size();
  if (size < least) return 0;
  glimpse::ImageEmbedding kinds[3];
  kinds[1].is_video = true;
  kinds[2].cells = {0};
  std::vector<std::byte> mended(bytes.begin(), bytes.end());
  for (const glimpse::ImageEmbedding& kind : kinds) {
    std::memcpy(mended.data(), glimpse::save_embedding(kind).data(), 8);
    glimpse::seal_embedding(mended);
    check(mended);
  }
  return 0;
}
