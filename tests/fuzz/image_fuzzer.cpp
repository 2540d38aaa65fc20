// Every decoder, reached through the façade. Limits are low, so that the fuzzer looks for bugs and not for time.
// Seeds: tests/fuzz/corpus/image/<format>.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "loaders/image/animation.h"
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

glimpse::DecodeOptions low_limits() {
  glimpse::DecodeOptions options;
  options.limits.max_bytes = 1 << 20;
  options.limits.max_width = options.limits.max_height = 2048;
  options.limits.max_pixels = 1 << 18;
  options.limits.max_memory = 32 << 20;
  options.limits.max_scans = 20;
  return options;
}

// Rows taken by ones and threes are those of the whole picture.
void compare_rows(std::span<const uint8_t> data, const glimpse::Image& whole) {
  glimpse::DecodeOptions options = low_limits();
  options.apply_exif_orientation = false;
  auto reader = glimpse::open_image(std::as_bytes(data), options);
  if (!reader.ok()) std::abort();
  const glimpse::ImageInfo& info = reader.value()->info();
  if (info.memory > options.limits.max_memory || info.orientation != 1) std::abort();
  std::vector<uint8_t> rows(whole.pixels.size());
  const int64_t row_bytes = info.width * 3;
  int64_t y = 0;
  for (int64_t n = 1; y < info.height; y += n, n = n == 1 ? 3 : 1) {
    n = std::min(n, info.height - y);
    if (!reader.value()->read_rows(n, rows.data() + y * row_bytes).ok()) std::abort();
  }
  if (rows != whole.pixels) std::abort();
}

// Cancelled at some call: that, or what the file would give anyway.
void cancel(std::span<const uint8_t> data) {
  glimpse::DecodeOptions options = low_limits();
  int n_left = data.empty() ? 0 : data[data.size() / 2] % 8;
  options.progress = [&n_left](std::string_view, double fraction) {
    if (!(fraction >= 0 && fraction <= 1)) std::abort();
    return n_left-- > 0;
  };
  const auto image = glimpse::decode_image(std::as_bytes(data), options);
  if (image.ok() && n_left < 0) std::abort();
}

void decode(std::span<const uint8_t> data) {
  glimpse::DecodeOptions options = low_limits();
  const auto image = glimpse::decode_image(std::as_bytes(data), options);
  if (!image.ok()) {
    if (image.error().message.empty() || image.error().code == glimpse::ErrorCode::kInternal) std::abort();
    return;
  }
  const auto n_pixels = static_cast<uint64_t>(image->width) * static_cast<uint64_t>(image->height);
  if (image->width < 1 || image->height < 1 || n_pixels > options.limits.max_pixels ||
      image->pixels.size() != n_pixels * 3) {
    std::abort();
  }
  options.apply_exif_orientation = false;
  const auto stored = glimpse::decode_image(std::as_bytes(data), options);
  if (!stored.ok()) std::abort();
  compare_rows(data, stored.value());
  cancel(data);
}

// Every frame of what may be an animation.
void play(std::span<const uint8_t> data) {
  const auto animation = glimpse::open_animation(std::as_bytes(data), low_limits());
  if (!animation.ok()) {
    if (animation.error().message.empty()) std::abort();
    return;
  }
  const glimpse::AnimationInfo& info = animation.value()->info();
  if (info.n_frames < 1 || !(info.seconds > 0)) std::abort();
  for (int64_t i = 0; i < std::min<int64_t>(info.n_frames, 8) && animation.value()->next().ok(); ++i) {
    const glimpse::Image& canvas = animation.value()->canvas();
    if (canvas.width != info.width || canvas.height != info.height) std::abort();
    if (static_cast<int64_t>(canvas.pixels.size()) != 3 * info.width * info.height) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  decode({data, size});
  play({data, size});
  if (size >= 8 && std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) {
    std::vector<uint8_t> mended(data, data + size);
    mend_png(mended);
    decode(mended);
  }
  return 0;
}
