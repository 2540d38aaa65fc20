#include "engine/runtime/cuda/host_device.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
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

using Allocations = std::unordered_map<void*, uint64_t>;

// Device memory while a recording is played, as launches find it that begin early.
class EarlyMemory final : public host::Early {
 public:
  explicit EarlyMemory(const Allocations& allocations) {
    for (const auto& [memory, n_bytes] : allocations) {
      auto* const bytes = static_cast<uint8_t*>(memory);
      pieces_.push_back({bytes, {bytes, bytes + n_bytes}});
    }
  }
  // A launch has ended: what is other than at the start.
  void look() {
    changed_.clear();
    for (const Piece& piece : pieces_) {
      for (size_t at = 0; at < piece.before.size(); at += kStep)
        look(piece, at, std::min(kStep, piece.before.size() - at));
    }
  }
  void begin() override {
    if (std::exchange(hidden_, true)) return;
    for (Range& range : changed_) {
      std::copy_n(range.data, range.now.size(), range.now.begin());
      std::memset(range.data, 0xff, range.now.size());
    }
  }
  void waited() override {
    if (!std::exchange(hidden_, false)) return;
    for (const Range& range : changed_) std::copy(range.now.begin(), range.now.end(), range.data);
  }

 private:
  static constexpr size_t kStep = 4096, kWord = sizeof(uint32_t);
  struct Piece {
    uint8_t* data;
    std::vector<uint8_t> before;
  };
  struct Range {
    uint8_t* data;
    std::vector<uint8_t> now;
  };
  void look(const Piece& piece, size_t at, size_t n) {
    if (std::memcmp(piece.data + at, piece.before.data() + at, n) == 0) return;
    for (const size_t end = at + n; at < end; at += kWord) {
      const size_t word = std::min(kWord, end - at);
      uint8_t* const data = piece.data + at;
      if (std::memcmp(data, piece.before.data() + at, word) == 0) continue;
      if (changed_.empty() || changed_.back().data + changed_.back().now.size() != data) changed_.push_back({data, {}});
      changed_.back().now.resize(changed_.back().now.size() + word);
    }
  }
  std::vector<Piece> pieces_;
  std::vector<Range> changed_;
  bool hidden_ = false;
};

class HostStream final : public Stream {
 public:
  HostStream(const HostDeviceOptions& options, std::shared_ptr<const Allocations> allocations)
      : executor_(options.order, options.seed),
        max_shared_bytes_(options.max_shared_bytes),
        allocations_(options.early ? std::move(allocations) : nullptr) {}

  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
    return run(kernel, shape, args, false, nullptr);
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
    std::optional<EarlyMemory> early;
    if (allocations_ != nullptr) early.emplace(*allocations_);
    for (const auto& [kernel, shape, args] : static_cast<const HostRecording&>(*recording).launches) {
      const bool waits = kernel_info(kernel).order == LaunchOrder::kWaits;
      const Status status = run(kernel, shape, args.data(), waits, waits && early ? &*early : nullptr);
      if (early) early->waited();  // of threads that did not
      GLIMPSE_TRY(Status(status));
      if (early) early->look();
    }
    return {};
  }
  Status mark(int) override { return {}; }
  Status wait_for(int) override { return {}; }

 private:
  Status run(Kernel kernel, const LaunchShape& shape, const void* args, bool must_wait, host::Early* early) {
    const KernelInfo& info = kernel_info(kernel);
    if (shape.shared_bytes > max_shared_bytes_) {
      return make_error(ErrorCode::kDevice, "%s: %d bytes of shared memory, the device has %d", info.name,
                        shape.shared_bytes, max_shared_bytes_);
    }
    host::Shape host_shape{
        {static_cast<int>(shape.grid[0]), static_cast<int>(shape.grid[1]), static_cast<int>(shape.grid[2])},
        info.n_threads,
        shape.shared_bytes,
        must_wait,
        early};
    host_shape.cluster = shape.cluster;
    return executor_.launch(info.name, host_function(kernel), args, host_shape);
  }

  host::Executor executor_;
  const int max_shared_bytes_;
  const std::shared_ptr<const Allocations> allocations_;  // when recordings are played as the option `early` says
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options) : options_(options), free_(options.memory_bytes) {}

  std::string describe() const override { return "host executor"; }
  int n_multiprocessors() const override { return options_.n_multiprocessors; }
  int max_shared_bytes() const override { return options_.max_shared_bytes; }
  bool has_warpgroups() const override { return options_.warpgroups; }
  bool has_clusters() const override { return options_.warpgroups && options_.clusters; }
  uint64_t free_bytes() const override { return free_; }
  Result<std::unique_ptr<Stream>> make_stream() override {
    return std::unique_ptr<Stream>(std::make_unique<HostStream>(options_, sizes_));
  }
  Result<void*> allocate(uint64_t n_bytes, const char* purpose) override {
    void* memory = n_bytes <= free_ ? ::operator new(n_bytes, kAlignment, std::nothrow) : nullptr;
    if (memory == nullptr) {
      return make_error(ErrorCode::kOutOfMemory, "%s: %d bytes of device memory, %d are free", purpose, n_bytes, free_);
    }
    std::memset(memory, 0, n_bytes);
    (*sizes_)[memory] = n_bytes;
    free_ -= n_bytes;
    return memory;
  }
  void free(void* memory) override {
    const uint64_t n_bytes = sizes_->at(memory);
    std::memset(memory, 0xff, n_bytes);  // who still reads it reads NaN
    free_ += n_bytes;
    sizes_->erase(memory);
    ::operator delete(memory, kAlignment);
  }
  Result<void*> allocate_pinned(uint64_t n_bytes, const char*) override { return ::operator new(n_bytes, kAlignment); }
  void free_pinned(void* memory) override { ::operator delete(memory, kAlignment); }

 private:
  const HostDeviceOptions options_;
  uint64_t free_;
  const std::shared_ptr<Allocations> sizes_ = std::make_shared<Allocations>();
};

}  // namespace

std::shared_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_shared<HostDevice>(options);
}

}  // namespace glimpse::cuda
