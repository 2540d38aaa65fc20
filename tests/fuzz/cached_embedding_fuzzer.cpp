// Reads bytes as a file of the picture cache: as they are, and with everything before the values made right.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/serve/embedding_folder.h"

namespace {

constexpr size_t kHeader = 40;  // magic, version, digest

void check(std::span<const std::byte> bytes, const glimpse::Sha256Digest& content) {
  const auto embedding = glimpse::load_cached_embedding(bytes, content);
  if (!embedding.ok()) {
    if (embedding.error().message.empty()) __builtin_trap();
    return;
  }
  const std::vector<std::byte> again = glimpse::save_cached_embedding(content, embedding.value());
  if (again.size() != bytes.size() || std::memcmp(again.data(), bytes.data(), bytes.size()) != 0) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  glimpse::Sha256Digest content{};
  check(bytes, content);
  if (size < kHeader) return 0;
  std::memcpy(content.data(), data + 8, content.size());
  check(bytes, content);

  glimpse::ImageEmbedding kinds[3];
  kinds[1].is_video = true;
  kinds[2].cells = {0};
  std::vector<std::byte> mended(bytes.begin(), bytes.end());
  for (const glimpse::ImageEmbedding& kind : kinds) {
    const std::vector<std::byte> right = glimpse::save_cached_embedding(content, kind);
    if (size < right.size()) continue;
    std::memcpy(mended.data(), right.data(), kHeader + 8);
    glimpse::seal_embedding(std::span(mended).subspan(kHeader));
    check(mended, content);
  }
  return 0;
}
