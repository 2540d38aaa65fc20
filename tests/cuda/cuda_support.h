// CudaOps on the host executor beside RefOps, random data, and how far apart two results are.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/runtime/cuda/cuda_ops.h"
#include "engine/runtime/cuda/host_device.h"
#include "kernels/quant/quant.h"
#include "kernels/quant/random_blocks.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/weight_source.h"

namespace glimpse::cuda {

using glimpse::testing::must;
using glimpse::testing::nmse;

/// The host executor, or, where GLIMPSE_TEST_GPU is set, the GPU: the same tests check the kernels there.
inline bool on_gpu() {
  return std::getenv("GLIMPSE_TEST_GPU") != nullptr;
}
inline std::shared_ptr<Device> test_device(const HostDeviceOptions& options) {
#if defined(GLIMPSE_HAS_CUDA)
  static const std::shared_ptr<Device> gpu = on_gpu() ? must(open_cuda_device()) : nullptr;
  if (gpu != nullptr) return gpu;
#endif
  return make_host_device(options);
}
inline std::unique_ptr<CudaOps> host_ops(HostDeviceOptions options = {}) {
  return must(CudaOps::create(test_device(options), 1));
}

/// Another device behind it, for what differs from it.
class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  std::string describe() const override { return device_->describe(); }
  int n_multiprocessors() const override { return device_->n_multiprocessors(); }
  int max_shared_bytes() const override { return device_->max_shared_bytes(); }
  bool has_warpgroups() const override { return device_->has_warpgroups(); }
  bool has_clusters() const override { return device_->has_clusters(); }
  uint64_t free_bytes() const override { return device_->free_bytes(); }
  Result<std::unique_ptr<Stream>> make_stream() override { return device_->make_stream(); }
  Result<void*> allocate(uint64_t n_bytes, const char* purpose) override { return device_->allocate(n_bytes, purpose); }
  void free(void* memory) override { device_->free(memory); }
  Result<void*> allocate_pinned(uint64_t n_bytes, const char* purpose) override {
    return device_->allocate_pinned(n_bytes, purpose);
  }
  void free_pinned(void* memory) override { device_->free_pinned(memory); }

 private:
  const std::shared_ptr<Device> device_;
};

/// A device that says of itself that it is another: without warpgroups, whose products of many rows are those of other
/// architectures, with fewer multiprocessors, for which work is cut otherwise, or without clusters.
class OtherDevice final : public ForwardingDevice {
 public:
  OtherDevice(std::shared_ptr<Device> device, bool warpgroups, int n_multiprocessors, bool clusters = true)
      : ForwardingDevice(device),
        warpgroups_(warpgroups),
        clusters_(clusters && warpgroups && device->has_clusters()),
        n_multiprocessors_(n_multiprocessors) {}
  int n_multiprocessors() const override { return n_multiprocessors_; }
  bool has_warpgroups() const override { return warpgroups_; }
  bool has_clusters() const override { return clusters_; }

 private:
  const bool warpgroups_, clusters_;
  const int n_multiprocessors_;
};

/// A device that notes what it is asked for: allocations by their purposes, launches. It outlives its streams.
class NotingDevice final : public ForwardingDevice {
 public:
  struct Launch {
    Kernel kernel;
    LaunchShape shape;
  };
  using ForwardingDevice::ForwardingDevice;
  Result<void*> allocate(uint64_t n_bytes, const char* purpose) override {
    auto memory = ForwardingDevice::allocate(n_bytes, purpose);
    if (memory.ok()) ++allocations[purpose];
    return memory;
  }
  Result<std::unique_ptr<Stream>> make_stream() override {
    GLIMPSE_ASSIGN(std::unique_ptr<Stream> stream, ForwardingDevice::make_stream());
    return std::unique_ptr<Stream>(std::make_unique<NotingStream>(std::move(stream), *this));
  }
  std::map<std::string, int> allocations;
  std::vector<Launch> launches, recorded;  // of streams; of their recordings, when they were made

 private:
  class NotingRecorder final : public LaunchRecorder {
   public:
    NotingRecorder(std::unique_ptr<LaunchRecorder> recorder, std::vector<Launch>& launches)
        : recorder_(std::move(recorder)), launches_(launches) {}
    Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
      launches_.push_back({kernel, shape});
      return recorder_->launch(kernel, shape, args);
    }
    Result<std::shared_ptr<const Recording>> finish() override { return recorder_->finish(); }

   private:
    const std::unique_ptr<LaunchRecorder> recorder_;
    std::vector<Launch>& launches_;
  };
  class NotingStream final : public Stream {
   public:
    NotingStream(std::unique_ptr<Stream> stream, NotingDevice& device) : stream_(std::move(stream)), device_(device) {}
    Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override {
      device_.launches.push_back({kernel, shape});
      return stream_->launch(kernel, shape, args);
    }
    Status copy_in(void* to, const void* from, uint64_t n) override { return stream_->copy_in(to, from, n); }
    Status copy_out(void* to, const void* from, uint64_t n) override { return stream_->copy_out(to, from, n); }
    Status copy(void* to, const void* from, uint64_t n) override { return stream_->copy(to, from, n); }
    Status zero(void* to, uint64_t n) override { return stream_->zero(to, n); }
    Status synchronize() override { return stream_->synchronize(); }
    Result<std::unique_ptr<LaunchRecorder>> record() override {
      GLIMPSE_ASSIGN(std::unique_ptr<LaunchRecorder> recorder, stream_->record());
      return std::unique_ptr<LaunchRecorder>(std::make_unique<NotingRecorder>(std::move(recorder), device_.recorded));
    }
    Status play(const std::shared_ptr<const Recording>& recording) override { return stream_->play(recording); }
    Status mark(int number) override { return stream_->mark(number); }
    Status wait_for(int number) override { return stream_->wait_for(number); }

   private:
    const std::unique_ptr<Stream> stream_;
    NotingDevice& device_;
  };
};

/// Operations whose products of many rows are those of warpgroups; of a GPU, what it has.
inline std::unique_ptr<CudaOps> warpgroup_ops(HostDeviceOptions options = {}) {
  options.warpgroups = true;
  return host_ops(options);
}
/// The same on a device of another architecture.
inline std::unique_ptr<CudaOps> portable_ops(HostDeviceOptions options = {}) {
  const std::shared_ptr<Device> device = test_device(options);
  return must(CudaOps::create(std::make_shared<OtherDevice>(device, false, device->n_multiprocessors()), 1));
}
/// Warpgroups on a device of one multiprocessor, for which blocks are as wide as they can be.
inline std::unique_ptr<CudaOps> wide_warpgroup_ops(HostDeviceOptions options = {}) {
  options.warpgroups = true;
  return must(CudaOps::create(std::make_shared<OtherDevice>(test_device(options), true, 1), 1));
}

/// A matrix with its planes copied to host memory.
struct HostCopy {
  std::vector<uint8_t> bytes;
  WeightView view;
  explicit HostCopy(const CudaWeight& weight) : bytes(weight.n_bytes), view(weight.view) {
    const auto stream = must(test_device({})->make_stream());
    EXPECT_OK(stream->copy_out(bytes.data(), weight.view.data, bytes.size()));
    EXPECT_OK(stream->synchronize());
    view.data = bytes.data();
  }
};

inline std::vector<DType> weight_types() {
  std::vector<DType> types;
  for (uint32_t id = 0; id < 64; ++id) {
    const DTypeInfo* info = find_dtype(id);
    if (info != nullptr && info->is_weight) types.push_back(info->type);
  }
  return types;
}

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  std::vector<float> gaussian(int64_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out) v = normal(engine_);
    return out;
  }
  std::vector<std::byte> bytes(uint64_t n) {
    std::vector<std::byte> out(n);
    for (std::byte& b : out) b = static_cast<std::byte>(engine_());
    return out;
  }
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint32_t>(n)); }

 private:
  std::mt19937 engine_;
};

/// A matrix of `type` quantised from `values`; of a type that nobody writes, other values of mean square 1.
inline std::vector<std::byte> quantized(DType type, const std::vector<float>& values, int64_t rows, int64_t cols) {
  const uint64_t row_bytes = dtype_row_bytes(type, static_cast<uint64_t>(cols));
  std::vector<std::byte> out(static_cast<uint64_t>(rows) * row_bytes);
  if (!can_quantize(type)) {
    random_blocks(type, std::bit_cast<uint32_t>(values[0]), rows * cols, out.data());
    return out;
  }
  for (int64_t r = 0; r < rows; ++r) {
    quantize_row_ref(type, values.data() + r * cols, out.data() + static_cast<uint64_t>(r) * row_bytes, cols, nullptr);
  }
  return out;
}

inline std::shared_ptr<const BackendBuffer> buffer(Ops& ops, const std::vector<float>& values) {
  std::unique_ptr<BackendBuffer> out = must(ops.allocate(static_cast<int64_t>(values.size()), "test"));
  ops.upload(values.data(), static_cast<int64_t>(values.size()), out->data);
  return std::shared_ptr<const BackendBuffer>(std::move(out));
}

/// NMSE over several results together: single numbers close to zero have no relative error worth the name.
class ErrorSum {
 public:
  void add(const std::vector<float>& got, const std::vector<float>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = static_cast<double>(got[i]) - want[i];
      error_ += difference * difference;
      norm_ += static_cast<double>(want[i]) * want[i];
    }
  }
  double value() const { return norm_ > 0 ? error_ / norm_ : INFINITY; }

 private:
  double error_ = 0, norm_ = 0;
};

struct HeadShape {
  int64_t n_heads, n_kv_heads, head_dim;
};
/// projection(rows) makes each of the three.
template <class Projection>
QkvWeights qkv_weights(const HeadShape& shape, Projection projection) {
  QkvWeights w;
  w.q = projection(shape.n_heads * shape.head_dim);
  w.k = projection(shape.n_kv_heads * shape.head_dim);
  w.v = projection(shape.n_kv_heads * shape.head_dim);
  w.n_heads = shape.n_heads;
  w.n_kv_heads = shape.n_kv_heads;
  w.head_dim = shape.head_dim;
  return w;
}

/// Weights of a norm: about 1, so that what was gaussian stays so.
inline std::vector<float> norm_weights(Random& random, int64_t n) {
  std::vector<float> out = random.gaussian(n, 0.1f);
  for (float& v : out) v += 1;
  return out;
}

/// Columns of a block of `type`, or 1.
inline int64_t block_columns(DType type) {
  return dtype_info(type).block_length;
}

}  // namespace glimpse::cuda
