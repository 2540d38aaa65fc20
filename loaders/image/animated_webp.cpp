// Animated WebP (RFC 9649, section 2.7.1) through libwebp's decoder of still pictures.
#include <webp/decode.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "loaders/image/animation_decoder.h"
#include "loaders/image/decoder.h"
#include "loaders/image/webp_chunks.h"

namespace glimpse {
namespace {

class AnimatedWebp final : public Animation {
 public:
  AnimatedWebp(std::span<const std::byte> bytes, const DecodeOptions& options) : bytes_(bytes), options_(options) {}

  Status open() {
    if (bytes_.size() < kRiffHeaderBytes || load_le32(bytes_.data() + 4) > bytes_.size() - 8) {
      return make_error(ErrorCode::kTruncated, "WebP: the file is shorter than its header says");
    }
    GLIMPSE_ASSIGN(const auto still, open_webp(bytes_, options_));  // also: its limits
    info_.width = still->info().width;
    info_.height = still->info().height;
    chunks_ = bytes_.subspan(kRiffHeaderBytes);
    WebpChunk chunk;
    int64_t n_frame_pixels = 0;
    for (auto rest = chunks_; next_chunk(rest, chunk);) {
      if (!is(chunk, "ANMF")) continue;
      if (chunk.data.size() < kFrameHeaderBytes)
        return make_error(ErrorCode::kCorrupt, "WebP: a frame without its header");
      info_.seconds += frame_seconds(load_le24(chunk.data.data() + 12));
      n_frame_pixels +=
          (int64_t{load_le24(chunk.data.data() + 6)} + 1) * (int64_t{load_le24(chunk.data.data() + 9)} + 1);
      if (n_frame_pixels > kMostAnimationPixels) {
        return make_error(ErrorCode::kTooLarge, "WebP: its frames have more than %d pixels together",
                          kMostAnimationPixels);
      }
      if (++info_.n_frames > kMostAnimationFrames) return make_error(ErrorCode::kTooLarge, "WebP: too many frames");
    }
    is_still_ = info_.n_frames == 0;
    if (is_still_) {
      info_.n_frames = 1;
      info_.seconds = frame_seconds(0);
      info_.width = still->info().upright_width();  // the canvas is what decode_image() gives
      info_.height = still->info().upright_height();
    }
    const auto n_pixels = static_cast<uint64_t>(info_.width * info_.height);
    return check_memory("animated WebP", n_pixels * (3 + 4) + still->info().memory, options_.limits);
  }

  Status next() override {
    if (is_still_) {
      if (!canvas_.pixels.empty()) return make_error(ErrorCode::kInternal, "WebP: no frame is left");
      GLIMPSE_ASSIGN(const auto reader, open_webp(bytes_, options_));
      GLIMPSE_ASSIGN(canvas_, read_image(*reader));
      return {};
    }
    if (canvas_.pixels.empty()) {
      canvas_ = {static_cast<int>(info_.width), static_cast<int>(info_.height),
                 std::vector<uint8_t>(static_cast<size_t>(info_.width * info_.height * 3), 255)};
    }
    if (clears_) clear();
    WebpChunk chunk;
    do {
      if (!next_chunk(chunks_, chunk)) return make_error(ErrorCode::kInternal, "WebP: no frame is left");
    } while (!is(chunk, "ANMF"));
    GLIMPSE_ASSIGN(frame_, still_frame(chunk.data));
    if (frame_.x + frame_.width > info_.width || frame_.y + frame_.height > info_.height) {
      return make_error(ErrorCode::kCorrupt, "WebP: a frame reaches outside the canvas");
    }
    clears_ = frame_.clears;
    return draw();
  }

 private:
  uint8_t* place(int64_t y) { return canvas_.pixels.data() + ((frame_.y + y) * info_.width + frame_.x) * 3; }
  void clear() {
    for (int64_t y = 0; y < frame_.height; ++y) std::fill_n(place(y), frame_.width * 3, uint8_t{255});
  }

  Status draw() {
    const auto* data = reinterpret_cast<const uint8_t*>(frame_.file.data());
    int width = 0, height = 0;
    if (WebPGetInfo(data, frame_.file.size(), &width, &height) == 0 || width != frame_.width ||
        height != frame_.height) {
      return make_error(ErrorCode::kCorrupt, "WebP: a frame's picture contradicts its header");
    }
    rgba_.resize(static_cast<size_t>(frame_.width * frame_.height * 4));
    const auto stride = static_cast<int>(frame_.width * 4);
    if (WebPDecodeRGBAInto(data, frame_.file.size(), rgba_.data(), rgba_.size(), stride) == nullptr) {
      return make_error(ErrorCode::kCorrupt, "WebP: damaged bitstream of a frame");
    }
    for (int64_t y = 0; y < frame_.height; ++y) {
      const uint8_t* from = rgba_.data() + y * frame_.width * 4;
      if (!frame_.blends) {
        composite_over_white(from, frame_.width, place(y));
        continue;
      }
      uint8_t* to = place(y);
      for (int64_t x = 0; x < frame_.width; ++x, from += 4, to += 3) {
        for (int c = 0; c < 3; ++c) {
          // (new * alpha + old * (255 - alpha)) / 255, rounded as over_white() does.
          const unsigned t = from[c] * unsigned{from[3]} + to[c] * (255u - from[3]) + 128u;
          to[c] = static_cast<uint8_t>((t + (t >> 8)) >> 8);
        }
      }
    }
    frame_.file = {};
    return {};
  }

  const std::span<const std::byte> bytes_;
  const DecodeOptions options_;
  std::span<const std::byte> chunks_;  // not yet drawn
  bool is_still_ = false, clears_ = false;
  WebpFrame frame_;  // the last one drawn
  std::vector<uint8_t> rgba_;
};

}  // namespace

Result<std::unique_ptr<Animation>> open_animated_webp(std::span<const std::byte> bytes, const DecodeOptions& options) {
  auto animation = std::make_unique<AnimatedWebp>(bytes, options);
  GLIMPSE_TRY(animation->open());
  return std::unique_ptr<Animation>(std::move(animation));
}

}  // namespace glimpse
