#include "engine/runtime/cuda/device.h"

namespace glimpse::cuda {

Memory::~Memory() {
  if (data_ == nullptr) return;
  if (pinned_) {
    device_->free_pinned(data_);
  } else {
    device_->free(data_);
  }
}

Result<Memory> Memory::on_device(std::shared_ptr<Device> device, uint64_t n_bytes, const char* purpose) {
  Memory memory;
  GLIMPSE_ASSIGN(memory.data_, device->allocate(n_bytes, purpose));
  memory.device_ = std::move(device);
  memory.n_bytes_ = n_bytes;
  return memory;
}

Result<Memory> Memory::pinned(std::shared_ptr<Device> device, uint64_t n_bytes, const char* purpose) {
  Memory memory;
  GLIMPSE_ASSIGN(memory.data_, device->allocate_pinned(n_bytes, purpose));
  memory.device_ = std::move(device);
  memory.n_bytes_ = n_bytes;
  memory.pinned_ = true;
  return memory;
}

}  // namespace glimpse::cuda
