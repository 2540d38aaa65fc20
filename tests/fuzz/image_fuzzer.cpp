// Every decoder, reached through the façade. Limits are low, so that the fuzzer looks for bugs and not for time.
// Seeds: tests/fuzz/corpus/image/<format>.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "loaders/image/image.h"

namespace {

// The checksum of PNG chunks (CRC-32, reflected polynomial 0xedb88320).
uint32_t crc32(std::span<const uint8_t> data) {
  uint32_t crc = 0xffffffffu;
  for (uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

uint32_t load_be32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}

// Makes the checksums of a damaged PNG right: behind them is where the bugs would be.
void mend_png(std::vector<uint8_t>& png) {
  for (size_t at = 8; at < png.size() && png.size() - at >= 12;) {
    const size_t length = load_be32(&png[at]);
    if (length > png.size() - at - 12) return;
    const uint32_t crc = crc32(std::span(png).subspan(at + 4, length + 4));
    for (size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
    at += 12 + length;
  }
}

void decode(std::span<const uint8_t> data) {
  glimpse::DecodeOptions options;
  options.limits.max_bytes = 1 << 20;
  options.limits.max_width = options.limits.max_height = 2048;
  options.limits.max_pixels = 1 << 18;
  const auto image = glimpse::decode_image(std::as_bytes(data), options);
  if (!image.ok()) {
    if (image.error().message.empty()) std::abort();
    return;
  }
  const auto n_pixels = static_cast<uint64_t>(image->width) * static_cast<uint64_t>(image->height);
  if (image->width < 1 || image->height < 1 || n_pixels > options.limits.max_pixels ||
      image->pixels.size() != n_pixels * 3) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  decode({data, size});
  if (size >= 8 && std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) {
    std::vector<uint8_t> mended(data, data + size);
    mend_png(mended);
    decode(mended);
  }
  return 0;
}
