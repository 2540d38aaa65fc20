// What a Device promises to several threads.
#include <gtest/gtest.h>

#include <thread>

#include "tests/cuda/cuda_support.h"

namespace glimpse::cuda {
namespace {

// Sessions record their steps while others are made or end.
TEST(Device, OtherThreadsAllocateWhileLaunchesAreRecorded) {
  const std::shared_ptr<Device> device = test_device({});
  const std::unique_ptr<Stream> stream = must(device->make_stream());
  const Memory x = must(Memory::on_device(device, 64 * sizeof(float), "a row"));
  IntoRowsArgs args;  // to = silu(from) * to
  args.from = x.as<float>();
  args.to = x.as<float>() + 32;
  args.ld_from = args.ld_to = 32;
  args.n = 1;
  args.width = 32;

  const auto recorder = must(stream->record());
  EXPECT_OK(recorder->launch(Kernel::swiglu_rows, {}, &args));
  float first = -1;
  std::thread([&] {
    const std::unique_ptr<Stream> own = must(device->make_stream());
    const Memory memory = must(Memory::on_device(device, 1 << 20, "another row"));
    const Memory pinned = must(Memory::pinned(device, sizeof first, "a float"));
    EXPECT_OK(own->copy_out(pinned.as<void>(), memory.as<void>(), sizeof first));
    EXPECT_OK(own->synchronize());
    first = *pinned.as<float>();
  }).join();
  EXPECT_EQ(first, 0.0f);  // memory comes zeroed
  EXPECT_OK(recorder->launch(Kernel::swiglu_rows, {}, &args));
  const auto recording = must(recorder->finish());
  EXPECT_EQ(recording->n_launches(), 2);
  EXPECT_OK(stream->play(recording));
  EXPECT_OK(stream->synchronize());
}

TEST(Device, KnowsForWhatABuildHasCode) {
  EXPECT_TRUE(has_code_for("90a-real;80-virtual", 9, 0));
  EXPECT_TRUE(has_code_for("80-virtual,90a-real", 9, 0)) << "as a compiler's definition has it";
  EXPECT_FALSE(has_code_for("90a-real;80-virtual", 8, 0)) << "PTX is no machine code";
  EXPECT_FALSE(has_code_for("90a-real;80-virtual", 8, 9));
  EXPECT_FALSE(has_code_for("90a-real;80-virtual", 10, 0));
  EXPECT_FALSE(has_code_for("90a-real", 9, 1)) << "of sm_90 alone";
  EXPECT_TRUE(has_code_for("80-real;86-real;89-real", 8, 7)) << "code for 8.6 runs on 8.7";
  EXPECT_FALSE(has_code_for("86-real", 8, 0));
  EXPECT_TRUE(has_code_for("100-real;120-real;80-virtual", 12, 1));
  EXPECT_TRUE(has_code_for("80", 8, 6)) << "code and PTX";
  EXPECT_FALSE(has_code_for("", 8, 6));
  EXPECT_FALSE(has_code_for("native;;", 8, 6));
}

TEST(Device, KnowsWhatADriverCanTranslate) {
  EXPECT_TRUE(has_ptx_for("90a-real;80-virtual", 8, 9));
  EXPECT_TRUE(has_ptx_for("90a-real,80-virtual", 12, 1)) << "of any later device";
  EXPECT_FALSE(has_ptx_for("90a-real;80-virtual", 7, 5));
  EXPECT_FALSE(has_ptx_for("90a-real", 10, 0));
  EXPECT_TRUE(has_ptx_for("80", 8, 6)) << "code and PTX";
  EXPECT_TRUE(has_ptx_for("90a-virtual", 9, 0));
  EXPECT_FALSE(has_ptx_for("90a-virtual", 10, 0)) << "of sm_90 alone";
  EXPECT_FALSE(has_ptx_for("", 8, 6));
}

}  // namespace
}  // namespace glimpse::cuda
