// The bicubic resize of a picture whose rows come from the top. Rows enter a window that holds as many as the vertical
// filter needs at a time; the horizontal pass runs before them or after, as Pillow orders the two.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/base/aligned_buffer.h"
#include "engine/base/checked.h"
#include "engine/preprocess/resize.h"
#include "loaders/image/orient.h"

namespace glimpse {
namespace {

constexpr int64_t kChannels = 3;
constexpr int64_t kMaxSide = 65535;
constexpr int64_t kStripBytes = int64_t{1} << 20;  // rows that are read at a time
constexpr int64_t kBetweenRows = 64;               // of the vertical pass, where it goes first

// Sizes as stored, not upright.
struct Layout {
  int64_t width, height;          // of the picture
  int64_t out_width, out_height;  // of the result
  bool has_x, has_y;              // whether the side changes
  bool vertical_first;            // of two passes over stored rows
  int64_t strip_rows;

  // At most as many rows as one output of the vertical filter needs, and those of a strip.
  int64_t window_rows(int64_t n_taps) const { return std::min(n_taps, height) + strip_rows; }
  int64_t window_row_bytes() const { return (has_x && !vertical_first ? out_width : width) * kChannels; }
  int64_t strip_bytes() const { return has_x && !(has_y && vertical_first) ? strip_rows * width * kChannels : 0; }
  int64_t between_bytes() const { return has_x && has_y && vertical_first ? kBetweenRows * width * kChannels : 0; }
};

Layout make_layout(const ImageInfo& info, ImageSize size) {
  const bool transposed = info.transposed();
  Layout layout;
  layout.width = info.width;
  layout.height = info.height;
  layout.out_width = transposed ? size.height : size.width;
  layout.out_height = transposed ? size.width : size.height;
  layout.has_x = layout.out_width != layout.width;
  layout.has_y = layout.out_height != layout.height;
  // The stored rows of a transposed picture are upright columns.
  layout.vertical_first = vertical_goes_first({info.upright_width(), info.upright_height()}, size) != transposed;
  layout.strip_rows = std::clamp<int64_t>(kStripBytes / (layout.width * kChannels), 8, 256);
  return layout;
}

// Upper bounds of ResizeFilter::n_taps, and of its bytes.
int64_t most_taps(int64_t n_inputs, int64_t n_outputs) {
  return round_up(4 * std::max<int64_t>(1, ceil_div(n_inputs, n_outputs)) + 2, int64_t{4});
}
uint64_t filter_bytes(int64_t n_inputs, int64_t n_outputs) {
  const int64_t n_taps = most_taps(n_inputs, n_outputs);
  return static_cast<uint64_t>(n_outputs * (8 + n_taps * 8) + n_taps * 8);
}

// The filter of an axis that is stored the other way round: the same weights on the same pixels.
ResizeFilter mirrored(const ResizeFilter& filter, int64_t n_inputs) {
  ResizeFilter out = filter;
  const size_t n = filter.first.size(), n_taps = static_cast<size_t>(filter.n_taps);
  std::fill(out.weights.begin(), out.weights.end(), 0);
  for (size_t i = 0; i < n; ++i) {
    const size_t from = n - 1 - i, count = static_cast<size_t>(filter.count[from]);
    out.first[i] = static_cast<int32_t>(n_inputs) - filter.first[from] - filter.count[from];
    out.count[i] = filter.count[from];
    for (size_t k = 0; k < count; ++k) {
      out.weights[i * n_taps + k] = filter.weights[from * n_taps + count - 1 - k];
    }
  }
  split_weights(out);
  return out;
}

class StripResizer {
 public:
  StripResizer(Isa isa, const ImageInfo& info, ImageSize size, ThreadTeam* team)
      : layout_(make_layout(info, size)), kernels_(resize_kernels(isa)), team_(team) {
    const StoredAxes axes = stored_axes(info.orientation);
    if (layout_.has_x) x_ = make_filter(layout_.width, layout_.out_width, axes.x_mirrored);
    if (layout_.has_y) y_ = make_filter(layout_.height, layout_.out_height, axes.y_mirrored);
  }

  Status allocate() {
    out_.width = static_cast<int>(layout_.out_width);
    out_.height = static_cast<int>(layout_.out_height);
    out_.pixels.resize(static_cast<size_t>(layout_.out_width * layout_.out_height * kChannels));
    const auto take = [](int64_t n_bytes, AlignedBuffer& buffer) -> Status {
      if (n_bytes == 0) return {};
      GLIMPSE_ASSIGN(buffer, AlignedBuffer::allocate(static_cast<uint64_t>(n_bytes + kResizeOverread),
                                                     "rows of a picture that is being resized"));
      return {};
    };
    GLIMPSE_TRY(take(layout_.strip_bytes(), strip_));
    GLIMPSE_TRY(take(layout_.between_bytes(), between_));
    if (y_) GLIMPSE_TRY(take(layout_.window_rows(y_->n_taps) * layout_.window_row_bytes(), window_));
    return {};
  }

  int64_t strip_rows() const { return layout_.strip_rows; }

  // Where the next strip is to be read to: (up to strip_rows, width, 3).
  uint8_t* room() {
    if (layout_.strip_bytes() > 0) return strip_.as<uint8_t>();
    if (y_) return window_end();
    return out_row(n_taken_);
  }

  // n rows lie in room().
  void take(int64_t n) {
    if (x_ && !y_) horizontal(strip_.as<uint8_t>(), n, out_row(n_taken_));
    if (x_ && y_ && !layout_.vertical_first) horizontal(strip_.as<uint8_t>(), n, window_end());
    n_taken_ += n;
    if (y_) {
      window_rows_ += n;
      make_outputs();
      drop_rows();
    }
  }

  Image result() && { return std::move(out_); }

 private:
  static ResizeFilter make_filter(int64_t n_inputs, int64_t n_outputs, bool is_mirrored) {
    ResizeFilter filter = make_bicubic_filter(n_inputs, n_outputs);
    return is_mirrored ? mirrored(filter, n_inputs) : filter;
  }

  uint8_t* out_row(int64_t y) { return out_.pixels.data() + y * layout_.out_width * kChannels; }
  uint8_t* window_end() { return window_.as<uint8_t>() + window_rows_ * layout_.window_row_bytes(); }

  void horizontal(const uint8_t* in, int64_t n_rows, uint8_t* out) {
    const ResizeFilterView view = x_->view();
    const int64_t in_stride = layout_.width * kChannels, out_stride = layout_.out_width * kChannels;
    share_rows(team_, n_rows, [&](int64_t first, int64_t last) {
      kernels_.horizontal(view, in + first * in_stride, in_stride, last - first, out + first * out_stride);
    });
  }

  void vertical(int64_t begin, int64_t end, uint8_t* out) {
    const ResizeFilterView view = y_->view();
    const int64_t row_bytes = layout_.window_row_bytes();
    share_rows(team_, end - begin, [&](int64_t first, int64_t last) {
      kernels_.vertical(view, window_.as<uint8_t>(), window_begin_, row_bytes, begin + first, begin + last,
                        out + first * row_bytes);
    });
  }

  bool is_ready(int64_t output) const {
    const auto i = static_cast<size_t>(output);
    return output < layout_.out_height && y_->first[i] + y_->count[i] <= window_begin_ + window_rows_;
  }

  // Every output whose rows are all in the window.
  void make_outputs() {
    int64_t end = n_made_;
    while (is_ready(end)) ++end;
    if (!(x_ && layout_.vertical_first)) {
      vertical(n_made_, end, out_row(n_made_));
    } else {
      for (int64_t y = n_made_; y < end; y += kBetweenRows) {
        const int64_t n = std::min(kBetweenRows, end - y);
        vertical(y, y + n, between_.as<uint8_t>());
        horizontal(between_.as<uint8_t>(), n, out_row(y));
      }
    }
    n_made_ = end;
  }

  // Rows that no later output needs leave the window.
  void drop_rows() {
    const int64_t first = n_made_ < layout_.out_height ? y_->first[static_cast<size_t>(n_made_)] : layout_.height;
    const int64_t n = std::clamp<int64_t>(first - window_begin_, 0, window_rows_);
    const int64_t row_bytes = layout_.window_row_bytes();
    std::memmove(window_.as<uint8_t>(), window_.as<uint8_t>() + n * row_bytes,
                 static_cast<size_t>((window_rows_ - n) * row_bytes));
    window_begin_ += n;
    window_rows_ -= n;
  }

  const Layout layout_;
  const ResizeKernels kernels_;
  ThreadTeam* const team_;
  std::optional<ResizeFilter> x_, y_;
  Image out_;  // as stored
  AlignedBuffer strip_, between_, window_;
  int64_t n_taken_ = 0, n_made_ = 0;            // rows of the picture, of the result
  int64_t window_begin_ = 0, window_rows_ = 0;  // rows of the picture that the window holds
};

}  // namespace

Result<Image> read_resized_on(Isa isa, ImageReader& reader, ImageSize size, ThreadTeam* team, double* resize_ms) {
  using Clock = std::chrono::steady_clock;
  const ImageInfo& info = reader.info();
  if (info.width < 1 || info.height < 1 || info.width > kMaxSide || info.height > kMaxSide || size.width < 1 ||
      size.height < 1 || size.width > kMaxSide || size.height > kMaxSide) {
    return make_error(ErrorCode::kInvalidArgument, "cannot resize a picture of %d x %d to %d x %d", info.width,
                      info.height, size.width, size.height);
  }
  StripResizer resizer(isa, info, size, team);
  GLIMPSE_TRY(resizer.allocate());
  Clock::duration spent{};
  for (int64_t y = 0; y < info.height; y += resizer.strip_rows()) {
    const int64_t n = std::min(resizer.strip_rows(), info.height - y);
    GLIMPSE_TRY(reader.read_rows(n, resizer.room()));
    const Clock::time_point start = Clock::now();
    resizer.take(n);
    spent += Clock::now() - start;
  }
  if (resize_ms != nullptr) *resize_ms += std::chrono::duration<double, std::milli>(spent).count();
  return apply_orientation(std::move(resizer).result(), info.orientation);
}

Result<Image> read_resized(ImageReader& reader, ImageSize size, ThreadTeam* team, double* resize_ms) {
  GLIMPSE_ASSIGN(const Isa isa, selected_isa());
  return read_resized_on(isa, reader, size, team, resize_ms);
}

uint64_t read_resized_bytes(const ImageInfo& info, ImageSize size) {
  const Layout layout = make_layout(info, size);
  const auto result = static_cast<uint64_t>(size.width * size.height * kChannels);
  uint64_t n_bytes = info.orientation > 1 ? result : 0;  // turned into another picture
  // As AlignedBuffer rounds them.
  const auto buffer = [](int64_t n) {
    constexpr int64_t kHugePage = int64_t{2} << 20;
    return static_cast<uint64_t>(round_up(n + kResizeOverread, n + kResizeOverread < kHugePage ? 64 : kHugePage));
  };
  n_bytes += buffer(layout.strip_bytes()) + buffer(layout.between_bytes());
  if (layout.has_y) {
    n_bytes += buffer(layout.window_rows(most_taps(layout.height, layout.out_height)) * layout.window_row_bytes());
    n_bytes += 2 * filter_bytes(layout.height, layout.out_height);  // and its mirror image for a moment
  }
  if (layout.has_x) n_bytes += 2 * filter_bytes(layout.width, layout.out_width);
  return n_bytes;
}

}  // namespace glimpse
