// Takes bytes as the packed weights of a matrix, as a side file with a right checksum would bring them: every type that
// can be kept, multiplied and unpacked. Whatever the panels hold, nothing is read or written outside of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/runtime/ops.h"

namespace {

using namespace glimpse;

constexpr int64_t kRows = 40, kCols = 512;  // a last panel that is not full

void multiply(Ops& ops, DType type, WeightPrecision precision, const uint8_t* data, size_t size) {
  const auto format = ops.packed_format(type, precision);
  if (!format) return;
  const uint64_t n_bytes = ops.packed_bytes(type, kRows, kCols, precision);
  auto buffer = AlignedBuffer::allocate(n_bytes, "fuzz");
  if (!buffer.ok()) return;
  for (uint64_t at = 0; at < n_bytes; at += size) {  // over and over, until it is full
    std::memcpy(buffer->data() + at, data, static_cast<size_t>(std::min<uint64_t>(size, n_bytes - at)));
  }
  WeightSource source;
  source.name = "fuzz";
  source.type = type;
  source.rows = kRows;
  source.cols = kCols;
  const auto owner = std::make_shared<AlignedBuffer>(std::move(buffer).value());
  const auto weight = ops.adopt(source, precision, {owner->data(), static_cast<size_t>(n_bytes)}, owner);
  if (!weight.ok()) __builtin_trap();
  std::vector<float> row(kCols);
  for (int64_t r = 0; r < kRows; ++r) ops.unpack_row(*weight.value(), r, row.data());
  if (!ops.reserve(3, kCols).ok()) return;
  for (const int64_t n : {1, 3}) {
    std::vector<float> in(static_cast<size_t>(n * kCols), 0.5f), out(static_cast<size_t>(n * kRows));
    const Linear linear{weight.value(), nullptr};
    const Status status = ops.run([&] { ops.linear_add({in.data(), n, kCols}, linear, {out.data(), n, kRows}); });
    if (!status.ok() && status.error().message.empty()) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Ops> ops = [] {
    auto made = make_cpu_ops(CpuOpsOptions{.n_threads = 1});
    if (!made.ok()) __builtin_trap();
    return std::move(made).value();
  }();
  if (size == 0) return 0;
  for (uint32_t id = 0; id < 64; ++id) {
    const DTypeInfo* info = find_dtype(id);
    if (info == nullptr || !info->is_weight) continue;
    for (const WeightPrecision precision :
         {WeightPrecision::kAsStored, WeightPrecision::kBf16, WeightPrecision::kInt8}) {
      multiply(*ops, info->type, precision, data, size);
    }
  }
  return 0;
}
