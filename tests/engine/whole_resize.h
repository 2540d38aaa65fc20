// A picture resized as a whole: the slow twin of read_resized(), which does it strip by strip.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/base/aligned_buffer.h"
#include "engine/base/checked.h"
#include "engine/preprocess/resize.h"

namespace glimpse {

constexpr int64_t kPixelBytes = 3;
constexpr int64_t kMostSide = 65535;

inline Status check_arguments(const Image& image, ImageSize size) {
  if (image.width < 1 || image.height < 1 || image.width > kMostSide || image.height > kMostSide ||
      image.pixels.size() != static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * kPixelBytes) {
    return make_error(ErrorCode::kInvalidArgument, "cannot resize a picture of %d x %d in %d bytes", image.width,
                      image.height, image.pixels.size());
  }
  if (size.width < 1 || size.height < 1 || size.width > kMostSide || size.height > kMostSide) {
    return make_error(ErrorCode::kInvalidArgument, "cannot resize a picture to %d x %d", size.width, size.height);
  }
  return {};
}

// A view of pixels between the passes.
struct Pixels {
  const uint8_t* data;
  int64_t width, height;
};

// out: (in.height, n_outputs).
inline void horizontal_pass(const ResizeKernels& kernels, const Pixels& in, int64_t n_outputs, uint8_t* out,
                            ThreadTeam* team) {
  const ResizeFilter filter = make_bicubic_filter(in.width, n_outputs);
  const ResizeFilterView view = filter.view();
  const int64_t in_stride = in.width * kPixelBytes, out_stride = n_outputs * kPixelBytes;
  // The kernel may read past a row, which must not be past the picture: the last rows take the plain way.
  const int64_t n_fast = std::max<int64_t>(0, in.height - ceil_div(kernels.overread, in_stride));
  share_rows(team, in.height, [&](int64_t begin, int64_t end) {
    const int64_t middle = std::clamp(n_fast, begin, end);
    kernels.horizontal(view, in.data + begin * in_stride, in_stride, middle - begin, out + begin * out_stride);
    resize_horizontal_ref(view, in.data + middle * in_stride, in_stride, end - middle, out + middle * out_stride);
  });
}

// out: (n_outputs, in.width).
inline void vertical_pass(const ResizeKernels& kernels, const Pixels& in, int64_t n_outputs, uint8_t* out,
                          ThreadTeam* team) {
  const ResizeFilter filter = make_bicubic_filter(in.height, n_outputs);
  const ResizeFilterView view = filter.view();
  share_rows(team, n_outputs, [&](int64_t begin, int64_t end) {
    const int64_t row_bytes = in.width * kPixelBytes;
    kernels.vertical(view, in.data, 0, row_bytes, begin, end, out + begin * row_bytes);
  });
}

/// Pillow's Image.resize(size, BICUBIC) on 8-bit RGB, byte for byte, on a given ISA, which the CPU must have. Errors:
/// kInvalidArgument: an empty image, pixels that do not fit its size, a size that is not positive or above 65535.
inline Result<Image> resize_bicubic_on(Isa isa, const Image& image, ImageSize size, ThreadTeam* team) {
  GLIMPSE_TRY(check_arguments(image, size));
  const bool horizontal = size.width != image.width, vertical = size.height != image.height;
  if (!horizontal && !vertical) return image;
  const ResizeKernels kernels = resize_kernels(isa);

  Image out;
  out.width = static_cast<int>(size.width);
  out.height = static_cast<int>(size.height);
  out.pixels.resize(static_cast<size_t>(size.width * size.height * kPixelBytes));

  const Pixels in = {image.pixels.data(), image.width, image.height};
  if (!vertical) {
    horizontal_pass(kernels, in, size.width, out.pixels.data(), team);
    return out;
  }
  if (!horizontal) {
    vertical_pass(kernels, in, size.height, out.pixels.data(), team);
    return out;
  }
  const bool vertical_first = vertical_goes_first({image.width, image.height}, size);
  const int64_t width = vertical_first ? image.width : size.width;
  const int64_t height = vertical_first ? size.height : image.height;
  GLIMPSE_ASSIGN(AlignedBuffer intermediate,
                 AlignedBuffer::allocate(static_cast<uint64_t>(width * height * kPixelBytes),
                                         "a picture between the passes of its resize"));
  const Pixels between = {intermediate.as<uint8_t>(), width, height};
  if (vertical_first) {
    vertical_pass(kernels, in, size.height, intermediate.as<uint8_t>(), team);
    horizontal_pass(kernels, between, size.width, out.pixels.data(), team);
  } else {
    horizontal_pass(kernels, in, size.width, intermediate.as<uint8_t>(), team);
    vertical_pass(kernels, between, size.height, out.pixels.data(), team);
  }
  return out;
}

inline Result<Image> resize_bicubic(const Image& image, ImageSize size, ThreadTeam* team) {
  GLIMPSE_ASSIGN(const Isa isa, selected_isa());
  return resize_bicubic_on(isa, image, size, team);
}

}  // namespace glimpse
