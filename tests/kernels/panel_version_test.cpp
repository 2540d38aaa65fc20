// The bytes of packed panels are written to disk, so that they may change only together with their version.
#include <gtest/gtest.h>

#include <map>

#include "kernels/matmul/panel_layout.h"
#include "tests/kernels/panel_test_util.h"

namespace glimpse::test {
namespace {

// FNV-1a of a full and a short panel over bytes of a fixed sequence.
uint64_t hash_of_panels(PanelFormat format, Isa isa) {
  const int64_t block = panel_row_format(format).block_length, cols = block == 1 ? 83 : 3 * block;
  const uint64_t row_bytes = panel_row_bytes(format, cols), bytes = panel_bytes(format, cols);
  std::vector<std::byte> rows(row_bytes * kPanelRows);
  uint32_t state = 1;
  for (std::byte& b : rows) {
    state = state * 1664525u + 1013904223u;
    b = static_cast<std::byte>(state >> 24);
  }
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int64_t n_rows : {kPanelRows, int64_t{13}}) {
    AlignedBuffer panel = allocate(bytes);
    std::memset(panel.data(), 0xee, bytes);
    pack_panel(format, rows.data(), row_bytes, n_rows, cols, panel.data(), isa);
    for (uint64_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<uint64_t>(panel.data()[i])) * 0x100000001b3u;
  }
  return hash;
}

// A difference here means that packed bytes have changed: raise kPanelLayoutVersion and replace the values below.
TEST(PanelLayoutVersion, NamesTheBytesOfEveryFormat) {
  const std::map<std::string, uint64_t> kVersion2 = {
      {"F32", 0xd05c80389a0f7e06u},     {"F16", 0x1f6758868a959773u},    {"BF16", 0x256555b272315fa3u},
      {"Q4_0", 0xabf9ef5965ca5554u},    {"Q4_1", 0x89cb8c228901250u},    {"Q5_0", 0x5c99b8a40fb6fbd1u},
      {"Q5_1", 0xa015271a64f9cc1bu},    {"Q8_0", 0xbcd87023eaa631a2u},   {"Q2_K", 0x95fbfb590edbd2d7u},
      {"Q3_K", 0x60ab356b4f43c9adu},    {"Q4_K", 0xc14a824ff53a0c95u},   {"Q5_K", 0x239fade13b1a58e8u},
      {"Q6_K", 0x330e7c678246b221u},    {"IQ4_NL", 0xabf9ef5965ca5554u}, {"IQ4_XS", 0x4d55fe6d830722f7u},
      {"TQ1_0", 0xaf52808b6d3913d1u},   {"TQ2_0", 0xd0a9d342b3e3bafu},   {"MXFP4", 0x55ad7dcc989275c6u},
      {"IQ2_XXS", 0xbb63dac7ec0de5fu},  {"IQ2_XS", 0x5fc96d5e7c6ca066u}, {"IQ2_S", 0xbca49cdfc49c0424u},
      {"IQ3_XXS", 0x63342dde50fb3ea7u}, {"IQ3_S", 0xb93dcbffc47afafcu},  {"IQ1_S", 0x9b04619aff0f815u},
      {"IQ1_M", 0xf43961b2511f3b7fu},   {"i8x32", 0xa1dd7935b7af7b5au},
  };
  ASSERT_EQ(kPanelLayoutVersion, 2u);
  EXPECT_EQ(kVersion2.size(), all_panel_formats().size());
  for (const PanelFormat format : all_panel_formats()) {
    const auto want = kVersion2.find(name_of(format));
    const uint64_t hash = hash_of_panels(format, Isa::kRef);
    EXPECT_TRUE(want != kVersion2.end() && want->second == hash)
        << "{\"" << name_of(format) << "\", 0x" << std::hex << hash << "},";
  }
}

TEST(PanelLayoutVersion, PackingOnEveryInstructionSetMakesTheSameBytes) {
  for (const Isa isa : all_isas()) {
    if (!detect_isa().has(isa)) continue;
    for (const PanelFormat format : all_panel_formats()) {
      EXPECT_EQ(hash_of_panels(format, isa), hash_of_panels(format, Isa::kRef))
          << name_of(format) << " on " << isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace glimpse::test
