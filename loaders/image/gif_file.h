// A GIF file as giflib reads it from memory. Private to loaders/image.
#pragma once

#include <gif_lib.h>

#include <cstddef>
#include <memory>
#include <span>

#include "engine/base/result.h"

namespace glimpse {

/// code: of giflib.
Error gif_error(int code);

class GifFile {
 public:
  /// The header. `bytes` outlive it.
  Status open(std::span<const std::byte> bytes);
  GifFileType* get() const { return gif_.get(); }
  GifFileType* operator->() const { return gif_.get(); }

 private:
  struct Close {
    void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
  };
  std::span<const std::byte> rest_;  // giflib has its address
  std::unique_ptr<GifFileType, Close> gif_;
};

/// What stands before a frame about it.
struct GifControl {
  int transparent = -1;      // index; -1: none
  int disposal = 0;          // 2: the frame's place is cleared after it, 3: becomes what it was before
  int delay_hundredths = 0;  // until the next
};
/// Goes up to the next frame, whose description is then in gif->Image; false: there is none.
Result<bool> next_gif_frame(GifFileType* gif, GifControl& control);

}  // namespace glimpse
