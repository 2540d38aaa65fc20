#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <limits>

#include "kernels/matmul/panel_codes.h"
#include "tests/kernels/panel_test_util.h"

namespace glimpse::test {
namespace {

class Panel : public testing::TestWithParam<PanelFormat> {
 protected:
  std::vector<int64_t> widths() const {
    const auto block = panel_row_format(GetParam()).block_length;
    if (block == 1) return {1, 2, 37, 64, 588};
    return {block, 2 * block, 7 * block};
  }
};

// Blocks of random bytes, NaN scales included: no arithmetic happens.
TEST_P(Panel, GivesBackEveryBitOfRandomBlocks) {
  const PanelFormat f = GetParam();
  if (is_float_type(f)) return;  // DequantizedRowsEqualTheFormatsFormulaBitForBit
  const auto block = panel_row_format(f).block_bytes;
  for (const int64_t cols : widths()) {
    for (const int64_t n_rows : {1, 15, 16}) {
      const uint64_t row_bytes = panel_row_bytes(f, cols);
      std::mt19937 random(static_cast<uint32_t>(cols * 100 + n_rows));
      std::vector<std::byte> bytes(row_bytes * static_cast<uint64_t>(n_rows));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      AlignedBuffer panel = allocate(panel_bytes(f, cols));
      std::memset(panel.data(), 0xee, panel_bytes(f, cols));
      pack_panel(f, bytes.data(), row_bytes, n_rows, cols, panel.data());
      for (int r = 0; r < kPanelRows; ++r) {
        for (uint64_t at = 0; at < row_bytes; at += block) {
          BlockCodes codes, want;
          const int64_t b = static_cast<int64_t>(at / block);
          read_panel_codes(f, reinterpret_cast<const uint8_t*>(panel.data()) + b * panel_layout(f).bytes, r, codes);
          if (r < n_rows) {
            const std::byte* from = bytes.data() + static_cast<uint64_t>(r) * row_bytes + at;
            decode_block(f, reinterpret_cast<const uint8_t*>(from), want);
            if (!block_format(f).codebook) {
              std::vector<uint8_t> back(block);
              encode_block(f, codes, back.data());
              ASSERT_EQ(std::memcmp(back.data(), from, block), 0) << "cols " << cols << " row " << r << " byte " << at;
            }
          }
          ASSERT_EQ(codes.d, want.d);
          ASSERT_EQ(std::memcmp(codes.q, want.q, sizeof want.q), 0)
              << "cols " << cols << " row " << r << " block " << b;
          ASSERT_EQ(std::memcmp(codes.scale, want.scale, sizeof want.scale), 0) << "row " << r << " block " << b;
        }
      }
    }
  }
}

TEST_P(Panel, TakesTheBytesOfTheBlocksPaddedTo64) {
  const PanelFormat f = GetParam();
  for (const int64_t cols : widths()) {
    const int64_t even = is_float_type(f) && f != PanelFormat::kF32 ? cols + cols % 2 : cols;
    const uint64_t raw = 16 * panel_row_bytes(f, even);
    if (block_format(f).codebook) {  // codes instead of entries of codebooks
      EXPECT_GT(panel_bytes(f, cols), raw);
      EXPECT_LE(panel_bytes(f, cols), raw * 8 / 5) << cols;
      continue;
    }
    EXPECT_EQ(panel_bytes(f, cols), (raw + 63) / 64 * 64) << cols;
  }
}

TEST_P(Panel, DequantizedRowsEqualTheFormatsFormulaBitForBit) {
  const PanelFormat f = GetParam();
  for (const Fill fill : {Fill::kGaussian, Fill::kExtreme}) {
    for (const int64_t cols : widths()) {
      const PackedMatrix m = pack_matrix(f, 40, cols, fill, 5);
      std::vector<float> row(static_cast<uint64_t>(cols));
      for (int64_t r = 0; r < 40; ++r) {
        dequantize_panel_row(m.matrix, r, row.data());
        const std::vector<float> want = weights_of(f, m.rows.data() + static_cast<uint64_t>(r) * m.row_bytes, cols);
        for (int64_t i = 0; i < cols; ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(row[i]), std::bit_cast<uint32_t>(want[i]))
              << "row " << r << " column " << i << ": " << row[i] << ", want " << want[i];
        }
      }
    }
  }
}

// The rows end where the process may read no further.
TEST_P(Panel, EveryInstructionSetMakesTheSameBytesAndReadsNothingElse) {
  const PanelFormat f = GetParam();
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const int64_t cols : widths()) {
    const uint64_t row_bytes = panel_row_bytes(f, cols), n_bytes = row_bytes * kPanelRows;
    const size_t readable = (n_bytes + page - 1) / page * page;
    void* const mapped = mmap(nullptr, readable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(mapped, MAP_FAILED);
    auto* const end = static_cast<std::byte*>(mapped) + readable;
    ASSERT_EQ(mprotect(end, page, PROT_NONE), 0);
    std::byte* const rows = end - n_bytes;
    std::mt19937 random(static_cast<uint32_t>(cols));
    for (std::byte* b = rows; b < end; ++b) *b = static_cast<std::byte>(random());
    const uint64_t packed = panel_bytes(f, cols);
    AlignedBuffer want = allocate(packed), got = allocate(packed + 64);
    pack_panel(f, rows, row_bytes, kPanelRows, cols, want.data(), Isa::kRef);
    for (const Isa isa : all_isas()) {
      if (!detect_isa().has(isa)) continue;
      std::memset(got.data(), 0xee, packed + 64);
      pack_panel(f, rows, row_bytes, kPanelRows, cols, got.data(), isa);
      EXPECT_EQ(std::memcmp(got.data(), want.data(), packed), 0) << isa_name(isa) << ", cols " << cols;
      for (int i = 0; i < 64; ++i) ASSERT_EQ(got.data()[packed + static_cast<uint64_t>(i)], std::byte{0xee});
    }
    munmap(mapped, readable + page);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Panel, testing::ValuesIn(all_panel_formats()),
                         [](const auto& format) { return name_of(format.param); });

}  // namespace
}  // namespace glimpse::test
