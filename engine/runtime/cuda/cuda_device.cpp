// The CUDA runtime as a Device. The runtime is linked statically and finds the driver when it is first asked; a machine
// without one gets an error, not a missing library.
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "engine/runtime/cuda/device.h"

namespace glimpse::cuda {
namespace {

std::string in_clusters_of(int blocks) {
  return blocks > 1 ? format(" in clusters of %d", blocks) : "";
}

bool says_no(const char* value) {
  return value != nullptr && std::string_view(value) == "0";
}

double mib(uint64_t n_bytes) {
  return static_cast<double>(n_bytes) / (1 << 20);
}

// Errors after which every call fails until the process is started anew (CUDA Runtime API, "cudaError_t").
bool ends_the_process(cudaError_t code) {
  switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

Error device_error(const std::string& what, cudaError_t code) {
  return make_error(code == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice, "%s: %s (%s)%s",
                    what, cudaGetErrorString(code), cudaGetErrorName(code),
                    ends_the_process(code) ? "; the device is lost to this process, another one may have it" : "");
}

struct CudaRecording final : Recording {
  ~CudaRecording() override {
    if (playable != nullptr) cudaGraphExecDestroy(playable);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  int64_t n_launches() const override { return n; }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t playable = nullptr;
  int64_t n = 0;
};

// A launch on a stream. overlaps: it may begin before the one ahead of it has ended.
Status launch_on(cudaStream_t stream, Kernel kernel, const LaunchShape& shape, const void* args, bool overlaps) {
  const KernelInfo& info = kernel_info(kernel);
  void* pointers[] = {const_cast<void*>(args)};
  const dim3 grid(static_cast<unsigned>(shape.grid[0]), static_cast<unsigned>(shape.grid[1]),
                  static_cast<unsigned>(shape.grid[2]));
  cudaLaunchAttribute attributes[2] = {};
  unsigned n_attributes = 0;
  if (overlaps) {
    attributes[n_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[n_attributes++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[n_attributes].id = cudaLaunchAttributeClusterDimension;
    attributes[n_attributes++].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(info.n_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = n_attributes;
  const cudaError_t code = cudaLaunchKernelExC(&config, device_function(kernel), pointers);
  if (code == cudaSuccess) return {};
  return device_error(
      format("launch of %s with %d x %d x %d blocks of %d threads and %d bytes of shared memory%s", info.name, grid.x,
             grid.y, grid.z, info.n_threads, shape.shared_bytes, in_clusters_of(shape.cluster)),
      code);
}

Status check_recording(cudaError_t code) {
  if (code == cudaSuccess) return {};
  return device_error("recording launches failed", code);
}

// Captures a stream of its own, on which nothing runs.
class CudaRecorder final : public LaunchRecorder {
 public:
  CudaRecorder(cudaStream_t stream, bool overlaps) : stream_(stream), overlaps_(overlaps) {}
  ~CudaRecorder() override {
    cudaGraph_t graph = nullptr;
    if (capturing_ && cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
    cudaStreamDestroy(stream_);
  }
  Status begin() {
    // Relaxed: the context may allocate and wait meanwhile, none of which is captured.
    GLIMPSE_TRY(check_recording(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed)));
    capturing_ = true;
    return {};
  }
  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
    // The first one has nothing before it to overlap with.
    const bool overlaps = overlaps_ && n_ > 0 && kernel_info(kernel).order == LaunchOrder::kWaits;
    ++n_;
    return launch_on(stream_, kernel, shape, args, overlaps);
  }
  Result<std::shared_ptr<const Recording>> finish() override {
    auto recording = std::make_shared<CudaRecording>();
    recording->n = n_;
    capturing_ = false;
    GLIMPSE_TRY(check_recording(cudaStreamEndCapture(stream_, &recording->graph)));
    GLIMPSE_TRY(check_recording(cudaGraphInstantiate(&recording->playable, recording->graph, 0)));
    GLIMPSE_TRY(check_recording(cudaGraphUpload(recording->playable, stream_)));
    GLIMPSE_TRY(check_recording(cudaStreamSynchronize(stream_)));  // another stream plays it
    return std::shared_ptr<const Recording>(std::move(recording));
  }

 private:
  const cudaStream_t stream_;
  const bool overlaps_;
  bool capturing_ = false;
  int64_t n_ = 0;
};

class CudaStream final : public Stream {
 public:
  CudaStream(cudaStream_t stream, bool overlaps) : stream_(stream), overlaps_(overlaps) {}
  ~CudaStream() override {
    cudaStreamSynchronize(stream_);
    for (cudaEvent_t event : marks_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    cudaStreamDestroy(stream_);
  }

  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
    last_ = kernel;
    last_cluster_ = shape.cluster;
    return launch_on(stream_, kernel, shape, args, false);
  }
  Status copy_in(void* device, const void* host, uint64_t n_bytes) override {
    return check("a copy to the device", cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, stream_));
  }
  Status copy_out(void* host, const void* device, uint64_t n_bytes) override {
    return check("a copy from the device", cudaMemcpyAsync(host, device, n_bytes, cudaMemcpyDeviceToHost, stream_));
  }
  Status copy(void* to, const void* from, uint64_t n_bytes) override {
    return check("a copy on the device", cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, stream_));
  }
  Status zero(void* device, uint64_t n_bytes) override {
    return check("clearing device memory", cudaMemsetAsync(device, 0, n_bytes, stream_));
  }
  Status synchronize() override { return check("work on the device", cudaStreamSynchronize(stream_)); }

  Result<std::unique_ptr<LaunchRecorder>> record() override {
    cudaStream_t stream = nullptr;
    GLIMPSE_TRY(check("a stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    auto recorder = std::make_unique<CudaRecorder>(stream, overlaps_);
    GLIMPSE_TRY(recorder->begin());
    return std::unique_ptr<LaunchRecorder>(std::move(recorder));
  }
  Status play(const std::shared_ptr<const Recording>& recording) override {
    const auto& graph = static_cast<const CudaRecording&>(*recording);
    return check("a graph of launches", cudaGraphLaunch(graph.playable, stream_));
  }
  Status mark(int number) override {
    cudaEvent_t& event = marks_[static_cast<size_t>(number)];
    if (event == nullptr) {
      GLIMPSE_TRY(check("an event", cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
    }
    return check("an event", cudaEventRecord(event, stream_));
  }
  Status wait_for(int number) override {
    return check("work on the device", cudaEventSynchronize(marks_[static_cast<size_t>(number)]));
  }

 private:
  Status check(const char* what, cudaError_t code) const {
    if (code == cudaSuccess) return {};
    const char* last = last_ == Kernel::kCount ? "no kernel" : kernel_info(last_).name;
    return device_error(format("%s failed; the last launch was %s%s", what, last, in_clusters_of(last_cluster_)), code);
  }

  cudaStream_t stream_;
  const bool overlaps_;  // a launch may begin before the one ahead of it has ended
  std::array<cudaEvent_t, kMarks> marks_{};
  Kernel last_ = Kernel::kCount;
  int last_cluster_ = 1;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const cudaDeviceProp& properties, bool overlaps) : properties_(properties), overlaps_(overlaps) {}

  std::string describe() const override {
    return format("%s, sm_%d%d", properties_.name, properties_.major, properties_.minor);
  }
  int n_multiprocessors() const override { return properties_.multiProcessorCount; }
  int max_shared_bytes() const override { return static_cast<int>(properties_.sharedMemPerBlockOptin); }
  bool has_warpgroups() const override {
#if defined(GLIMPSE_CUDA_SM_90A)
    return properties_.major == 9 && properties_.minor == 0;
#else
    return false;
#endif
  }
  bool has_clusters() const override {
    return clusters_ && has_warpgroups() && properties_.clusterLaunch != 0;
  }
  uint64_t free_bytes() const override {
    size_t free = 0, total = 0;
    return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
  }
  Result<std::unique_ptr<Stream>> make_stream() override {
    cudaStream_t stream = nullptr;
    const cudaError_t code = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (code != cudaSuccess) return device_error("a stream on " + describe(), code);
    return std::unique_ptr<Stream>(std::make_unique<CudaStream>(stream, overlaps_));
  }
  Result<void*> allocate(uint64_t n_bytes, const char* purpose) override {
    void* memory = nullptr;
    cudaError_t code = cudaMalloc(&memory, n_bytes);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // an error that was dealt with
      return make_error(ErrorCode::kOutOfMemory, "%s: %.1f MiB of device memory, %.1f MiB of %.1f are free on %s",
                        purpose, mib(n_bytes), mib(free_bytes()), mib(properties_.totalGlobalMem), properties_.name);
    }
    // Done before anybody uses it. Not by waiting for the whole device: that ends with an error, here and there, while
    // another thread records launches.
    if (code == cudaSuccess) code = cudaMemsetAsync(memory, 0, n_bytes, cudaStreamPerThread);
    if (code == cudaSuccess) code = cudaStreamSynchronize(cudaStreamPerThread);
    if (code == cudaSuccess) return memory;
    if (memory != nullptr) cudaFree(memory);
    return device_error(format("%.1f MiB of device memory for %s", mib(n_bytes), purpose), code);
  }
  void free(void* memory) override {
    cudaFree(memory);
  }
  Result<void*> allocate_pinned(uint64_t n_bytes, const char* purpose) override {
    void* memory = nullptr;
    const cudaError_t code = cudaHostAlloc(&memory, n_bytes, cudaHostAllocDefault);
    if (code == cudaSuccess) return memory;
    cudaGetLastError();
    return make_error(code == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice,
                      "%s: %.1f MiB of pinned memory: %s", purpose, mib(n_bytes), cudaGetErrorString(code));
  }
  void free_pinned(void* memory) override {
    cudaFreeHost(memory);
  }

 private:
  const cudaDeviceProp properties_;
  const bool overlaps_;  // kernels of a step wait for earlier launches themselves
  // To compare with blocks alone, and for a device on which clusters do not work.
  const bool clusters_ = !says_no(std::getenv("GLIMPSE_CUDA_CLUSTERS"));
};

Error no_device(cudaError_t code) {
  int version = 0;
  cudaDriverGetVersion(&version);
  if (version == 0) return make_error(ErrorCode::kDevice, "no CUDA device: this machine has no NVIDIA driver");
  if (code == cudaErrorInsufficientDriver) {
    return make_error(ErrorCode::kDevice, "no CUDA device: the driver is for CUDA %d.%d, glimpse needs %d.0 or later",
                      version / 1000, version % 1000 / 10, CUDART_VERSION / 1000);
  }
  return make_error(ErrorCode::kDevice, "no CUDA device: the NVIDIA driver finds no GPU");
}

Error no_code(const cudaDeviceProp& properties) {
  return make_error(ErrorCode::kDevice, "this build of glimpse has no kernels for %s (sm_%d%d)", properties.name,
                    properties.major, properties.minor);
}

// What must be said before the first kernel is asked for, once in a process.
Status announce_translation(const cudaDeviceProp& properties, const LogSink& log) {
  if (has_code_for(GLIMPSE_CUDA_CODE, properties.major, properties.minor)) return {};
  if (!has_ptx_for(GLIMPSE_CUDA_CODE, properties.major, properties.minor)) return no_code(properties);
  static std::atomic<bool> said = false;
  if (!log || said.exchange(true)) return {};
  glimpse::log(
      log, LogLevel::kWarning,
      format("this build has no machine code for %s (sm_%d%d): its driver translates the kernels now, which can "
             "take a minute, and keeps them for the next time",
             properties.name, properties.major, properties.minor));
  return {};
}

// A kernel may use all the shared memory that a block can have here. The first call also tells whether this build has
// code for this device. Kernels wait for earlier launches themselves (dependency_wait()) where they were compiled for
// sm_90 or later: on a later device they may come from PTX for an older one, in which the wait is nothing.
Status prepare_kernel(Kernel kernel, const cudaDeviceProp& properties, bool& overlaps) {
  const void* const function = device_function(kernel);
  cudaFuncAttributes attributes;
  cudaError_t code = cudaFuncGetAttributes(&attributes, function);
  if (code == cudaSuccess) {
    overlaps = overlaps && attributes.ptxVersion >= 90;
    code = cudaFuncSetAttribute(
        function, cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(properties.sharedMemPerBlockOptin) - static_cast<int>(attributes.sharedSizeBytes));
  }
  // Launches of a step share multiprocessors, which they could not while each wanted another share of shared memory.
  if (code == cudaSuccess && kernel_info(kernel).order == LaunchOrder::kWaits) {
    code = cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout, 44);
  }
  if (code == cudaSuccess) return {};
  cudaGetLastError();  // others are to open the device as if nothing had been
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) return no_code(properties);
  if (code == cudaErrorUnsupportedPtxVersion || code == cudaErrorJitCompilerNotFound ||
      code == cudaErrorJitCompilationDisabled) {
    return device_error(
        format(
            "this build of glimpse has no machine code for %s (sm_%d%d), and its driver does not translate the kernels",
            properties.name, properties.major, properties.minor),
        code);
  }
  return device_error(format("kernel %s", kernel_info(kernel).name), code);
}

}  // namespace

Result<std::shared_ptr<Device>> open_cuda_device(const LogSink& log) {
  int count = 0;
  cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver || code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
    return no_device(code);
  }
  if (code != cudaSuccess) return device_error("no CUDA device", code);
  if ((code = cudaSetDevice(0)) != cudaSuccess) return device_error("the first CUDA device", code);
  cudaDeviceProp properties;
  if ((code = cudaGetDeviceProperties(&properties, 0)) != cudaSuccess) {
    return device_error("the properties of the first CUDA device", code);
  }
  GLIMPSE_TRY(announce_translation(properties, log));
  bool overlaps = properties.major >= 9;
  for (int i = 0; i < kKernels; ++i) GLIMPSE_TRY(prepare_kernel(static_cast<Kernel>(i), properties, overlaps));
  return std::shared_ptr<Device>(std::make_shared<CudaDevice>(properties, overlaps));
}

}  // namespace glimpse::cuda
