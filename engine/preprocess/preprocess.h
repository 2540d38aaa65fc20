// Pixels to patches, as the Qwen2-VL image processor of transformers does it with Pillow.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/thread_team.h"
#include "loaders/image/image.h"

namespace glimpse {

/// A grid of patches: t temporal slices of h x w patches (unmerged). grid_thw in transformers.
struct GridThw {
  int64_t t = 1, h = 0, w = 0;
  int64_t n_patches() const { return t * h * w; }
};

/// Bounds on the resized picture, in pixels (areas). One token is (patch_size * merge_size)^2 pixels.
struct ResizeLimits {
  int64_t min_pixels = 3136;     // 56^2: the released preprocessor_config.json
  int64_t max_pixels = 1003520;  // 1280 tokens; the released files allow 12845056 (16384 tokens)
};

struct ImageSize {
  int64_t width = 0, height = 0;
};

/// The size that a picture is resized to: multiples of `factor` on both axes, aspect ratio nearly kept.
/// Double arithmetic and Python's rounding (half to even), as transformers' smart_resize. There, a very thin picture
/// can come out larger than max_pixels; here the longer side is then shortened until it fits, because memory is
/// planned for max_pixels.
/// Errors: kInvalidArgument: zero size, aspect ratio above 200, or limits that no multiple of factor satisfies.
Result<ImageSize> smart_resize(int64_t height, int64_t width, int64_t factor, const ResizeLimits& limits);

/// Reads a picture, turned upright, and resizes it as Pillow's Image.resize(size, BICUBIC) does with 8-bit RGB, byte
/// for byte (antialiased when shrinking, 22-bit fixed point, 8-bit intermediate): the same bytes on every ISA and for
/// every number of threads. Pillow 13 and later: older ones take the two passes in another order for some sizes. It is
/// done strip by strip and the picture never held whole, unless its reader must: both passes can wait for the rows they
/// need, and instead of the picture its filters are mirrored and the small result is turned. size: upright. team: may
/// be nullptr (one thread). resize_ms: nullptr, or where the time spent here and not in the reader is added. Errors:
/// those of the reader; kInvalidArgument: a size that is not positive or above 65535 on a side; kOutOfMemory.
Result<Image> read_resized(ImageReader& reader, ImageSize size, ThreadTeam* team, double* resize_ms);
/// Bytes that read_resized() holds at most beside the reader's and the result.
uint64_t read_resized_bytes(const ImageInfo& info, ImageSize size);

/// What the patch geometry and pixel statistics of a model are.
struct PatchConfig {
  int64_t patch_size = 14;
  int64_t merge_size = 2;
  float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
  float std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
};

/// Normalised patches of one still picture, in merge order (2x2 blocks of patches are adjacent), one row per patch:
/// (n_patches, 3 * patch_size^2), element order channel, y, x. The two temporal frames of a still picture are equal,
/// so one is stored; transformers' pixel_values row is each channel's block twice.
struct Patches {
  GridThw grid;
  int64_t row_length = 0;      // 3 * patch_size^2
  std::vector<float> values;   // (n_patches, row_length); empty where there are bytes
  std::vector<uint8_t> bytes;  // instead, the pixels in the same order: value = levels[channel * 256 + byte]
  std::vector<float> levels;   // (3, 256)
  /// Blocks of the merged grid, numbered row by row, ascending: only their patches are there. Empty: all are.
  std::vector<int32_t> cells;

  /// Of values or bytes.
  int64_t n_rows() const {
    const size_t n = bytes.empty() ? values.size() : bytes.size();
    return row_length > 0 ? static_cast<int64_t>(n) / row_length : 0;
  }
};
enum class PatchForm { kValues, kBytes };

/// `image` has sides that are multiples of patch_size * merge_size. Value: (pixel / 255 - mean) / std in f32.
/// team: may be nullptr (one thread). Errors: kInvalidArgument when the image or the config makes no sense.
Result<Patches> extract_patches(const Image& image, const PatchConfig& config, ThreadTeam* team,
                                PatchForm form = PatchForm::kValues);

}  // namespace glimpse
