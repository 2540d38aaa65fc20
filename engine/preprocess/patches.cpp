#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/preprocess/preprocess.h"

namespace glimpse {
namespace {

constexpr int64_t kChannels = 3;

// The value of each of the 256 levels of a channel: (level / 255 - mean) / std.
using LevelTable = std::array<float, 256>;

LevelTable level_table(float mean, float std) {
  LevelTable table;
  for (size_t level = 0; level < table.size(); ++level) {
    table[level] = (static_cast<float>(level) / 255.0f - mean) / std;
  }
  return table;
}

// corner: the patch's top left pixel, RGB. row: (3, p, p), where convert(channel, byte) is put.
template <typename T, typename Convert>
void fill_patch(const uint8_t* corner, int64_t image_width, int64_t p, T* row, const Convert& convert) {
  for (int64_t c = 0; c < kChannels; ++c) {
    for (int64_t y = 0; y < p; ++y) {
      const uint8_t* in = corner + y * image_width * kChannels + c;
      for (int64_t x = 0; x < p; ++x) *row++ = convert(c, in[x * kChannels]);
    }
  }
}

// rows: (n_patches, 3 p^2) in merge order: block row, block column, row in block, column in block. Threads take whole
// rows of blocks.
template <typename T, typename Convert>
void fill_patches(const Image& image, const PatchConfig& config, ThreadTeam* team, T* rows, const Convert& convert) {
  const int64_t p = config.patch_size, merge = config.merge_size, row_length = kChannels * p * p;
  const int64_t block_rows = image.height / (p * merge), block_columns = image.width / (p * merge);
  const auto fill_block_rows = [&](int, int64_t begin, int64_t end) {
    T* row = rows + begin * block_columns * merge * merge * row_length;
    for (int64_t block_y = begin; block_y < end; ++block_y) {
      for (int64_t block_x = 0; block_x < block_columns; ++block_x) {
        for (int64_t i = 0; i < merge * merge; ++i, row += row_length) {
          const int64_t y = (block_y * merge + i / merge) * p, x = (block_x * merge + i % merge) * p;
          fill_patch(image.pixels.data() + (y * image.width + x) * kChannels, image.width, p, row, convert);
        }
      }
    }
  };
  if (team != nullptr) {
    team->for_ranges(block_rows, Grain{.most = 4}, fill_block_rows);
  } else {
    fill_block_rows(0, 0, block_rows);
  }
}

}  // namespace

Result<Patches> extract_patches(const Image& image, const PatchConfig& config, ThreadTeam* team, PatchForm form) {
  const int64_t p = config.patch_size, merge = config.merge_size;
  if (p < 1 || merge < 1 || p > 1024 || merge > 1024) {
    return make_error(ErrorCode::kInvalidArgument, "patches of %d pixels, merged by %d, make no sense", p, merge);
  }
  for (float std : config.std) {
    if (!(std > 0)) return make_error(ErrorCode::kInvalidArgument, "an image standard deviation of %g", double{std});
  }
  const int64_t factor = p * merge;
  if (image.width < 1 || image.height < 1 || image.width % factor != 0 || image.height % factor != 0) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels is not a grid of %d pixel blocks",
                      image.width, image.height, factor);
  }
  if (image.pixels.size() != static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * kChannels) {
    return make_error(ErrorCode::kInvalidArgument, "%d bytes of pixels for %d x %d", image.pixels.size(), image.width,
                      image.height);
  }

  Patches patches;
  patches.grid = {1, image.height / p, image.width / p};
  patches.row_length = kChannels * p * p;
  const auto n_values = static_cast<size_t>(patches.grid.n_patches() * patches.row_length);
  const LevelTable tables[kChannels] = {level_table(config.mean[0], config.std[0]),
                                        level_table(config.mean[1], config.std[1]),
                                        level_table(config.mean[2], config.std[2])};
  if (form == PatchForm::kBytes) {
    for (const LevelTable& table : tables) patches.levels.insert(patches.levels.end(), table.begin(), table.end());
    patches.bytes.resize(n_values);
    fill_patches(image, config, team, patches.bytes.data(), [](int64_t, uint8_t byte) { return byte; });
    return patches;
  }
  patches.values.resize(n_values);
  fill_patches(image, config, team, patches.values.data(),
               [&tables](int64_t channel, uint8_t byte) { return tables[channel][byte]; });
  return patches;
}

}  // namespace glimpse
