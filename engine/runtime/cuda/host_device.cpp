#include "engine/runtime/cuda/host_device.h"

#include <cstring>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

namespace glimpse::cuda {
namespace {

constexpr std::align_val_t kAlignment{256};

struct HostRecording final : Recording {
  struct Launch {
    Kernel kernel;
    LaunchShape shape;
    std::vector<std::byte> args;
  };
  std::vector<Launch> launches;
  int64_t n_launches() const override { return static_cast<int64_t>(launches.size()); }
};

class HostRecorder final : public LaunchRecorder {
 public:
  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
    const auto* const bytes = static_cast<const std::byte*>(args);
    recording_->launches.push_back({kernel, shape, {bytes, bytes + kernel_info(kernel).args_bytes}});
    return {};
  }
  Result<std::shared_ptr<const Recording>> finish() override {
    return std::shared_ptr<const Recording>(std::move(recording_));
  }

 private:
  std::shared_ptr<HostRecording> recording_ = std::make_shared<HostRecording>();
};

class HostStream final : public Stream {
 public:
  explicit HostStream(const HostDeviceOptions& options)
      : executor_(options.order, options.seed), max_shared_bytes_(options.max_shared_bytes) {}

  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
    return run(kernel, shape, args, false);
  }
  Status copy_in(void* device, const void* host, uint64_t n_bytes) override {
    std::memcpy(device, host, n_bytes);
    return {};
  }
  Status copy_out(void* host, const void* device, uint64_t n_bytes) override {
    std::memcpy(host, device, n_bytes);
    return {};
  }
  Status copy(void* to, const void* from, uint64_t n_bytes) override {
    std::memcpy(to, from, n_bytes);
    return {};
  }
  Status zero(void* device, uint64_t n_bytes) override {
    std::memset(device, 0, n_bytes);
    return {};
  }
  Status synchronize() override { return {}; }

  Result<std::unique_ptr<LaunchRecorder>> record() override {
    return std::unique_ptr<LaunchRecorder>(std::make_unique<HostRecorder>());
  }
  Status play(const std::shared_ptr<const Recording>& recording) override {
    for (const auto& [kernel, shape, args] : static_cast<const HostRecording&>(*recording).launches) {
      GLIMPSE_TRY(run(kernel, shape, args.data(), kernel_info(kernel).order == LaunchOrder::kWaits));
    }
    return {};
  }
  Status mark(int) override { return {}; }
  Status wait_for(int) override { return {}; }

 private:
  Status run(Kernel kernel, const LaunchShape& shape, const void* args, bool must_wait) {
    const KernelInfo& info = kernel_info(kernel);
    if (shape.shared_bytes > max_shared_bytes_) {
      return make_error(ErrorCode::kDevice, "%s: %d bytes of shared memory, the device has %d", info.name,
                        shape.shared_bytes, max_shared_bytes_);
    }
    host::Shape host_shape{
        {static_cast<int>(shape.grid[0]), static_cast<int>(shape.grid[1]), static_cast<int>(shape.grid[2])},
        info.n_threads,
        shape.shared_bytes,
        must_wait};
    return executor_.launch(info.name, host_function(kernel), args, host_shape);
  }

  host::Executor executor_;
  const int max_shared_bytes_;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options) : options_(options), free_(options.memory_bytes) {}

  std::string describe() const override { return "host executor"; }
  int n_multiprocessors() const override { return options_.n_multiprocessors; }
  int max_shared_bytes() const override { return options_.max_shared_bytes; }
  bool has_warpgroups() const override { return options_.warpgroups; }
  uint64_t free_bytes() const override { return free_; }
  Result<std::unique_ptr<Stream>> make_stream() override {
    return std::unique_ptr<Stream>(std::make_unique<HostStream>(options_));
  }
  Result<void*> allocate(uint64_t n_bytes, const char* purpose) override {
    void* memory = n_bytes <= free_ ? ::operator new(n_bytes, kAlignment, std::nothrow) : nullptr;
    if (memory == nullptr) {
      return make_error(ErrorCode::kOutOfMemory, "%s: %d bytes of device memory, %d are free", purpose, n_bytes, free_);
    }
    std::memset(memory, 0, n_bytes);
    sizes_[memory] = n_bytes;
    free_ -= n_bytes;
    return memory;
  }
  void free(void* memory) override {
    std::memset(memory, 0xff, sizes_[memory]);  // who still reads it reads NaN
    free_ += sizes_[memory];
    sizes_.erase(memory);
    ::operator delete(memory, kAlignment);
  }
  Result<void*> allocate_pinned(uint64_t n_bytes, const char*) override { return ::operator new(n_bytes, kAlignment); }
  void free_pinned(void* memory) override { ::operator delete(memory, kAlignment); }

 private:
  const HostDeviceOptions options_;
  uint64_t free_;
  std::unordered_map<void*, uint64_t> sizes_;
};

}  // namespace

std::shared_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_shared<HostDevice>(options);
}

}  // namespace glimpse::cuda
