#include "engine/runtime/cuda/device.h"

#include <charconv>

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

bool has_code_for(std::string_view architectures, int major, int minor) {
  while (!architectures.empty()) {
    const size_t end = architectures.find_first_of(";,");
    const std::string_view entry = architectures.substr(0, end);
    architectures = end == std::string_view::npos ? std::string_view() : architectures.substr(end + 1);
    int number = 0;
    const auto [rest, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    const std::string_view kind(rest, static_cast<size_t>(entry.data() + entry.size() - rest));
    if (error != std::errc() || kind.find("virtual") != std::string_view::npos) continue;
    // Code runs on later devices of the same generation too, unless it uses what this one alone has.
    const bool only_this = kind.starts_with("a"), same = number == 10 * major + minor;
    if (same || (!only_this && number / 10 == major && number % 10 <= minor)) return true;
  }
  return false;
}

}  // namespace glimpse::cuda
