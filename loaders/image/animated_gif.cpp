// Animated GIF through giflib, drawn as Pillow draws it.
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "loaders/image/animation_decoder.h"
#include "loaders/image/decoder.h"
#include "loaders/image/gif_file.h"

namespace glimpse {
namespace {

using Colour = std::array<uint8_t, 3>;
constexpr Colour kWhite = {255, 255, 255};

class AnimatedGif final : public Animation {
 public:
  explicit AnimatedGif(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Status open(const ImageLimits& limits) {
    GLIMPSE_TRY(gif_.open(bytes_));
    info_.width = gif_->SWidth;
    info_.height = gif_->SHeight;
    int64_t largest = 0, n_pixels = 0;  // of a frame; of all
    GifControl control;
    while (true) {
      GLIMPSE_ASSIGN(const bool found, next_gif_frame(gif_.get(), control));
      if (!found) break;
      const GifImageDesc& frame = gif_->Image;
      if (frame.Width < 1 || frame.Height < 1 || frame.Left < 0 || frame.Top < 0) {
        return make_error(ErrorCode::kCorrupt, "GIF: a frame of %d x %d pixels", frame.Width, frame.Height);
      }
      info_.width = std::max<int64_t>(info_.width, frame.Left + frame.Width);
      info_.height = std::max<int64_t>(info_.height, frame.Top + frame.Height);
      largest = std::max(largest, int64_t{frame.Width} * frame.Height);
      n_pixels += int64_t{frame.Width} * frame.Height;
      if (n_pixels > kMostAnimationPixels) {
        return make_error(ErrorCode::kTooLarge, "GIF: its frames have more than %d pixels together",
                          kMostAnimationPixels);
      }
      info_.seconds += frame_seconds(10 * int64_t{control.delay_hundredths});
      if (++info_.n_frames > kMostAnimationFrames) return make_error(ErrorCode::kTooLarge, "GIF: too many frames");
      int size = 0;
      GifByteType* block = nullptr;
      if (DGifGetCode(gif_.get(), &size, &block) == GIF_ERROR) return gif_error(gif_->Error);
      while (block != nullptr) {
        if (DGifGetCodeNext(gif_.get(), &block) == GIF_ERROR) return gif_error(gif_->Error);
      }
    }
    if (info_.n_frames == 0) return make_error(ErrorCode::kCorrupt, "GIF: there is no picture in the file");
    GLIMPSE_TRY(check_size("GIF", info_.width, info_.height, limits));
    const auto canvas = static_cast<uint64_t>(info_.width * info_.height * 3);
    GLIMPSE_TRY(check_memory("animated GIF", 2 * canvas + static_cast<uint64_t>(largest), limits));
    return gif_.open(bytes_);
  }

  Status next() override {
    dispose();
    GLIMPSE_ASSIGN(const bool found, next_gif_frame(gif_.get(), control_));
    if (!found) return make_error(ErrorCode::kInternal, "GIF: no frame is left");
    frame_ = gif_->Image;
    frame_.ColorMap = nullptr;  // giflib's
    const bool has_transparent = control_.transparent >= 0;
    was_transparent_ = was_transparent_ || has_transparent;
    make_colours(gif_->Image.ColorMap != nullptr ? gif_->Image.ColorMap : gif_->SColorMap);
    if (canvas_.pixels.empty()) {
      canvas_ = {static_cast<int>(info_.width), static_cast<int>(info_.height),
                 std::vector<uint8_t>(static_cast<size_t>(info_.width * info_.height * 3))};
      fill({0, 0, static_cast<int>(info_.width), static_cast<int>(info_.height), false, nullptr},
           has_transparent ? kWhite : colours_[0]);
    }
    if (control_.disposal == 3) copy_place(before_, canvas_.pixels);
    return draw();
  }

 private:
  // What the frame before asks for, after its time.
  void dispose() {
    if (canvas_.pixels.empty()) return;
    if (control_.disposal == 3) copy_place(canvas_.pixels, before_);
    if (control_.disposal == 2) fill(frame_, was_transparent_ ? kWhite : background());
  }

  // The frame's place, of one picture to the other; the rest of `to` is of no use where it is not the canvas.
  void copy_place(std::vector<uint8_t>& to, const std::vector<uint8_t>& from) const {
    to.resize(canvas_.pixels.size());
    for (int y = frame_.Top; y < frame_.Top + frame_.Height; ++y) {
      const ptrdiff_t at = (ptrdiff_t{y} * canvas_.width + frame_.Left) * 3;
      std::copy_n(from.begin() + at, ptrdiff_t{frame_.Width} * 3, to.begin() + at);
    }
  }

  Colour background() const {
    const ColorMapObject* map = gif_->SColorMap;
    if (map == nullptr || gif_->SBackGroundColor >= map->ColorCount) return {0, 0, 0};
    const GifColorType& c = map->Colors[gif_->SBackGroundColor];
    return {c.Red, c.Green, c.Blue};
  }

  void fill(const GifImageDesc& where, const Colour& colour) {
    for (int y = where.Top; y < where.Top + where.Height; ++y) {
      uint8_t* at = canvas_.pixels.data() + (int64_t{y} * canvas_.width + where.Left) * 3;
      for (int x = 0; x < where.Width; ++x, at += 3) std::copy(colour.begin(), colour.end(), at);
    }
  }

  void make_colours(const ColorMapObject* map) {
    for (size_t i = 0; i < colours_.size(); ++i) {
      colours_[i].fill(static_cast<uint8_t>(map == nullptr ? i : 0));
      if (map == nullptr || i >= static_cast<size_t>(map->ColorCount)) continue;
      const GifColorType& c = map->Colors[i];
      colours_[i] = {c.Red, c.Green, c.Blue};
    }
  }

  // Rows of an interlaced frame come in four passes (GIF89a, appendix E).
  Status draw() {
    constexpr int kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
    line_.resize(static_cast<size_t>(frame_.Width));
    for (int pass = 0; pass < (frame_.Interlace ? 4 : 1); ++pass) {
      const int first = frame_.Interlace ? kFirst[pass] : 0, step = frame_.Interlace ? kStep[pass] : 1;
      for (int y = first; y < frame_.Height; y += step) {
        if (DGifGetLine(gif_.get(), line_.data(), frame_.Width) == GIF_ERROR) return gif_error(gif_->Error);
        uint8_t* at = canvas_.pixels.data() + (int64_t{frame_.Top + y} * canvas_.width + frame_.Left) * 3;
        for (const uint8_t index : line_) {
          if (index != control_.transparent) std::copy(colours_[index].begin(), colours_[index].end(), at);
          at += 3;
        }
      }
    }
    return {};
  }

  const std::span<const std::byte> bytes_;
  GifFile gif_;
  GifImageDesc frame_ = {};  // the last one drawn
  GifControl control_;
  bool was_transparent_ = false;  // a frame so far has a transparent colour
  std::array<Colour, 256> colours_ = {};
  std::vector<uint8_t> line_, before_;
};

}  // namespace

Result<std::unique_ptr<Animation>> open_animated_gif(std::span<const std::byte> bytes, const DecodeOptions& options) {
  auto animation = std::make_unique<AnimatedGif>(bytes);
  GLIMPSE_TRY(animation->open(options.limits));
  return std::unique_ptr<Animation>(std::move(animation));
}

}  // namespace glimpse
