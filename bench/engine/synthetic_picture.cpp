#include "bench/engine/synthetic_picture.h"

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstdlib>

extern "C" {
#include <jpeglib.h>
}

namespace glimpse::bench {
namespace {

constexpr int kMaxSide = 16384;

// Three waves of different directions and colours, and grain of a few levels.
std::vector<unsigned char> pixels(int width, int height) {
  std::vector<unsigned char> rgb(3 * static_cast<size_t>(width) * static_cast<size_t>(height));
  uint32_t noise = 1;
  size_t i = 0;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double u = static_cast<double>(x) / width, v = static_cast<double>(y) / height;
      const double waves[3] = {std::sin(9 * u + 4 * v), std::sin(5 * v - 7 * u * v),
                               std::sin(13 * (u - 0.4) * (v + 1))};
      for (const double wave : waves) {
        noise = noise * 1664525u + 1013904223u;
        rgb[i++] = static_cast<unsigned char>(127.5 + 110 * wave + (static_cast<double>(noise >> 29) - 3.5));
      }
    }
  }
  return rgb;
}

// One compressor; libjpeg's error_exit must not return, so ours jumps back. The function that holds the setjmp has
// plain values only; what owns memory lives in the caller's frame.
struct Compressor {
  jpeg_compress_struct state = {};
  jpeg_error_mgr handlers = {};
  jmp_buf jump = {};
  char message[JMSG_LENGTH_MAX] = "";
  unsigned char* bytes = nullptr;
  unsigned long n_bytes = 0;

  Compressor() = default;
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor() {
    jpeg_destroy_compress(&state);
    std::free(bytes);
  }
};

[[noreturn]] void on_error(j_common_ptr state) {
  auto& compressor = *static_cast<Compressor*>(state->client_data);
  state->err->format_message(state, compressor.message);
  std::longjmp(compressor.jump, 1);
}

bool compress(Compressor& c, const unsigned char* rgb, int width, int height) {
  c.state.err = jpeg_std_error(&c.handlers);
  c.handlers.error_exit = on_error;
  c.state.client_data = &c;
  if (setjmp(c.jump) != 0) return false;
  jpeg_create_compress(&c.state);
  jpeg_mem_dest(&c.state, &c.bytes, &c.n_bytes);
  c.state.image_width = static_cast<JDIMENSION>(width);
  c.state.image_height = static_cast<JDIMENSION>(height);
  c.state.input_components = 3;
  c.state.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c.state);
  jpeg_set_quality(&c.state, 90, TRUE);
  jpeg_start_compress(&c.state, TRUE);
  while (c.state.next_scanline < c.state.image_height) {
    auto* row = const_cast<JSAMPROW>(rgb + 3 * static_cast<size_t>(c.state.next_scanline) * static_cast<size_t>(width));
    jpeg_write_scanlines(&c.state, &row, 1);
  }
  jpeg_finish_compress(&c.state);
  return true;
}

}  // namespace

Result<std::vector<std::byte>> synthetic_jpeg(int width, int height) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels: want 1 to %d on a side", width, height,
                      kMaxSide);
  }
  const std::vector<unsigned char> rgb = pixels(width, height);
  Compressor compressor;
  if (!compress(compressor, rgb.data(), width, height)) {
    return make_error(ErrorCode::kInternal, "cannot make a JPEG of %d x %d pixels: %s", width, height,
                      compressor.message);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(compressor.bytes);
  return std::vector<std::byte>(bytes, bytes + compressor.n_bytes);
}

}  // namespace glimpse::bench
