#include "engine/model/positions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/model/rotation.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

using testing::GoldenCase;

TEST(Positions, TextCountsUpOnAllAxes) {
  PositionCounter counter;
  std::vector<MropePosition> out;
  counter.append_text(3, out);
  EXPECT_EQ(out, (std::vector<MropePosition>{{0, 0, 0}, {1, 1, 1}, {2, 2, 2}}));
  EXPECT_EQ(counter.next(), 3);
}

// The worked example of get_rope_index: 3 tokens, a merged grid of 2 x 3, 2 tokens.
TEST(Positions, PictureAdvancesByTheLongerSideOfItsMergedGrid) {
  PositionCounter counter;
  std::vector<MropePosition> out;
  counter.append_text(3, out);
  counter.append_visual({1, 4, 6}, 2, 1, out);
  counter.append_text(2, out);
  EXPECT_EQ(out, (std::vector<MropePosition>{{0, 0, 0},
                                             {1, 1, 1},
                                             {2, 2, 2},
                                             {3, 3, 3},
                                             {3, 3, 4},
                                             {3, 3, 5},
                                             {3, 4, 3},
                                             {3, 4, 4},
                                             {3, 4, 5},
                                             {6, 6, 6},
                                             {7, 7, 7}}));
}

TEST(Positions, VideoSlicesStepTimeAndWhatFollowsTheVideoDoesNotWaitForIt) {
  PositionCounter counter;
  counter.set_next(10);
  std::vector<MropePosition> out;
  counter.append_visual({5, 2, 4}, 2, 1, out);  // 5 slices of 1 x 2 tokens
  ASSERT_EQ(out.size(), 10u);
  EXPECT_EQ(out[0], (MropePosition{10, 10, 10}));
  EXPECT_EQ(out[1], (MropePosition{10, 10, 11}));
  EXPECT_EQ(out[9], (MropePosition{14, 10, 11}));
  EXPECT_EQ(counter.next(), 12);
  EXPECT_EQ(counter.greatest(), 14);
}

TEST(Positions, SlicesStandAtWholePartsOfTheirTime) {
  PositionCounter counter;
  std::vector<MropePosition> out;
  counter.append_visual({4, 2, 2}, 2, 3.2f, out);
  EXPECT_EQ(out, (std::vector<MropePosition>{{0, 0, 0}, {3, 0, 0}, {6, 0, 0}, {9, 0, 0}}));
  EXPECT_EQ(counter.next(), 1);
  PositionCounter far;
  far.set_next(5);
  out.clear();
  far.append_visual({2, 2, 2}, 2, 3e38f, out);
  EXPECT_EQ(out[1].t, kMostPosition) << "no overflow";
}

// Positions of whole prompts, token by token, as transformers gives them.
TEST(Positions, EqualThoseOfTransformersOnEveryGoldenCase) {
  for (const auto& [folder, file] : testing::golden_cases()) {
    const GoldenCase golden(std::string(folder) + "/" + file);
    const GgufFile model = testing::must(GgufFile::open(testing::golden_path(std::string(folder) + "/model.gguf")));
    const std::vector<std::string>& tokens = *model.string_array("tokenizer.ggml.tokens");
    const std::vector<int32_t> ids = golden.ints("ids");
    const std::vector<GoldenCase::Visual> visuals = golden.visuals();
    PositionCounter counter;
    std::vector<MropePosition> got;
    size_t visual = 0;
    int64_t slice = 0;
    while (got.size() < ids.size()) {
      const std::string& token = tokens[static_cast<size_t>(ids[got.size()])];
      if (token != "<|image_pad|>" && token != "<|video_pad|>") {
        counter.append_text(1, got);
        continue;
      }
      const GridThw& grid = visuals.at(visual).grid;
      const bool alone = visuals[visual].is_video && std::string(folder) == "qwen3vl";  // slices are blocks
      const float step = golden.fps() > 0 && visuals[visual].is_video ? 2 * static_cast<float>(2 / golden.fps()) : 1;
      counter.append_visual({alone ? 1 : grid.t, grid.h, grid.w}, 2, step, got);
      slice = alone ? slice + 1 : 0;
      if (!alone || slice == grid.t) ++visual;
    }
    EXPECT_EQ(visual, visuals.size());
    EXPECT_EQ(got, golden.positions()) << folder << "/" << file;
  }
}

TEST(Positions, CuttingThePromptIntoPartsChangesNothing) {
  PositionCounter whole, parts;
  std::vector<MropePosition> a, b;
  whole.append_text(7, a);
  whole.append_visual({1, 2, 8}, 2, 1, a);
  whole.append_text(4, a);
  parts.append_text(5, b);
  parts.append_text(2, b);
  parts.append_visual({1, 2, 8}, 2, 1, b);
  PositionCounter resumed;
  resumed.set_next(parts.next());
  resumed.append_text(1, b);
  resumed.append_text(3, b);
  EXPECT_EQ(a, b);
}

TEST(MropeTable, SectionsChooseTheAxisAndFrequenciesDoNotRestart) {
  const Rotation rotation = make_rotation(128, 1e6, {{16, 24, 24}});
  const MropePosition position{3, 5, 7};
  float cos[64], sin[64];
  fill_mrope_table(std::span(&position, 1), rotation, cos, sin);
  // Frequencies of Qwen2-VL, theta 1e6: f_1, f_15, f_16, f_40, f_63.
  const struct {
    int pair, p;
    double frequency;
  } spots[] = {{0, 3, 1.0},           {1, 3, 0.8058421877614819}, {15, 3, 0.03924189758}, {16, 5, 0.0316227766},
               {39, 5, 2.2067341e-4}, {40, 7, 1.7782794e-4},      {63, 7, 1.2409378e-6}};
  for (const auto& spot : spots) {
    EXPECT_NEAR(sin[spot.pair], std::sin(spot.p * spot.frequency), 2e-7) << "pair " << spot.pair;
    EXPECT_NEAR(cos[spot.pair], std::cos(spot.p * spot.frequency), 2e-7) << "pair " << spot.pair;
  }
}

TEST(MropeTable, PairsPastTheSectionsUseTime) {
  const MropePosition position{2, 40, 50};
  float cos[4], sin[4];
  fill_mrope_table(std::span(&position, 1), make_rotation(8, 10000, {{1, 1, 1}}), cos, sin);
  EXPECT_NEAR(sin[3], std::sin(2 * std::pow(10000.0, -0.75)), 1e-7);
}

TEST(MropeTable, TextOnlyEqualsOneDimensionalRotation) {
  const MropePosition positions[2] = {{100, 100, 100}, {31000, 31000, 31000}};
  float a[2][16], b[2][16];
  fill_mrope_table(positions, make_rotation(16, 1e6, {{2, 3, 3}}), a[0], a[1]);
  fill_mrope_table(positions, make_rotation(16, 1e6, {{8, 0, 0}}), b[0], b[1]);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(a[0][i], b[0][i]);
    EXPECT_EQ(a[1][i], b[1][i]);
  }
}

TEST(MropeTable, InterleavedSectionsTakeEveryThirdPair) {
  // Qwen3-VL: time 24, height 20, width 20 of 64 pairs; pairs 60 to 63 are time's.
  const Rotation rotation = make_rotation(128, 5e6, {{24, 20, 20}, true});
  for (size_t j = 0; j < 64; ++j) {
    const auto want = j >= 60 || j % 3 == 0 ? Rotation::kTime : j % 3 == 1 ? Rotation::kHeight : Rotation::kWidth;
    EXPECT_EQ(rotation.axis[j], want) << "pair " << j;
  }
  EXPECT_NEAR(rotation.frequency[1], 0.7858299804, 1e-10);
  EXPECT_NEAR(rotation.frequency[40], 6.50344913e-5, 1e-13);
}

TEST(MropeTable, LinearScalingSlowsEveryPair) {
  const RopeScaling scaling = {.kind = RopeScaling::Kind::kLinear, .factor = 4};
  const Rotation scaled = make_rotation(16, 1e6, {{8, 0, 0}}, scaling), plain = make_rotation(16, 1e6, {{8, 0, 0}});
  for (size_t j = 0; j < 8; ++j) EXPECT_DOUBLE_EQ(scaled.frequency[j], plain.frequency[j] / 4);
  EXPECT_EQ(scaled.magnitude, 1);
}

TEST(MropeTable, YarnSlowsTheSlowPairsOnly) {
  // Qwen3 at four times its 32768 positions: what _compute_yarn_parameters in transformers gives.
  const RopeScaling scaling = {.kind = RopeScaling::Kind::kYarn, .factor = 4, .original_context = 32768};
  const Rotation scaled = make_rotation(128, 1e6, {{64, 0, 0}}, scaling);
  const Rotation plain = make_rotation(128, 1e6, {{64, 0, 0}});
  const double slowed[] = {1, 1, 0.955882353, 0.691176455, 0.470588211, 0.294117646, 0.25, 0.25};
  const int pairs[] = {0, 23, 24, 30, 35, 39, 40, 63};
  for (size_t i = 0; i < std::size(pairs); ++i) {
    const auto j = static_cast<size_t>(pairs[i]);
    EXPECT_NEAR(scaled.frequency[j] / plain.frequency[j], slowed[i], 1e-6) << "pair " << j;
  }
  EXPECT_NEAR(scaled.magnitude, 1.1386294361, 1e-9);
}

TEST(VisionRopeTable, FollowsMergeOrderAndRestartsFrequenciesForColumns) {
  // A 4 x 6 grid, head_dim 8: two frequencies, 1 and 1/100, for the row, then for the column.
  std::vector<float> cos(24 * 4), sin(24 * 4);
  fill_vision_rope_table({1, 4, 6}, 2, 8, WindowLayout(2, 3, 0), cos.data(), sin.data());
  const int order[12][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3},
                            {1, 2}, {1, 3}, {0, 4}, {0, 5}, {1, 4}, {1, 5}};
  for (int i = 0; i < 24; ++i) {
    const int row = order[i % 12][0] + (i >= 12 ? 2 : 0), col = order[i % 12][1];
    const double want[4] = {row * 1.0, row * 0.01, col * 1.0, col * 0.01};
    for (int j = 0; j < 4; ++j) {
      EXPECT_NEAR(sin[static_cast<size_t>(i * 4 + j)], std::sin(want[j]), 1e-7) << "token " << i << " pair " << j;
      EXPECT_NEAR(cos[static_cast<size_t>(i * 4 + j)], std::cos(want[j]), 1e-7) << "token " << i << " pair " << j;
    }
  }
}

TEST(VisionRopeTable, FollowsTheOrderOfWindows) {
  // 6 x 10 patches are 3 x 5 cells, in windows of 2 x 2: whole ones, then what the edges leave.
  const GridThw grid{1, 6, 10};
  const WindowLayout raster(3, 5, 0), windows(3, 5, 2);
  EXPECT_EQ(windows.windows, (std::vector<int64_t>{4, 4, 2, 2, 2, 1}));
  EXPECT_TRUE(raster.windows.empty());
  const int64_t order[] = {0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14};  // get_window_index in transformers
  std::vector<float> a[2], b[2];
  for (int i = 0; i < 2; ++i) a[i].resize(60 * 4), b[i].resize(60 * 4);
  fill_vision_rope_table(grid, 2, 8, raster, a[0].data(), a[1].data());
  fill_vision_rope_table(grid, 2, 8, windows, b[0].data(), b[1].data());
  for (size_t cell = 0; cell < 15; ++cell) {
    for (size_t j = 0; j < 16; ++j) {
      EXPECT_EQ(b[0][cell * 16 + j], a[0][static_cast<size_t>(order[cell]) * 16 + j]);
      EXPECT_EQ(b[1][cell * 16 + j], a[1][static_cast<size_t>(order[cell]) * 16 + j]);
    }
  }
}

TEST(WindowLayout, AnyPartOfTheRunsIsFound) {
  for (const int64_t side : {0, 1, 2, 4, 9}) {
    const WindowLayout layout(7, 5, side);
    std::vector<int64_t> whole(35, -1);
    layout.for_runs(0, 35, [&](int64_t to, int64_t from, int64_t count) {
      for (int64_t i = 0; i < count; ++i) whole[static_cast<size_t>(to + i)] = from + i;
    });
    std::vector<int64_t> sorted = whole;
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < 35; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i) << "side " << side;
    for (int64_t first = 0; first < 35; first += 4) {
      layout.for_runs(first, 4, [&](int64_t to, int64_t from, int64_t count) {
        EXPECT_GE(to, first);
        EXPECT_LE(to + count, first + 4);
        for (int64_t i = 0; i < count; ++i) EXPECT_EQ(whole[static_cast<size_t>(to + i)], from + i);
      });
    }
    int64_t total = 0;
    for (const int64_t cells : layout.windows) total += cells;
    EXPECT_EQ(total, side == 0 ? 0 : 35);
  }
}

TEST(PositionTable, IsStretchedFromCornerToCorner) {
  // A 3 x 3 table of row * 10 + column over grids of 2 x 4, 3 x 3 and 1 x 2 cells... of one patch.
  std::vector<float> table;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) table.push_back(static_cast<float>(10 * r + c));
  }
  const PositionTable positions{table.data(), 3, 1};
  for (const GridThw grid : {GridThw{1, 2, 4}, GridThw{1, 3, 3}, GridThw{1, 1, 2}, GridThw{1, 7, 1}}) {
    std::vector<float> out(static_cast<size_t>(grid.n_patches()));
    stretch_positions(positions, grid, 1, 0, grid.n_patches(), out.data());
    for (int64_t r = 0; r < grid.h; ++r) {
      for (int64_t c = 0; c < grid.w; ++c) {
        const double want = 20.0 * static_cast<double>(r) / static_cast<double>(std::max<int64_t>(1, grid.h - 1)) +
                            2.0 * static_cast<double>(c) / static_cast<double>(std::max<int64_t>(1, grid.w - 1));
        EXPECT_NEAR(out[static_cast<size_t>(r * grid.w + c)], want, 1e-5) << grid.h << " x " << grid.w;
      }
    }
  }
}

}  // namespace
}  // namespace glimpse
