// The CUDA runtime as a Device, over a runtime that is not there (fake_runtime): what goes wrong is a value, and its
// message says what to do about it.
#include <gtest/gtest.h>

#include <vector>

#include "engine/runtime/cuda/device.h"

namespace glimpse::cuda {
namespace {
const void* fake_function(Kernel kernel) {
  return &kernel_info(kernel);
}
}  // namespace
Result<std::shared_ptr<Device>> open_fake_device(const LogSink& log);
}  // namespace glimpse::cuda

#define GLIMPSE_CUDA_CODE "90a-real,80-virtual"
#define open_cuda_device open_fake_device
#define device_function fake_function
#include "engine/runtime/cuda/cuda_device.cpp"
#undef open_cuda_device
#undef device_function

namespace glimpse::cuda {
namespace {

class CudaDeviceErrors : public ::testing::Test {
 protected:
  void SetUp() override { fake = {}; }
  static std::string why_not(const LogSink& log = {}) {
    const auto device = open_fake_device(log);
    if (device.ok()) return "";
    EXPECT_EQ(device.error().code, ErrorCode::kDevice);
    return device.error().message;
  }
  static std::shared_ptr<Device> device() {
    auto opened = open_fake_device({});
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().message);
    return std::move(opened).value();
  }
  template <typename T>
  static std::string message_of(const T& result, ErrorCode code) {
    if (result.ok()) return "no error";
    EXPECT_EQ(result.error().code, code) << result.error().message;
    return result.error().message;
  }
};

TEST_F(CudaDeviceErrors, SayWhyThereIsNoDevice) {
  EXPECT_EQ(why_not(), "");
  fake.errors["cudaGetDeviceCount"] = cudaErrorInsufficientDriver;
  fake.driver_version = 0;
  EXPECT_EQ(why_not(), "no CUDA device: this machine has no NVIDIA driver");
  fake.driver_version = 12040;
  EXPECT_EQ(why_not(), "no CUDA device: the driver is for CUDA 12.4, glimpse needs 13.0 or later");
  fake.errors["cudaGetDeviceCount"] = cudaErrorNoDevice;
  EXPECT_EQ(why_not(), "no CUDA device: the NVIDIA driver finds no GPU");
  fake.errors.clear();
  fake.n_devices = 0;
  EXPECT_EQ(why_not(), "no CUDA device: the NVIDIA driver finds no GPU");
  fake.errors["cudaGetDeviceCount"] = cudaErrorUnknown;
  EXPECT_EQ(why_not(), "no CUDA device: what happened (cudaErrorOther)");
  fake = {};
  fake.errors["cudaSetDevice"] = cudaErrorECCUncorrectable;
  EXPECT_EQ(
      why_not(),
      "the first CUDA device: what happened (cudaErrorOther); the device is lost to this process, another one may "
      "have it");
}

// A driver that translates says so before it begins, and once; one that cannot is told apart from a build that has
// nothing.
TEST_F(CudaDeviceErrors, SayWhichKernelsThereAre) {
  std::vector<std::string> said;
  const LogSink log = [&](LogLevel level, std::string_view message) {
    EXPECT_EQ(level, LogLevel::kWarning);
    EXPECT_EQ(fake.calls["cudaFuncGetAttributes"], 0) << "that is what takes so long";
    said.emplace_back(message);
  };
  EXPECT_EQ(why_not(log), "");
  EXPECT_TRUE(said.empty());
  fake = {};
  fake.properties.major = 12;
  EXPECT_EQ(why_not(), "");  // who has no log does not use it up
  fake.calls.clear();
  EXPECT_EQ(why_not(log), "");
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(
      said[0],
      "this build has no machine code for NVIDIA T (sm_120): its driver translates the kernels now, which can take "
      "a minute, and keeps them for the next time");
  EXPECT_EQ(why_not(log), "");
  EXPECT_EQ(said.size(), 1u);
  fake.errors["cudaFuncGetAttributes"] = cudaErrorUnsupportedPtxVersion;
  EXPECT_EQ(why_not(),
            "this build of glimpse has no machine code for NVIDIA T (sm_120), and its driver does not translate the "
            "kernels: what happened (cudaErrorUnsupportedPtxVersion)");
  EXPECT_GT(fake.calls["cudaGetLastError"], 0);
  fake.errors["cudaFuncGetAttributes"] = cudaErrorNoKernelImageForDevice;
  EXPECT_EQ(why_not(), "this build of glimpse has no kernels for NVIDIA T (sm_120)");
  fake = {};
  fake.properties.major = 7;
  fake.properties.minor = 5;
  EXPECT_EQ(why_not(log), "this build of glimpse has no kernels for NVIDIA T (sm_75)");
  EXPECT_EQ(said.size(), 1u) << "nothing is translated";
}

TEST_F(CudaDeviceErrors, SayHowMuchMemoryThereWas) {
  const auto on = device();
  EXPECT_EQ(message_of(on->allocate(uint64_t{1} << 30, "keys and values"), ErrorCode::kOutOfMemory),
            "keys and values: 1024.0 MiB of device memory, 64.0 MiB of 81920.0 are free on NVIDIA T");
  EXPECT_EQ(fake.calls["cudaGetLastError"], 1) << "the error is dealt with";
  fake.errors["cudaHostAlloc"] = cudaErrorMemoryAllocation;
  EXPECT_EQ(message_of(on->allocate_pinned(1 << 20, "transfers"), ErrorCode::kOutOfMemory),
            "transfers: 1.0 MiB of pinned memory: what happened");
  // Memory that cannot be cleared is given back.
  for (const char* call : {"cudaMemsetAsync", "cudaStreamSynchronize"}) {
    fake.errors = {{call, cudaErrorIllegalAddress}};
    fake.calls.clear();
    EXPECT_EQ(message_of(on->allocate(1 << 20, "a row"), ErrorCode::kDevice),
              "1.0 MiB of device memory for a row: an illegal memory access was encountered (cudaErrorIllegalAddress); "
              "the device is lost to this process, another one may have it");
    EXPECT_EQ(fake.calls["cudaFree"], 1) << call;
  }
}

// A device that is lost under way: every call says so, with the kernel launched last.
TEST_F(CudaDeviceErrors, NameTheLastKernelOfALostDevice) {
  const auto on = device();
  auto stream = on->make_stream();
  ASSERT_TRUE(stream.ok());
  Stream& s = *stream.value();
  const IntoRowsArgs args;
  EXPECT_TRUE(s.launch(Kernel::swiglu_rows, {{5, 1, 1}, 0}, &args).ok());
  fake.errors = {{"cudaStreamSynchronize", cudaErrorIllegalAddress},
                 {"cudaLaunchKernelExC", cudaErrorLaunchOutOfResources}};
  EXPECT_EQ(message_of(s.synchronize(), ErrorCode::kDevice),
            "work on the device failed; the last launch was swiglu_rows: an illegal memory access was encountered "
            "(cudaErrorIllegalAddress); the device is lost to this process, another one may have it");
  EXPECT_EQ(message_of(s.launch(Kernel::add_rows, {{5, 2, 1}, 48}, &args), ErrorCode::kDevice),
            "launch of add_rows with 5 x 2 x 1 blocks of 256 threads and 48 bytes of shared memory: what happened "
            "(cudaErrorOther)");
}

TEST_F(CudaDeviceErrors, NameClusters) {
  const auto on = device();
  auto stream = on->make_stream();
  ASSERT_TRUE(stream.ok());
  Stream& s = *stream.value();
  const LinearArgs args;
  LaunchShape shape{{4, 2, 1}, 0};
  EXPECT_TRUE(s.launch(Kernel::gemm_warpgroup_q4_k_128, shape, &args).ok());
  EXPECT_EQ(fake.last_cluster, 0u) << "without an attribute";
  shape.cluster = 2;
  EXPECT_TRUE(s.launch(Kernel::gemm_warpgroup_q4_k_128, shape, &args).ok());
  EXPECT_EQ(fake.last_cluster, 2u);
  fake.errors = {{"cudaStreamSynchronize", cudaErrorLaunchFailure}, {"cudaLaunchKernelExC", cudaErrorUnknown}};
  EXPECT_NE(message_of(s.synchronize(), ErrorCode::kDevice)
                .find("the last launch was gemm_warpgroup_q4_k_128 in clusters of 2"),
            std::string::npos);
  EXPECT_NE(message_of(s.launch(Kernel::gemm_warpgroup_q4_k_128, shape, &args), ErrorCode::kDevice)
                .find("0 bytes of shared memory in clusters of 2: "),
            std::string::npos);
}

// Recordings: what fails leaves no capture open and keeps nothing; only launches that wait for others may overlap them.
TEST_F(CudaDeviceErrors, OfRecordingsLeaveNothingBehind) {
  const auto on = device();
  auto stream = on->make_stream();
  ASSERT_TRUE(stream.ok());
  const auto record = [&]() -> Result<std::shared_ptr<const Recording>> {
    GLIMPSE_ASSIGN(const auto recorder, stream.value()->record());
    const IntoRowsArgs args;
    const FiniteArgs finite;
    GLIMPSE_TRY(recorder->launch(Kernel::swiglu_rows, {}, &args));  // nothing is before it
    GLIMPSE_TRY(recorder->launch(Kernel::swiglu_rows, {}, &args));
    GLIMPSE_TRY(recorder->launch(Kernel::find_non_finite, {}, &finite));
    return recorder->finish();
  };
  {
    const auto recording = record();
    ASSERT_TRUE(recording.ok());
    EXPECT_EQ(recording.value()->n_launches(), 3);
    EXPECT_EQ(fake.n_overlapping, 1);
    EXPECT_TRUE(stream.value()->play(recording.value()).ok());
    EXPECT_TRUE(stream.value()->mark(3).ok());
    EXPECT_TRUE(stream.value()->wait_for(3).ok());
  }
  EXPECT_EQ(fake.calls["cudaGraphExecDestroy"], 1);
  EXPECT_EQ(fake.calls["cudaGraphDestroy"], 1);
  EXPECT_EQ(fake.calls["cudaStreamDestroy"], 1);
  fake.calls.clear();
  fake.errors["cudaGraphInstantiate"] = cudaErrorMemoryAllocation;
  EXPECT_EQ(message_of(record(), ErrorCode::kOutOfMemory),
            "recording launches failed: what happened (cudaErrorMemoryAllocation)");
  EXPECT_EQ(fake.calls["cudaGraphDestroy"], 1);
  EXPECT_EQ(fake.calls["cudaStreamDestroy"], 1);
  fake = {};
  fake.errors["cudaLaunchKernelExC"] = cudaErrorUnknown;
  EXPECT_FALSE(record().ok());
  EXPECT_EQ(fake.calls["cudaStreamEndCapture"], 1) << "the capture is ended";
  EXPECT_EQ(fake.calls["cudaGraphDestroy"], 1);
  // Kernels from PTX for earlier devices do not wait, so that their launches must not overlap.
  fake = {};
  fake.ptx_version = 80;
  const auto older = device();
  stream = older->make_stream();
  ASSERT_TRUE(stream.ok());
  EXPECT_TRUE(record().ok());
  EXPECT_EQ(fake.n_overlapping, 0);
}

}  // namespace
}  // namespace glimpse::cuda
