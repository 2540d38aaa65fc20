// As much of the CUDA runtime as engine/runtime/cuda/cuda_device.cpp uses, over the heap, with errors on demand: so its
// messages are tested where there is no GPU and no toolkit. Names and numbers are those of CUDA 13.0's header.
// Everything belongs to the translation unit that includes this.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#define CUDART_VERSION 13000

namespace {

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorJitCompilerNotFound = 221,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorJitCompilationDisabled = 223,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchTimeout = 702,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorUnknown = 999,
};
using cudaStream_t = struct FakeStream*;
using cudaEvent_t = struct FakeEvent*;
using cudaGraph_t = struct FakeGraph*;
using cudaGraphExec_t = struct FakeGraphExec*;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaFuncAttributePreferredSharedMemoryCarveout };
enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6,
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  int ptxVersion;
};
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlockOptin;
  int major, minor, multiProcessorCount;
  int clusterLaunch;
};

/// What the next calls say.
struct FakeRuntime {
  std::map<std::string, cudaError_t> errors;  // by function
  std::map<std::string, int> calls;
  int n_devices = 1, driver_version = 13000, ptx_version = 90;
  size_t free_bytes = size_t{64} << 20;
  cudaDeviceProp properties = {"NVIDIA T", size_t{80} << 30, 227 << 10, 9, 0, 132, 1};
  int n_overlapping = 0;      // launches
  unsigned last_cluster = 0;  // of the last launch; 0: none

  cudaError_t call(const char* function) {
    ++calls[function];
    const auto found = errors.find(function);
    return found == errors.end() ? cudaSuccess : found->second;
  }
};
FakeRuntime fake;
const auto cudaStreamPerThread = reinterpret_cast<cudaStream_t>(2);

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorUnsupportedPtxVersion:
      return "cudaErrorUnsupportedPtxVersion";
    default:
      return "cudaErrorOther";
  }
}
const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "what happened";
}
cudaError_t cudaGetLastError() {
  return fake.call("cudaGetLastError");
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = fake.n_devices;
  return fake.call("cudaGetDeviceCount");
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = fake.driver_version;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  return fake.call("cudaSetDevice");
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = fake.properties;
  return fake.call("cudaGetDeviceProperties");
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {0, fake.ptx_version};
  return fake.call("cudaFuncGetAttributes");
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return fake.call("cudaFuncSetAttribute");
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = fake.free_bytes;
  *total = fake.properties.totalGlobalMem;
  return fake.call("cudaMemGetInfo");
}
cudaError_t cudaMalloc(void** memory, size_t n_bytes) {
  const cudaError_t code = n_bytes > fake.free_bytes ? cudaErrorMemoryAllocation : fake.call("cudaMalloc");
  *memory = code == cudaSuccess ? std::malloc(n_bytes) : nullptr;
  return code;
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return fake.call("cudaFree");
}
cudaError_t cudaHostAlloc(void** memory, size_t n_bytes, unsigned) {
  const cudaError_t code = fake.call("cudaHostAlloc");
  *memory = code == cudaSuccess ? std::malloc(n_bytes) : nullptr;
  return code;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t n_bytes, cudaStream_t) {
  const cudaError_t code = fake.call("cudaMemsetAsync");
  if (code == cudaSuccess) std::memset(memory, value, n_bytes);
  return code;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n_bytes, cudaMemcpyKind, cudaStream_t) {
  const cudaError_t code = fake.call("cudaMemcpyAsync");
  if (code == cudaSuccess) std::memcpy(to, from, n_bytes);
  return code;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(1);
  return fake.call("cudaStreamCreateWithFlags");
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return fake.call("cudaStreamDestroy");
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return fake.call("cudaStreamSynchronize");
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return fake.call("cudaStreamBeginCapture");
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(1);
  return fake.call("cudaStreamEndCapture");
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* playable, cudaGraph_t, unsigned long long) {
  const cudaError_t code = fake.call("cudaGraphInstantiate");
  *playable = code == cudaSuccess ? reinterpret_cast<cudaGraphExec_t>(1) : nullptr;
  return code;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return fake.call("cudaGraphUpload");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  return fake.call("cudaGraphLaunch");
}
cudaError_t cudaGraphDestroy(cudaGraph_t) {
  return fake.call("cudaGraphDestroy");
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
  return fake.call("cudaGraphExecDestroy");
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(1);
  return fake.call("cudaEventCreateWithFlags");
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return fake.call("cudaEventRecord");
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return fake.call("cudaEventSynchronize");
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return fake.call("cudaEventDestroy");
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
  fake.last_cluster = 0;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& a = config->attrs[i];
    if (a.id == cudaLaunchAttributeProgrammaticStreamSerialization) ++fake.n_overlapping;
    if (a.id == cudaLaunchAttributeClusterDimension) fake.last_cluster = a.val.clusterDim.x;
  }
  return fake.call("cudaLaunchKernelExC");
}

}  // namespace
