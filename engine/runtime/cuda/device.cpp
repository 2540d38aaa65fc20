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

namespace {

// An entry of CMAKE_CUDA_ARCHITECTURES: "90a-real", "80-virtual", "80".
struct Architecture {
  int number;
  bool only_this;  // it uses what this one alone has
  bool code, ptx;
};

template <typename Fits>
bool any_fits(std::string_view architectures, const Fits& fits) {
  while (!architectures.empty()) {
    const size_t end = architectures.find_first_of(";,");
    const std::string_view entry = architectures.substr(0, end);
    architectures = end == std::string_view::npos ? std::string_view() : architectures.substr(end + 1);
    int number = 0;
    const auto [rest, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    const std::string_view kind(rest, static_cast<size_t>(entry.data() + entry.size() - rest));
    if (error != std::errc()) continue;
    if (fits(Architecture{number, kind.starts_with("a"), !kind.ends_with("-virtual"), !kind.ends_with("-real")})) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool has_code_for(std::string_view architectures, int major, int minor) {
  return any_fits(architectures, [=](const Architecture& a) {
    if (a.number == 10 * major + minor) return a.code;
    return a.code && !a.only_this && a.number / 10 == major && a.number % 10 <= minor;
  });
}

bool has_ptx_for(std::string_view architectures, int major, int minor) {
  return any_fits(architectures, [=](const Architecture& a) {
    return a.ptx && (a.only_this ? a.number == 10 * major + minor : a.number <= 10 * major + minor);
  });
}

}  // namespace glimpse::cuda
