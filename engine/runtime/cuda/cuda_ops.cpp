// CudaOps: memory, packing and the pass itself. Products are in cuda_ops_linear.cpp, attention in
// cuda_ops_attention.cpp.
#include "engine/runtime/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "engine/base/checked.h"
#include "engine/base/cpu_features.h"
#include "engine/base/first_failure.h"
#include "engine/base/half.h"
#include "engine/runtime/begin_weight.h"
#include "kernels/cuda/device_blocks.h"
#include "kernels/quant/quant.h"

namespace glimpse::cuda {
namespace {

constexpr uint64_t kStagingBytes = 8u << 20;  // uploads and downloads of a pass
constexpr uint64_t kRingBytes = 16u << 20;    // rows of a matrix on their way to the device

DType stored_type(DType type, WeightPrecision precision) {
  if (precision == WeightPrecision::kF32) return DType::kF32;
  if (precision == WeightPrecision::kBf16 && is_float_type(type)) return DType::kBF16;
  return type;
}

Error numeric_error(const WeightSource& source, int64_t row, int64_t block) {
  return make_error(ErrorCode::kNumeric, "%s: row %d holds a NaN or an infinity (block %d)", source.name, row, block);
}

// Turns a row of the source into one of `stored` as packing kernels take it. floats: (cols), scratch. Returns the first
// block that is not finite any more, for the largest floats round up; -1: all are.
int64_t convert_row(DType type, DType stored, const std::byte* row, std::vector<float>& floats, std::byte* out) {
  const auto cols = static_cast<int64_t>(floats.size());
  if (type == stored) {
    to_device_blocks(type, row, cols, out);
    return -1;
  }
  dequantize_row_ref(type, row, floats.data(), cols);
  quantize_row_ref(stored, floats.data(), out, cols, nullptr);
  return find_non_finite_block(stored, out, cols);
}

}  // namespace

CudaOps::CudaOps(std::shared_ptr<Device> device, std::shared_ptr<Stream> stream, int n_threads, CudaDecode decode,
                 const LogSink& log)
    : CudaContext(std::move(device), std::move(stream)),
      CudaPass(static_cast<CudaContext&>(*this), *stream_),
      decode_(decode),
      team_(n_threads, log) {}

Result<std::unique_ptr<CudaOps>> CudaOps::create(std::shared_ptr<Device> device, int n_threads, CudaDecode decode,
                                                 const LogSink& log) {
  if (n_threads < 0 || n_threads > 1024) {
    return make_error(ErrorCode::kInvalidArgument, "n_threads is %d, want 0 to 1024", n_threads);
  }
  GLIMPSE_ASSIGN(std::shared_ptr<Stream> stream, device->make_stream());
  std::unique_ptr<CudaOps> ops(
      new CudaOps(std::move(device), std::move(stream), n_threads == 0 ? available_cpus() : n_threads, decode, log));
  GLIMPSE_ASSIGN(ops->staging_, Memory::pinned(ops->device_, kStagingBytes, "transfers"));
  GLIMPSE_ASSIGN(ops->flag_, Memory::on_device(ops->device_, 256, "a flag"));
  return ops;
}

std::string CudaOps::describe() const {
  return "cuda " + device_->describe();
}

void CudaContext::fail(Status status) {
  if (status_.ok() && !status.ok()) status_ = std::move(status);
}

void CudaPass::launch(Kernel kernel, const LaunchShape& shape, const void* args) {
  if (!context_.status_.ok()) return;
  context_.fail(launcher_.launch(kernel, shape, args));
}

Status CudaContext::grow(Memory& memory, uint64_t n_bytes, const char* purpose) {
  if (memory.size() >= n_bytes) return {};
  GLIMPSE_TRY(stream_->synchronize());  // somebody may still use the old one
  if (recorded_) {
    retired_.push_back(std::move(memory));
  } else {
    memory = Memory();
  }
  GLIMPSE_ASSIGN(memory, Memory::on_device(device_, n_bytes, purpose));
  return {};
}

// ---- Weights -----------------------------------------------------------------------------------------------------

uint64_t CudaOps::packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const {
  WeightView view;
  return lay_out(device_format(stored_type(type, precision)), rows, cols, view);
}

// What a thread reads at once.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

// Reads, checks and converts rows [first, first + count); all threads take a share.
Status CudaOps::pack_slot(const WeightSource& source, DType stored, int64_t first, int64_t count, std::byte* to) {
  const auto cols = static_cast<uint64_t>(source.cols);
  const uint64_t source_row = dtype_row_bytes(source.type, cols), stored_row = device_row_bytes(stored, source.cols);
  const bool as_is = stored == source.type && !has_device_blocks(stored);
  const auto work = [&](int64_t begin, int64_t end) -> Status {
    std::vector<std::byte> raw;
    std::vector<float> floats;
    std::span<std::byte> rows(to + static_cast<uint64_t>(begin) * stored_row,
                              static_cast<uint64_t>(end - begin) * stored_row);
    if (!as_is) {
      raw.resize(static_cast<uint64_t>(end - begin) * source_row);
      floats.resize(cols);
    }
    const std::span<std::byte> in = as_is ? rows : std::span(raw);
    GLIMPSE_TRY(source.read_rows(first + begin, end - begin, in));
    for (int64_t i = 0; i < end - begin; ++i) {
      const std::byte* row = in.data() + static_cast<uint64_t>(i) * source_row;
      const int64_t bad = find_non_finite_block(source.type, row, source.cols);
      if (bad >= 0) return numeric_error(source, first + begin + i, bad);
      if (as_is) continue;
      std::byte* out = rows.data() + static_cast<uint64_t>(i) * stored_row;
      const int64_t rounded = convert_row(source.type, stored, row, floats, out);
      if (rounded >= 0) return numeric_error(source, first + begin + i, rounded);
    }
    return {};
  };
  FirstFailure failure;
  const int64_t most = std::max<int64_t>(1, kPieceBytes / static_cast<int64_t>(source_row));
  team_.for_ranges(count, Grain{.most = most},
                   [&](int, int64_t begin, int64_t end) { failure.run(begin, [&] { return work(begin, end); }); });
  return failure.status(source.name);
}

Status CudaOps::place_weight(const WeightSource& source, CudaWeight& weight) {
  const uint64_t n_bytes = weight.n_bytes;
  std::erase_if(shared_, [](const Shared& s) { return s.memory.expired(); });
  auto found = std::find_if(shared_.begin(), shared_.end(),
                            [&](const Shared& s) { return s.name == source.name && s.matrix_bytes == n_bytes; });
  std::shared_ptr<const Memory> memory = found != shared_.end() ? found->memory.lock() : nullptr;
  if (memory == nullptr) {
    const std::optional<uint64_t> all = checked_mul(n_bytes, static_cast<uint64_t>(source.n_alike));
    if (!all) return make_error(ErrorCode::kOutOfMemory, "%s: %d matrices are too many", source.name, source.n_alike);
    GLIMPSE_ASSIGN(Memory whole, Memory::on_device(device_, *all, source.name.c_str()));
    memory = std::make_shared<const Memory>(std::move(whole));
    found = shared_.insert(shared_.end(), {source.name, n_bytes, 0, memory});
  }
  weight.view.data = memory->as<uint8_t>() + found->used;
  found->used += n_bytes;
  if (found->used + n_bytes > memory->size()) shared_.erase(found);
  weight.memory = std::move(memory);
  return {};
}

Result<std::shared_ptr<const PackedWeight>> CudaOps::pack(const WeightSource& source, WeightPrecision precision) {
  GLIMPSE_ASSIGN(const std::shared_ptr<CudaWeight> weight, begin_weight<CudaWeight>(source));
  const DType stored = stored_type(source.type, precision);
  weight->format = device_format(stored);
  weight->n_bytes = lay_out(weight->format, source.rows, source.cols, weight->view);
  if (gemv_shared_bytes(weight->format, 1, weight->view.column_tiles) > device_->max_shared_bytes()) {
    return make_error(ErrorCode::kUnsupported, "%s has %d columns: too many for the shared memory of %s", source.name,
                      source.cols, device_->describe());
  }
  GLIMPSE_TRY(place_weight(source, *weight));

  const uint64_t row_bytes = device_row_bytes(stored, source.cols);
  const int64_t step = std::clamp<int64_t>(static_cast<int64_t>(kRingBytes / row_bytes) / kTileRows * kTileRows,
                                           kTileRows, round_up(source.rows, kTileRows));
  const uint64_t slot_bytes = std::max<uint64_t>(kRingBytes, static_cast<uint64_t>(step) * row_bytes);
  for (Memory& ring : ring_) {
    if (ring.size() >= slot_bytes) continue;
    ring = Memory();
    GLIMPSE_ASSIGN(ring, Memory::pinned(device_, slot_bytes, "loading weights"));
  }
  GLIMPSE_TRY(grow(raw_, 2 * slot_bytes, "loading weights"));

  // While one slot is on its way, the other is read from the file.
  int slot = 0;
  for (int64_t first = 0; first < source.rows; first += step, slot ^= 1) {
    const int64_t count = std::min(step, source.rows - first);
    Status status = pack_slot(source, stored, first, count, ring_[slot].as<std::byte>());
    if (!status.ok()) {
      (void)stream_->synchronize();
      return std::move(status).error();
    }
    GLIMPSE_TRY(stream_->synchronize());  // the other slot has arrived and is packed
    PackArgs args;
    args.from = raw_.as<uint8_t>() + static_cast<uint64_t>(slot) * slot_bytes;
    args.row_bytes = static_cast<int64_t>(row_bytes);
    args.first_row = static_cast<int32_t>(first);
    args.n_rows = static_cast<int32_t>(count);
    const bool last = first + count == source.rows;
    args.padded_rows = static_cast<int32_t>(last ? weight->view.row_tiles * kTileRows - first : count);
    args.w = weight->view;
    args.to = const_cast<uint8_t*>(weight->view.data);
    GLIMPSE_TRY(stream_->copy_in(const_cast<uint8_t*>(args.from), ring_[slot].as<void>(),
                                 static_cast<uint64_t>(count) * row_bytes));
    GLIMPSE_TRY(stream_->launch(pack_kernel(weight->format), LaunchShape{{args.padded_rows, 1, 1}, 0}, &args));
  }
  GLIMPSE_TRY(stream_->synchronize());  // other streams will read it
  return std::shared_ptr<const PackedWeight>(std::move(weight));
}

void CudaOps::unpack_row(const PackedWeight& weight, int64_t row, float* out) const {
  const auto& w = static_cast<const CudaWeight&>(weight);
  const auto read = [&]() -> Status {
    GLIMPSE_ASSIGN(const Memory id, Memory::on_device(device_, sizeof(int32_t), "a row number"));
    GLIMPSE_ASSIGN(const Memory floats,
                   Memory::on_device(device_, static_cast<uint64_t>(w.cols) * sizeof(float), "a row of weights"));
    const auto wanted = static_cast<int32_t>(row);
    GLIMPSE_TRY(stream_->copy_in(id.as<void>(), &wanted, sizeof wanted));
    EmbedArgs args;
    args.table = w.view;
    args.ids = id.as<int32_t>();
    args.n = 1;
    args.x = floats.as<float>();
    args.ld = w.cols;
    GLIMPSE_TRY(stream_->launch(embed_kernel(w.format), LaunchShape{}, &args));
    GLIMPSE_TRY(stream_->copy_out(out, floats.as<void>(), static_cast<uint64_t>(w.cols) * sizeof(float)));
    return stream_->synchronize();
  };
  if (!read().ok()) std::fill_n(out, w.cols, std::numeric_limits<float>::quiet_NaN());
}

// ---- Memory ------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<BackendBuffer>> CudaOps::allocate(int64_t n_floats, const char* purpose) {
  auto buffer = std::make_unique<CudaBuffer>();
  const uint64_t n_bytes = std::max<uint64_t>(1, static_cast<uint64_t>(n_floats)) * sizeof(float);
  GLIMPSE_ASSIGN(buffer->memory, Memory::on_device(device_, n_bytes, purpose));
  buffer->data = buffer->memory.as<float>();
  buffer->n_floats = n_floats;
  return std::unique_ptr<BackendBuffer>(std::move(buffer));
}

// Copies at most kStagingBytes into pinned memory, where it stays until the stream has caught up.
const void* CudaOps::stage(const void* host, uint64_t n_bytes) {
  if (staged_ + n_bytes > kStagingBytes) {
    fail(stream_->synchronize());
    staged_ = 0;
  }
  std::byte* const to = staging_.as<std::byte>() + staged_;
  std::memcpy(to, host, n_bytes);
  staged_ += (n_bytes + 255) / 256 * 256;
  return to;
}

void CudaOps::copy_in(void* device, const void* host, uint64_t n_bytes) {
  for (uint64_t at = 0; at < n_bytes && status_.ok(); at += kStagingBytes) {
    const uint64_t piece = std::min(kStagingBytes, n_bytes - at);
    const void* const from = stage(static_cast<const std::byte*>(host) + at, piece);
    fail(stream_->copy_in(static_cast<std::byte*>(device) + at, from, piece));
  }
}

void CudaOps::copy_out(void* host, const void* device, uint64_t n_bytes) {
  for (uint64_t at = 0; at < n_bytes && status_.ok(); at += kStagingBytes) {
    const uint64_t piece = std::min(kStagingBytes, n_bytes - at);
    fail(stream_->synchronize());
    staged_ = 0;
    fail(stream_->copy_out(staging_.as<void>(), static_cast<const std::byte*>(device) + at, piece));
    fail(stream_->synchronize());
    if (status_.ok()) std::memcpy(static_cast<std::byte*>(host) + at, staging_.as<void>(), piece);
  }
  if (!status_.ok()) std::memset(host, 0, n_bytes);
}

void CudaOps::upload(const float* host, int64_t n_floats, float* backend) {
  copy_in(backend, host, static_cast<uint64_t>(n_floats) * sizeof(float));
}

// The bytes wait in the memory of a product's activations, which nobody needs before the product that reads the values.
void CudaOps::upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels, float* backend) {
  constexpr uint64_t kTableBytes = 3 * 256 * sizeof(float);
  const auto n = static_cast<uint64_t>(n_floats);
  fail(grow(act_, kTableBytes + n, "activations of a pass"));
  if (!status_.ok() || n == 0) return;
  copy_in(act_.as<void>(), levels, kTableBytes);
  copy_in(act_.as<uint8_t>() + kTableBytes, bytes, n);
  LevelArgs args;
  args.levels = act_.as<float>();
  args.bytes = act_.as<uint8_t>() + kTableBytes;
  args.n = n_floats;
  args.run = static_cast<int32_t>(run);
  args.out = backend;
  const int64_t blocks = ceil_div(n_floats, 4 * int64_t{kernel_info(Kernel::levels_to_floats).n_threads});
  launch(Kernel::levels_to_floats, LaunchShape{{std::min<int64_t>(blocks, 16 * device_->n_multiprocessors()), 1, 1}, 0},
         &args);
}

void CudaOps::download(const float* backend, int64_t n_floats, float* host) {
  copy_out(host, backend, static_cast<uint64_t>(n_floats) * sizeof(float));
}

uint64_t CudaOps::reserve_bytes(int64_t max_rows, int64_t max_cols) const {
  const auto rows = static_cast<uint64_t>(max_rows), cols = static_cast<uint64_t>(round_up(max_cols, kTileColumns));
  const auto n_values =
      static_cast<uint64_t>(rows_size(device_->has_warpgroups(), max_rows, static_cast<int64_t>(cols)));
  return n_values * sizeof(uint16_t) + rows * cols * sizeof(float) + std::max<uint64_t>(64, rows) * sizeof(int32_t);
}

Status CudaOps::reserve(int64_t max_rows, int64_t max_cols) {
  const auto rows = static_cast<uint64_t>(max_rows), cols = static_cast<uint64_t>(round_up(max_cols, kTileColumns));
  const auto n_values =
      static_cast<uint64_t>(rows_size(device_->has_warpgroups(), max_rows, static_cast<int64_t>(cols)));
  GLIMPSE_TRY(grow(act_, n_values * sizeof(uint16_t), "activations of a pass"));
  GLIMPSE_TRY(grow(spare_, rows * cols * sizeof(float), "products of a pass"));
  GLIMPSE_TRY(grow(ids_, std::max<uint64_t>(64, rows) * sizeof(int32_t), "token ids"));
  return {};
}

// ---- A forward pass ------------------------------------------------------------------------------------------------

Status CudaOps::run(FunctionRef<void()> body) {
  status_ = {};
  body();
  fail(stream_->synchronize());
  staged_ = 0;
  return status_;
}

void CudaOps::embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) {
  const auto& w = static_cast<const CudaWeight&>(table);
  fail(grow(ids_, std::max<uint64_t>(64, ids.size()) * sizeof(int32_t), "token ids"));
  if (!status_.ok() || ids.empty()) return;
  copy_in(ids_.as<void>(), ids.data(), ids.size() * sizeof(int32_t));
  launch_embed(w, ids_.as<int32_t>(), 1, x);
}

void CudaPass::launch_embed(const CudaWeight& table, const int32_t* ids, int32_t id_stride, Mat x) {
  EmbedArgs args;
  args.table = table.view;
  args.ids = ids;
  args.id_stride = id_stride;
  args.n = static_cast<int32_t>(x.rows);
  args.x = x.data;
  args.ld = x.ld;
  launch(embed_kernel(table.format), LaunchShape{{args.n, 1, 1}, 0}, &args);
}

bool CudaOps::all_finite(Mat x) {
  FiniteArgs args;
  args.x = x.data;
  args.ld = x.ld;
  args.rows = x.rows;
  args.cols = x.cols;
  args.flag = flag_.as<int32_t>();
  const int64_t blocks = std::clamp<int64_t>(ceil_div(x.rows * x.cols, kernel_info(Kernel::find_non_finite).n_threads),
                                             1, 2 * device_->n_multiprocessors());
  launch(Kernel::find_non_finite, LaunchShape{{blocks, 1, 1}, 0}, &args);
  int32_t found = 0;
  copy_out(&found, flag_.as<void>(), sizeof found);
  if (found != 0) fail(stream_->zero(flag_.as<void>(), sizeof found));
  return found == 0;
}

void CudaPass::launch_sample(Mat logits, const DrawOptions& options, SampleArgs args) {
  args.logits = logits.data;
  args.ld = logits.ld;
  args.n = static_cast<int32_t>(logits.rows);
  args.vocab = static_cast<int32_t>(logits.cols);
  args.temperature = options.temperature;
  args.top_k = options.top_k;
  args.top_p = options.top_p;
  args.min_p = options.min_p;
  launch(Kernel::sample, LaunchShape{{args.n, 1, 1}, sample_shared_bytes()}, &args);
}

void CudaOps::sample(Mat logits, const DrawOptions& sampling, std::span<const float> uniform, std::span<int32_t> ids) {
  const auto n = static_cast<uint64_t>(logits.rows);
  fail(grow(ids_, std::max<uint64_t>(64, 2 * n) * sizeof(int32_t), "token ids"));
  if (!status_.ok()) return;
  SampleArgs args;
  args.ids = ids_.as<int32_t>();
  args.uniform = ids_.as<float>() + n;
  copy_in(ids_.as<float>() + n, uniform.data(), n * sizeof(float));
  launch_sample(logits, sampling, args);
  copy_out(ids.data(), ids_.as<void>(), n * sizeof(int32_t));
}

}  // namespace glimpse::cuda
