// WebP through libwebp: lossy, lossless, with alpha; of an animation the first frame. Left out of the build when
// libwebp is missing.
#include <webp/decode.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/orientation.h"

namespace glimpse {
namespace {

// RIFF container of WebP (RFC 9649, section 2): "RIFF", size, "WEBP", then chunks of type, size, data, padded to even.
constexpr size_t kRiffHeaderBytes = 12, kChunkHeaderBytes = 8, kFrameHeaderBytes = 16;

struct Chunk {
  char type[4];
  std::span<const std::byte> data;   // without padding
  std::span<const std::byte> whole;  // with header and, where the file has it, padding
};

// The next chunk at the front of `rest`, which it is cut from. false at the end, or when the rest is not a chunk.
bool next_chunk(std::span<const std::byte>& rest, Chunk& chunk) {
  if (rest.size() < kChunkHeaderBytes) return false;
  const size_t size = load_le32(rest.data() + 4);
  if (size > rest.size() - kChunkHeaderBytes) return false;
  std::memcpy(chunk.type, rest.data(), 4);
  chunk.data = rest.subspan(kChunkHeaderBytes, size);
  chunk.whole = rest.first(std::min(rest.size(), kChunkHeaderBytes + size + (size & 1)));
  rest = rest.subspan(chunk.whole.size());
  return true;
}

bool is(const Chunk& chunk, const char* type) {
  return std::memcmp(chunk.type, type, 4) == 0;
}

uint32_t load_le24(const std::byte* p) {
  return load_le16(p) | load_u8(p + 2) << 16;
}

void append_le(std::vector<std::byte>& out, uint32_t value, int n_bytes) {
  for (int i = 0; i < n_bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

void append_text(std::vector<std::byte>& out, const char* text) {
  for (; *text != '\0'; ++text) out.push_back(static_cast<std::byte>(*text));
}

struct Frame {
  int64_t x = 0, y = 0, width = 0, height = 0;
  std::vector<std::byte> file;  // the frame as a still WebP file
};

// libwebp's decoder refuses animations (its demuxer is another library): wrap the first frame's chunks as a still.
Result<Frame> first_frame(std::span<const std::byte> chunks) {
  Chunk chunk;
  while (next_chunk(chunks, chunk)) {
    if (!is(chunk, "ANMF")) continue;
    if (chunk.data.size() < kFrameHeaderBytes) break;
    Frame frame;  // RFC 9649, 2.7.1.2: offsets are stored halved, sizes minus one
    frame.x = int64_t{load_le24(chunk.data.data())} * 2;
    frame.y = int64_t{load_le24(chunk.data.data() + 3)} * 2;
    frame.width = int64_t{load_le24(chunk.data.data() + 6)} + 1;
    frame.height = int64_t{load_le24(chunk.data.data() + 9)} + 1;
    const auto parts = chunk.data.subspan(kFrameHeaderBytes);
    append_text(frame.file, "RIFF");
    append_le(frame.file, static_cast<uint32_t>(4 + kChunkHeaderBytes + 10 + parts.size()), 4);
    append_text(frame.file, "WEBPVP8X");
    append_le(frame.file, 10, 4);
    append_le(frame.file, 0x10, 4);  // flag: has alpha
    append_le(frame.file, static_cast<uint32_t>(frame.width - 1), 3);
    append_le(frame.file, static_cast<uint32_t>(frame.height - 1), 3);
    frame.file.insert(frame.file.end(), parts.begin(), parts.end());
    return frame;
  }
  return make_error(ErrorCode::kCorrupt, "WebP: an animation without a first frame");
}

Error decode_error(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return make_error(ErrorCode::kOutOfMemory, "WebP: out of memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return make_error(ErrorCode::kUnsupported, "WebP: unsupported feature");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return make_error(ErrorCode::kTruncated, "WebP: the data end in the middle of the picture");
    default:
      return make_error(ErrorCode::kCorrupt, "WebP: damaged bitstream");
  }
}

// Decodes a still WebP of the given size to `out`: (height, width, channels).
Status decode_still(std::span<const std::byte> file, int64_t width, int64_t height, size_t channels,
                    std::span<uint8_t> out) {
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0)
    return make_error(ErrorCode::kInternal, "WebP: another libwebp than built for");
  const auto* data = reinterpret_cast<const uint8_t*>(file.data());
  if (const VP8StatusCode status = WebPGetFeatures(data, file.size(), &config.input); status != VP8_STATUS_OK) {
    return decode_error(status);
  }
  if (config.input.width != width || config.input.height != height) {
    return make_error(ErrorCode::kCorrupt, "WebP: the frame is %d x %d, its header says %lld x %lld",
                      config.input.width, config.input.height, static_cast<long long>(width),
                      static_cast<long long>(height));
  }
  config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = out.data();
  config.output.u.RGBA.stride = static_cast<int>(width * static_cast<int64_t>(channels));
  config.output.u.RGBA.size = out.size();
  const VP8StatusCode status = WebPDecode(data, file.size(), &config);
  if (status != VP8_STATUS_OK) return decode_error(status);
  return {};
}

Result<Image> decode_pixels(std::span<const std::byte> file, int64_t width, int64_t height, bool has_alpha) {
  Image image = allocate_image(width, height);
  if (!has_alpha) {
    GLIMPSE_TRY(decode_still(file, width, height, 3, image.pixels));
    return image;
  }
  std::vector<uint8_t> rgba(static_cast<size_t>(width) * static_cast<size_t>(height) * 4);
  GLIMPSE_TRY(decode_still(file, width, height, 4, rgba));
  composite_over_white(rgba.data(), width * height, image.pixels.data());
  return image;
}

// The canvas of an animation: transparent (so white) where the first frame does not reach.
Result<Image> decode_animation(std::span<const std::byte> chunks, int64_t width, int64_t height) {
  GLIMPSE_ASSIGN(const Frame frame, first_frame(chunks));
  if (frame.x + frame.width > width || frame.y + frame.height > height) {
    return make_error(ErrorCode::kCorrupt, "WebP: the first frame reaches outside the canvas");
  }
  GLIMPSE_ASSIGN(Image part, decode_pixels(frame.file, frame.width, frame.height, true));
  if (frame.width == width && frame.height == height) return part;
  Image canvas = allocate_image(width, height);
  std::fill(canvas.pixels.begin(), canvas.pixels.end(), uint8_t{255});
  for (int64_t y = 0; y < frame.height; ++y) {
    std::memcpy(canvas.pixels.data() + ((frame.y + y) * width + frame.x) * 3, part.pixels.data() + y * frame.width * 3,
                static_cast<size_t>(frame.width) * 3);
  }
  return canvas;
}

}  // namespace

Result<DecodedImage> decode_webp(std::span<const std::byte> bytes, const ImageLimits& limits) {
  if (bytes.size() < kRiffHeaderBytes || load_le32(bytes.data() + 4) > bytes.size() - 8) {
    return make_error(ErrorCode::kTruncated, "WebP: the file is shorter than its header says");
  }
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  WebPBitstreamFeatures features;
  if (const VP8StatusCode status = WebPGetFeatures(data, bytes.size(), &features); status != VP8_STATUS_OK) {
    return decode_error(status);
  }
  GLIMPSE_TRY(check_size("WebP", features.width, features.height, limits));

  DecodedImage decoded;
  const auto chunks = bytes.subspan(kRiffHeaderBytes);
  Chunk chunk;
  for (auto rest = chunks; next_chunk(rest, chunk);) {
    if (is(chunk, "EXIF")) decoded.orientation = parse_exif_orientation(chunk.data);
  }
  if (features.has_animation != 0) {
    GLIMPSE_ASSIGN(decoded.image, decode_animation(chunks, features.width, features.height));
  } else {
    GLIMPSE_ASSIGN(decoded.image, decode_pixels(bytes, features.width, features.height, features.has_alpha != 0));
  }
  return decoded;
}

}  // namespace glimpse
