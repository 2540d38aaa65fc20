// GIF through giflib: the first frame on its canvas. Left out of the build when giflib is missing.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "loaders/image/decoder.h"
#include "loaders/image/gif_file.h"

namespace glimpse {
namespace {

class GifReader final : public ImageReader {
 public:
  explicit GifReader(const DecodeOptions& options) : limits_(options.limits) { progress_ = options.progress; }

  Status open(std::span<const std::byte> bytes) {
    GLIMPSE_TRY(gif_.open(bytes));
    GifControl control;
    GLIMPSE_ASSIGN(const bool found, next_gif_frame(gif_.get(), control));
    if (!found) return make_error(ErrorCode::kCorrupt, "GIF: there is no picture in the file");
    const GifImageDesc& frame = gif_->Image;
    if (frame.Width < 1 || frame.Height < 1) {
      return make_error(ErrorCode::kCorrupt, "GIF: a frame of %d x %d pixels", frame.Width, frame.Height);
    }
    // As Pillow does, the canvas grows where the frame reaches outside.
    info_.width = std::max(gif_->SWidth, frame.Left + frame.Width);
    info_.height = std::max(gif_->SHeight, frame.Top + frame.Height);
    GLIMPSE_TRY(check_size("GIF", info_.width, info_.height, limits_));
    make_colours(control.transparent);
    constexpr uint64_t kLibrary = 64 << 10;  // its state with the dictionary, colour maps
    const auto width = static_cast<uint64_t>(frame.Width), height = static_cast<uint64_t>(frame.Height);
    info_.memory = sizeof *this + kLibrary + width * (frame.Interlace ? height : 1);
    if (frame.Interlace) rows_begin_ = kFrameShare;
    return check_memory(frame.Interlace ? "interlaced GIF" : "GIF", info_.memory, limits_);
  }

  Status decode_rows(int64_t n_rows, uint8_t* rgb) override {
    const GifImageDesc& frame = gif_->Image;
    const auto width = static_cast<size_t>(frame.Width);
    if (indices_.empty()) {
      indices_.resize(width * static_cast<size_t>(frame.Interlace ? frame.Height : 1));
      if (frame.Interlace) GLIMPSE_TRY(read_passes());
    }
    for (int64_t i = 0; i < n_rows; ++i, ++y_) {
      const int64_t y = y_ - frame.Top;
      const bool inside = y >= 0 && y < frame.Height;
      if (inside && !frame.Interlace) GLIMPSE_TRY(read_line(indices_.data()));
      const uint8_t* line = indices_.data() + (frame.Interlace && inside ? static_cast<size_t>(y) * width : 0);
      for (int64_t x = 0; x < info_.width; ++x, rgb += 3) {
        const bool in_frame = inside && x >= frame.Left && x < frame.Left + frame.Width;
        std::copy_n(colours_[in_frame ? line[x - frame.Left] : around_].data(), 3, rgb);
      }
    }
    return {};
  }

 private:
  static constexpr double kFrameShare = 0.5;

  // Of every index, over white. Without a colour map, or with one that is the ramp of greys, indices are greys.
  void make_colours(int transparent) {
    const ColorMapObject* map = gif_->Image.ColorMap != nullptr ? gif_->Image.ColorMap : gif_->SColorMap;
    const int n = map == nullptr ? 0 : std::min(map->ColorCount, 256);
    bool is_ramp = true;
    for (int i = 0; i < n; ++i) {
      const GifColorType& c = map->Colors[i];
      colours_[static_cast<size_t>(i)] = {c.Red, c.Green, c.Blue};
      is_ramp &= c.Red == i && c.Green == i && c.Blue == i;
    }
    for (size_t i = 0; is_ramp && i < colours_.size(); ++i) colours_[i].fill(static_cast<uint8_t>(i));
    if (transparent >= 0) {
      around_ = static_cast<uint8_t>(transparent);
      colours_[around_].fill(255);
    }
  }

  Status read_line(uint8_t* indices) {
    if (DGifGetLine(gif_.get(), indices, gif_->Image.Width) == GIF_ERROR) return gif_error(gif_->Error);
    return {};
  }

  // Rows come in four passes (GIF89a, appendix E).
  Status read_passes() {
    constexpr int kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
    const GifImageDesc& frame = gif_->Image;
    int n_done = 0;
    for (int pass = 0; pass < 4; ++pass) {
      for (int y = kFirst[pass]; y < frame.Height; y += kStep[pass]) {
        GLIMPSE_TRY(read_line(indices_.data() + static_cast<size_t>(y) * static_cast<size_t>(frame.Width)));
        if (++n_done % 64 == 0) GLIMPSE_TRY(report(kFrameShare * n_done / frame.Height));
      }
    }
    return {};
  }

  const ImageLimits limits_;
  GifFile gif_;
  std::array<std::array<uint8_t, 3>, 256> colours_ = {};  // those that the map lacks are black
  uint8_t around_ = 0;                                    // the index where the frame does not reach
  std::vector<uint8_t> indices_;                          // of the frame: all when interlaced, else a row
  int64_t y_ = 0;
};

}  // namespace

ImageReaderResult open_gif(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return opened<GifReader>(bytes, options);
}

}  // namespace glimpse
