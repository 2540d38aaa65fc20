// What CudaOps needs of a device: memory, a stream, launches. Two implementations: the CUDA runtime (cuda_device.cpp)
// and the host executor (host_device.cpp), so that all of CudaOps runs in tests on machines without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "kernels/cuda/kernels.h"

namespace glimpse::cuda {

struct LaunchShape {
  int64_t grid[3] = {1, 1, 1};
  int shared_bytes = 0;
  int cluster = 1;  // blocks side by side in x that run at the same time; grid[0] is a multiple of it
};

/// Takes launches in order.
class Launcher {
 public:
  virtual ~Launcher() = default;
  /// args: kernel_info(kernel).args_bytes bytes, copied. Errors: kDevice names the kernel and its launch.
  virtual Status launch(Kernel kernel, const LaunchShape& shape, const void* args) = 0;
};

/// Launches in the order in which they were recorded.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual int64_t n_launches() const = 0;
};

/// Keeps launches instead of running them.
class LaunchRecorder : public Launcher {
 public:
  /// What was launched; a launch whose kernel waits for its dependencies may begin before the one ahead of it has
  /// ended. The last call.
  virtual Result<std::shared_ptr<const Recording>> finish() = 0;
};

/// Work in order. Calls return before the work is done; an error may belong to an earlier call.
class Stream : public Launcher {
 public:
  /// The host memory must stay as it is until synchronize(), except for memory that is not pinned.
  virtual Status copy_in(void* device, const void* host, uint64_t n_bytes) = 0;
  virtual Status copy_out(void* host, const void* device, uint64_t n_bytes) = 0;
  /// Within the device.
  virtual Status copy(void* to, const void* from, uint64_t n_bytes) = 0;
  virtual Status zero(void* device, uint64_t n_bytes) = 0;
  /// Waits for everything so far.
  virtual Status synchronize() = 0;

  /// For launches that this stream will play. It goes on meanwhile.
  virtual Result<std::unique_ptr<LaunchRecorder>> record() = 0;
  /// Runs the launches of a recording of this stream; it stays until they are done.
  virtual Status play(const std::shared_ptr<const Recording>& recording) = 0;
  /// Marks this point of the stream by a number below kMarks; a mark of the same number before is forgotten.
  static constexpr int kMarks = 16;
  virtual Status mark(int number) = 0;
  /// Waits for everything up to a mark.
  virtual Status wait_for(int number) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  /// "NVIDIA H100 80GB HBM3, sm_90"
  virtual std::string describe() const = 0;
  virtual int n_multiprocessors() const = 0;
  virtual int max_shared_bytes() const = 0;  // that a block may have
  /// Whether it runs this build's kernels for warpgroups (sm_90a).
  virtual bool has_warpgroups() const = 0;
  /// Whether blocks of these may share their copies as clusters.
  virtual bool has_clusters() const = 0;
  virtual uint64_t free_bytes() const = 0;
  virtual Result<std::unique_ptr<Stream>> make_stream() = 0;
  /// Zeroed, aligned to 256 bytes. Errors: kOutOfMemory with the sizes and what it was for.
  virtual Result<void*> allocate(uint64_t n_bytes, const char* purpose) = 0;
  virtual void free(void* memory) = 0;
  /// Host memory that copies, and kernels, read and write directly.
  virtual Result<void*> allocate_pinned(uint64_t n_bytes, const char* purpose) = 0;
  virtual void free_pinned(void* memory) = 0;
};

/// Owns memory of a device, or pinned memory of the host.
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(pinned_, other.pinned_);
    return *this;
  }
  ~Memory();
  static Result<Memory> on_device(std::shared_ptr<Device> device, uint64_t n_bytes, const char* purpose);
  static Result<Memory> pinned(std::shared_ptr<Device> device, uint64_t n_bytes, const char* purpose);

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t size() const { return n_bytes_; }

 private:
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  uint64_t n_bytes_ = 0;
  bool pinned_ = false;
};

/// Whether a build for these architectures, as in CMAKE_CUDA_ARCHITECTURES ("90a-real;80-virtual", commas will do), has
/// machine code that a device of compute capability major.minor runs: that of earlier devices of the same generation
/// is.
bool has_code_for(std::string_view architectures, int major, int minor);
/// Whether it has PTX that the device's driver can translate, which is of any earlier one.
bool has_ptx_for(std::string_view architectures, int major, int minor);

/// The first GPU of this machine. log: hears of it when the driver is about to translate all kernels, once in a
/// process. Errors: kDevice: what is missing (driver, device, a device of this build's kernels).
Result<std::shared_ptr<Device>> open_cuda_device(const LogSink& log = {});

}  // namespace glimpse::cuda
