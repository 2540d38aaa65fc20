#include "engine/base/cpu_features.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "engine/base/aligned_buffer.h"

namespace glimpse {
namespace {

class ForceIsa : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* old = std::getenv("GLIMPSE_FORCE_ISA")) old_ = old;
  }
  void TearDown() override {
    old_.empty() ? unsetenv("GLIMPSE_FORCE_ISA") : setenv("GLIMPSE_FORCE_ISA", old_.c_str(), 1);
  }
  std::string old_;
};

TEST_F(ForceIsa, UnknownNameIsAnErrorThatListsTheKnownOnes) {
  setenv("GLIMPSE_FORCE_ISA", "mmx", 1);
  const auto isa = selected_isa();
  ASSERT_FALSE(isa.ok());
  EXPECT_EQ(isa.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(isa.error().message.find("avx2"), std::string::npos);
}

TEST(Isa, IsASetAndNoLadder) {
  EXPECT_TRUE(Isa::kAvx512Bf16.has(Isa::kAvx512Vnni) && Isa::kAvx512Vnni.has(Isa::kAvx512));
  EXPECT_TRUE(Isa::kAvx512.has(Isa::kAvx2) && Isa::kAvx2.has(Isa::kRef) && Isa::kAvxVnni.has(Isa::kAvx2));
  EXPECT_FALSE(Isa::kAvxVnni.has(Isa::kAvx512));
  EXPECT_FALSE(Isa::kAvx512Bf16.has(Isa::kAvxVnni));
  EXPECT_FALSE(Isa::kRef.has(Isa::kAvx2));
  const Isa both = Isa::kAvxVnni | Isa::kAvx512;
  EXPECT_TRUE(both.has(Isa::kAvxVnni) && both.has(Isa::kAvx512) && !both.has(Isa::kAvx512Vnni));
  EXPECT_STREQ(isa_name(both), "avx512");
  for (const Isa isa : all_isas()) EXPECT_EQ(parse_isa(isa_name(isa)).value(), isa);
}

TEST_F(ForceIsa, OverridesTheDetectedSet) {
  setenv("GLIMPSE_FORCE_ISA", "ref", 1);
  EXPECT_EQ(selected_isa().value(), Isa::kRef);
  unsetenv("GLIMPSE_FORCE_ISA");
  EXPECT_EQ(selected_isa().value(), detect_isa());
}

TEST(AvailableCpus, IsAtLeastOne) {
  EXPECT_GE(available_cpus(), 1);
}

TEST(AlignedBuffer, IsZeroedAndAligned) {
  for (uint64_t size : {uint64_t{1}, uint64_t{4096}, uint64_t{5} << 20}) {
    auto buffer = AlignedBuffer::allocate(size, "a test");
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    for (uint64_t i = 0; i < size; i += 997) EXPECT_EQ(buffer->data()[i], std::byte{0});
  }
}

TEST(AlignedBuffer, ImpossibleSizeIsAnErrorThatSaysWhatFor) {
  const auto buffer = AlignedBuffer::allocate(uint64_t{1} << 60, "the key-value cache");
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(buffer.error().message.find("the key-value cache"), std::string::npos);
}

}  // namespace
}  // namespace glimpse
