// CpuOps: memory, packing and the pass itself. Products are in cpu_ops_linear.cpp, attention in cpu_ops_attention.cpp.
#include "engine/runtime/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/base/first_failure.h"
#include "engine/base/half.h"
#include "engine/runtime/begin_weight.h"
#include "kernels/attention/attention.h"
#include "kernels/matmul/weight_row.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

PanelFormat stored_format(DType type, WeightPrecision precision) {
  if (precision == WeightPrecision::kF32) return PanelFormat::kF32;
  if (precision == WeightPrecision::kBf16 && is_float_type(type)) return PanelFormat::kBF16;
  if (precision == WeightPrecision::kInt8 && is_float_type(type)) return PanelFormat::kI8x32;
  return type;
}

// Scratch that any kernel may need to expand a panel of max_cols columns.
uint64_t largest_scratch(int64_t max_cols) {
  uint64_t bytes = 0;
  for (const PanelKernel& kernel : panel_kernels()) {
    const int64_t block = panel_row_format(kernel.format).block_length;
    bytes = std::max(bytes, panel_scratch_bytes(kernel.format, round_up(max_cols, block)));
  }
  return bytes;
}

// Rows of one matrix on their way from the file into panels; one per thread.
class PanelPacker {
 public:
  PanelPacker(Isa isa, const WeightSource& source, CpuWeight& weight, PackBuffers& buffers)
      : isa_(isa),
        source_(source),
        weight_(weight),
        buffers_(buffers),
        converts_(weight.panels.format != source.type),
        row_bytes_(dtype_row_bytes(source.type, static_cast<uint64_t>(source.cols))) {}

  /// Panels of about 256 KiB of rows: large enough for the disk, small enough that what was read, its converted form
  /// and the panels together stay in a thread's second-level cache.
  int64_t panels_per_read() const {
    return std::max<int64_t>(1, (int64_t{1} << 18) / static_cast<int64_t>(row_bytes_ * kPanelRows));
  }

  Status pack(int64_t panel_begin, int64_t panel_end) {
    const int64_t first = panel_begin * kPanelRows, count = std::min(panel_end * kPanelRows, source_.rows) - first;
    const std::span<std::byte> raw = at_least(buffers_.raw, static_cast<size_t>(count) * row_bytes_);
    GLIMPSE_TRY(source_.read_rows(first, count, raw));
    GLIMPSE_TRY(check_finite(raw.data(), first, count));
    for (int64_t i = 0; i < count; i += kPanelRows) {
      const int64_t n_rows = std::min(kPanelRows, count - i);
      const std::byte* rows = raw.data() + static_cast<uint64_t>(i) * row_bytes_;
      uint64_t bytes = row_bytes_;
      if (converts_) rows = convert(rows, n_rows, &bytes);
      pack_panel(weight_.panels.format, rows, bytes, n_rows, source_.cols,
                 weight_.storage.data() + static_cast<uint64_t>((first + i) / kPanelRows) * weight_.panels.panel_bytes,
                 isa_);
    }
    return {};
  }

 private:
  // Nothing is cleared twice.
  template <typename T>
  static std::span<T> at_least(std::vector<T>& buffer, size_t n) {
    if (buffer.size() < n) buffer.resize(n);
    return {buffer.data(), n};
  }

  Status check_finite(const std::byte* rows, int64_t first, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t block =
          find_non_finite_block(source_.type, rows + static_cast<uint64_t>(i) * row_bytes_, source_.cols);
      if (block >= 0) {
        return make_error(ErrorCode::kNumeric, "%s: row %d holds a NaN or an infinity (block %d)", source_.name,
                          first + i, block);
      }
    }
    return {};
  }

  const std::byte* convert(const std::byte* rows, int64_t n_rows, uint64_t* bytes) {
    const PanelFormat format = weight_.panels.format;
    *bytes = panel_row_bytes(format, source_.cols);
    float* const floats = at_least(buffers_.floats, static_cast<size_t>(source_.cols)).data();
    std::byte* const scratch = at_least(buffers_.scratch, float_row_scratch_bytes(format, source_.cols)).data();
    std::byte* const converted = at_least(buffers_.converted, static_cast<size_t>(n_rows) * *bytes).data();
    for (int64_t i = 0; i < n_rows; ++i) {
      dequantize_row(isa_, source_.type, rows + static_cast<uint64_t>(i) * row_bytes_, floats, source_.cols);
      float_row(isa_, format, floats, source_.cols, converted + static_cast<uint64_t>(i) * *bytes, scratch);
    }
    return converted;
  }

  const Isa isa_;
  const WeightSource& source_;
  CpuWeight& weight_;
  PackBuffers& buffers_;
  const bool converts_;
  const uint64_t row_bytes_;
};

}  // namespace

CpuOps::CpuOps(Isa isa, int n_threads, const LogSink& log)
    : isa_(isa), team_(n_threads, log), workers_(static_cast<size_t>(n_threads)) {}

std::string CpuOps::describe() const {
  return format("cpu %s, %d thread%s", isa_name(isa_), team_.n_threads(), team_.n_threads() == 1 ? "" : "s");
}

uint64_t CpuOps::packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const {
  return static_cast<uint64_t>(ceil_div(rows, kPanelRows)) * panel_bytes(stored_format(type, precision), cols);
}

Result<std::shared_ptr<CpuWeight>> CpuOps::outline(const WeightSource& source, WeightPrecision precision) const {
  GLIMPSE_ASSIGN(std::shared_ptr<CpuWeight> weight, begin_weight<CpuWeight>(source));
  weight->panels.format = stored_format(source.type, precision);
  weight->panels.rows = source.rows;
  weight->panels.cols = source.cols;
  weight->panels.panel_bytes = panel_bytes(weight->panels.format, source.cols);
  weight->n_bytes = packed_bytes(source.type, source.rows, source.cols, precision);
  weight->kernel = &select_panel_kernel(weight->panels.format, isa_);
  return weight;
}

std::optional<uint32_t> CpuOps::packed_format(DType type, WeightPrecision precision) const {
  return static_cast<uint32_t>(stored_format(type, precision));
}

std::span<const std::byte> CpuOps::packed_data(const PackedWeight& weight) const {
  return {static_cast<const CpuWeight&>(weight).panels.data, weight.n_bytes};
}

Result<std::shared_ptr<const PackedWeight>> CpuOps::adopt(const WeightSource& source, WeightPrecision precision,
                                                          std::span<const std::byte> bytes,
                                                          std::shared_ptr<const void> owner) {
  GLIMPSE_ASSIGN(std::shared_ptr<CpuWeight> weight, outline(source, precision));
  if (bytes.size() != weight->n_bytes || reinterpret_cast<uintptr_t>(bytes.data()) % 64 != 0) {
    return make_error(ErrorCode::kInvalidArgument, "%s: %d packed bytes%s, want %d aligned to 64", source.name,
                      bytes.size(), reinterpret_cast<uintptr_t>(bytes.data()) % 64 != 0 ? ", not aligned" : "",
                      weight->n_bytes);
  }
  weight->panels.data = bytes.data();
  weight->owner = std::move(owner);
  return std::shared_ptr<const PackedWeight>(std::move(weight));
}

Result<std::shared_ptr<const PackedWeight>> CpuOps::pack(const WeightSource& source, WeightPrecision precision) {
  GLIMPSE_ASSIGN(const std::shared_ptr<CpuWeight> weight, outline(source, precision));
  GLIMPSE_ASSIGN(weight->storage, AlignedBuffer::allocate(weight->n_bytes, source.name.c_str()));
  weight->panels.data = weight->storage.data();

  std::vector<PanelPacker> packers;
  packers.reserve(workers_.size());
  pack_buffers_.resize(workers_.size());
  for (PackBuffers& buffers : pack_buffers_) packers.emplace_back(isa_, source, *weight, buffers);
  FirstFailure failure;
  const Grain grain{.most = packers[0].panels_per_read()};
  team_.for_ranges(weight->panels.n_panels(), grain, [&](int thread, int64_t begin, int64_t end) {
    failure.run(begin, [&] { return packers[static_cast<size_t>(thread)].pack(begin, end); });
  });
  GLIMPSE_TRY(failure.status(source.name));
  weight->storage.join_pages();
  return std::shared_ptr<const PackedWeight>(weight);
}

void CpuOps::unpack_row(const PackedWeight& weight, int64_t row, float* out) const {
  dequantize_panel_row(static_cast<const CpuWeight&>(weight).panels, row, out);
}

Result<std::unique_ptr<BackendBuffer>> CpuOps::allocate(int64_t n_floats, const char* purpose) {
  auto buffer = std::make_unique<CpuBuffer>();
  GLIMPSE_ASSIGN(buffer->storage, AlignedBuffer::allocate(static_cast<uint64_t>(n_floats) * sizeof(float), purpose));
  buffer->data = buffer->storage.as<float>();
  buffer->n_floats = n_floats;
  return std::unique_ptr<BackendBuffer>(std::move(buffer));
}

void CpuOps::upload(const float* host, int64_t n_floats, float* backend) {
  std::memcpy(backend, host, static_cast<size_t>(n_floats) * sizeof(float));
}

void CpuOps::download(const float* backend, int64_t n_floats, float* host) {
  std::memcpy(host, backend, static_cast<size_t>(n_floats) * sizeof(float));
}

uint64_t CpuOps::kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                          int64_t n_wide) const {
  capacity = round_up(capacity, kKeyBlock);
  const uint64_t head = kv_head_bytes(element, head_dim, capacity, n_wide) + kv_head_bytes(element, head_dim, capacity);
  return AlignedBuffer::memory_bytes(static_cast<uint64_t>(n_kv_heads) * head);
}

uint64_t CpuOps::kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const {
  const int64_t d = padded_head_dim(head_dim);
  const uint64_t rows = static_cast<uint64_t>(kChunk * 2 * n_kv_heads * head_dim) * sizeof(float);
  const auto memory = &AlignedBuffer::memory_bytes;
  const uint64_t per_thread = memory(attention_state_bytes(d)) + memory(kMaxQueryRows * max_query_row_bytes(d)) +
                              memory(attention_scratch_bytes(d));
  const int64_t n_partials = team_.n_threads() > 1 ? n_kv_heads * ceil_div(capacity, kKeyBlock) : 0;
  return memory(rows) + per_thread * workers_.size() +
         memory(static_cast<uint64_t>(n_partials) * attention_state_bytes(d));
}

Result<std::unique_ptr<KvStore>> CpuOps::make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                                                 KvElement element, std::span<const int32_t> wide) {
  capacity = round_up(capacity, kKeyBlock);
  auto kv = std::make_unique<CpuKv>(KvShape{n_kv_heads, head_dim, element, wide}, capacity, capacity);
  GLIMPSE_ASSIGN(kv->memory, AlignedBuffer::allocate(kv->layer_bytes(), "keys and values"));
  kv->first_page = kv->memory.data();
  GLIMPSE_TRY(reserve_attention(n_kv_heads, head_dim, capacity));
  return std::unique_ptr<KvStore>(std::move(kv));
}

Status CpuOps::reserve_attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  const uint64_t rows = static_cast<uint64_t>(kChunk * 2 * n_kv_heads * head_dim) * sizeof(float);
  if (kv_rows_.size() < rows) {
    GLIMPSE_ASSIGN(kv_rows_, AlignedBuffer::allocate(rows, "keys and values of a chunk"));
  }
  return grow_attention(padded_head_dim(head_dim), n_kv_heads * ceil_div(capacity, kKeyBlock));
}

uint64_t CpuOps::reserve_bytes(int64_t max_rows, int64_t max_cols) const {
  const int64_t chunk = std::min(max_rows, kChunk);
  const auto memory = &AlignedBuffer::memory_bytes;
  const uint64_t per_thread = memory(static_cast<uint64_t>(round_up(max_cols, 256)) * sizeof(float)) +
                              memory(largest_scratch(max_cols)) + memory(kTileFloats * sizeof(float));
  return kMaxFormats * memory(act_bytes(ActFormat::kF32, chunk, max_cols)) + per_thread * workers_.size();
}

// Each buffer becomes as large as the largest product needs it, so that two users take no more than their plans
// together.
Status CpuOps::grow_linear(int64_t max_rows, int64_t max_cols) {
  const auto grow = [](AlignedBuffer& buffer, uint64_t n_bytes, const char* purpose) -> Status {
    if (buffer.size() >= n_bytes) return {};
    buffer = AlignedBuffer();  // goes before its successor is there
    GLIMPSE_ASSIGN(buffer, AlignedBuffer::allocate(n_bytes, purpose));
    return {};
  };
  const uint64_t acts_bytes = act_bytes(ActFormat::kF32, std::min(max_rows, kChunk), max_cols);
  for (AlignedBuffer& acts : acts_) GLIMPSE_TRY(grow(acts, acts_bytes, "activations"));
  if (max_cols <= reserved_cols_) return {};
  const uint64_t row_bytes = static_cast<uint64_t>(round_up(max_cols, 256)) * sizeof(float);
  const uint64_t expand_bytes = largest_scratch(max_cols);
  for (Worker& worker : workers_) {
    GLIMPSE_TRY(grow(worker.row, row_bytes, "a row"));
    GLIMPSE_TRY(grow(worker.expand, expand_bytes, "an expanded panel"));
    GLIMPSE_TRY(grow(worker.tile, kTileFloats * sizeof(float), "a tile"));
  }
  reserved_cols_ = max_cols;
  return {};
}

Status CpuOps::reserve(int64_t max_rows, int64_t max_cols) {
  team_.start();  // what cannot be had is told before the first pass
  return grow_linear(max_rows, max_cols);
}

Status CpuOps::run(FunctionRef<void()> body) {
  status_ = {};
  team_.pass(body);
  return status_;
}

void CpuOps::embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) {
  const PanelMatrix& panels = static_cast<const CpuWeight&>(table).panels;
  team_.for_ranges(static_cast<int64_t>(ids.size()), Grain{.most = 16, .least = 4},
                   [&](int, int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int32_t id = ids[static_cast<size_t>(i)];
                       if (id >= 0) dequantize_panel_row(panels, id, x.row(i));
                     }
                   });
}

bool CpuOps::all_finite(Mat x) {
  // x - x is 0 for a finite x and NaN otherwise; the sum of zeros stays 0.
  float sum = 0;
  for (int64_t i = 0; i < x.rows; ++i) {
    const float* row = x.row(i);
    float lanes[16] = {};
    int64_t j = 0;
    for (; j + 16 <= x.cols; j += 16) {
      for (int lane = 0; lane < 16; ++lane) lanes[lane] += row[j + lane] - row[j + lane];
    }
    for (; j < x.cols; ++j) lanes[0] += row[j] - row[j];
    for (float lane : lanes) sum += lane;
  }
  return sum == 0.0f;
}

Result<std::unique_ptr<Ops>> make_cpu_ops(const CpuOpsOptions& options) {
  GLIMPSE_ASSIGN(const Isa isa, selected_isa());
  if (options.n_threads < 0 || options.n_threads > 1024) {
    return make_error(ErrorCode::kInvalidArgument, "%d threads: want 1 to 1024, or 0 for one per available CPU",
                      options.n_threads);
  }
  const int n_threads = options.n_threads == 0 ? available_cpus() : options.n_threads;
  return std::unique_ptr<Ops>(std::make_unique<CpuOps>(isa, n_threads, options.log));
}

}  // namespace glimpse
