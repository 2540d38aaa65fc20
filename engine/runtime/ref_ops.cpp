// The oracle: every operation as its equation, one scalar loop each. Weights stay as the file has them and are
// dequantised one row at a time, sums run in double, keys and values are floats. Slow on purpose.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/base/checked.h"
#include "engine/base/half.h"
#include "engine/runtime/begin_weight.h"
#include "engine/runtime/host_kv.h"
#include "engine/runtime/ops.h"
#include "engine/runtime/routing.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

constexpr uint64_t kReadBytes = 4u << 20;  // a matrix is read in pieces of about this size

class RefWeight final : public PackedWeight {
 public:
  DType stored = DType::kF32;  // the type that `bits` holds, row after row
  uint64_t row_bytes = 0;
  AlignedBuffer bits;

  void dequantize_row(int64_t row, float* out) const {
    dequantize_row_ref(stored, bits.data() + static_cast<uint64_t>(row) * row_bytes, out, cols);
  }
};

class RefBuffer final : public BackendBuffer {
 public:
  AlignedBuffer memory;
};

// Floats: in each page keys (n_kv_heads, page_positions, head_dim), then as many values.
class RefKv final : public KvStore {
 public:
  RefKv(const KvShape& shape, int64_t capacity_, int64_t page_positions_) : page_positions(page_positions_) {
    n_kv_heads = shape.n_kv_heads;
    head_dim = shape.head_dim;
    capacity = capacity_;
    element = shape.element;
    position_bytes = static_cast<double>(2 * sizeof(float) * static_cast<uint64_t>(n_kv_heads * head_dim));
  }
  int64_t page_positions = 0;
  float* first_page = nullptr;     // of this layer
  int64_t page_floats = 0;         // from one page to the next, of all layers
  const int32_t* pages = nullptr;  // by block; nullptr: one page
  AlignedBuffer memory;            // of a store of its own

  int64_t half() const { return n_kv_heads * page_positions * head_dim; }
  float* key(int64_t kv_head, int64_t position) const {
    float* const page = pages == nullptr ? first_page : first_page + pages[position / kKeyBlock] * page_floats;
    return page + (kv_head * page_positions + position % page_positions) * head_dim;
  }
  float* value(int64_t kv_head, int64_t position) const { return key(kv_head, position) + half(); }
  void read(int64_t kv_head, int64_t position, float* key_out, float* value_out) const override {
    std::copy_n(key(kv_head, position), head_dim, key_out);
    std::copy_n(value(kv_head, position), head_dim, value_out);
  }
};

class RefPool final : public HostKvPool {
 public:
  std::vector<KvShape> layers;

  static int64_t floats_of(const KvShape& shape) { return 2 * shape.n_kv_heads * kKeyBlock * shape.head_dim; }
  static int64_t page_floats(std::span<const KvShape> layers) {
    int64_t n = 0;
    for (const KvShape& shape : layers) n += floats_of(shape);
    return n;
  }

  class Table final : public HostKvTable {
   public:
    Table(const RefPool& pool, float* memory, int64_t n_blocks) : HostKvTable(n_blocks) {
      for (const KvShape& shape : pool.layers) {
        auto kv = std::make_unique<RefKv>(shape, n_blocks * kKeyBlock, kKeyBlock);
        kv->first_page = memory;
        kv->page_floats = page_floats(pool.layers);
        kv->pages = pages_.data();
        layers_.push_back(std::move(kv));
        memory += floats_of(shape);
      }
    }
  };

  Result<std::unique_ptr<KvTable>> make_table(int64_t n_blocks) override {
    return std::unique_ptr<KvTable>(std::make_unique<Table>(*this, memory.as<float>(), n_blocks));
  }
  const char* layout() const override { return "ref floats 1"; }
  Status download(int32_t from, int64_t n_positions, std::span<std::byte> out) const override {
    std::memcpy(out.data(), page(from), page_bytes);
    float* rows = reinterpret_cast<float*>(out.data());
    for (const KvShape& shape : layers) {
      for (int64_t head = 0; head < 2 * shape.n_kv_heads; ++head, rows += kKeyBlock * shape.head_dim) {
        std::fill(rows + n_positions * shape.head_dim, rows + kKeyBlock * shape.head_dim, 0.0f);
      }
    }
    return {};
  }
};

// A (rows, cols) matrix of doubles: what lies between the two halves of a fused operation.
struct Wide {
  Wide(int64_t n_rows, int64_t n_cols) : rows(n_rows), cols(n_cols), values(static_cast<size_t>(n_rows * n_cols)) {}
  double* row(int64_t r) { return values.data() + r * cols; }
  const double* row(int64_t r) const { return values.data() + r * cols; }
  int64_t rows, cols;
  std::vector<double> values;
};

DType stored_type(DType source, WeightPrecision precision) {
  if (precision == WeightPrecision::kF32) return DType::kF32;
  if (precision == WeightPrecision::kBf16 && is_float_type(source)) return DType::kBF16;
  return source;
}

const RefWeight& as_ref(const PackedWeight& weight) {
  return static_cast<const RefWeight&>(weight);
}

// RMS:   y = x / sqrt(mean(x^2) + eps) * w
// Layer: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b
// In place is allowed.
template <typename T>
void normalize_piece(const T* x, const Norm& norm, int64_t n, double* y) {
  double mean = 0;
  if (norm.kind == Norm::Kind::kLayer) {
    for (int64_t i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<double>(n);
  }
  double square = 0;
  for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(square / static_cast<double>(n) + static_cast<double>(norm.eps));
  for (int64_t i = 0; i < n; ++i) {
    y[i] = (x[i] - mean) * scale * norm.weight->data[i];
    if (norm.kind == Norm::Kind::kLayer && norm.bias != nullptr) y[i] += norm.bias->data[i];
  }
}

// h = norm(x), piece by piece where a row holds several vectors of norm.width.
Wide normalize(Mat x, const Norm& norm) {
  Wide h(x.rows, x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    if (norm.kind == Norm::Kind::kNone) {
      std::copy_n(x.row(r), x.cols, h.row(r));
      continue;
    }
    const int64_t width = norm.width > 0 ? norm.width : x.cols;
    for (int64_t i = 0; i + width <= x.cols; i += width) normalize_piece(x.row(r) + i, norm, width, h.row(r) + i);
  }
  return h;
}

// y = W h + b
Wide project(const Wide& h, const Linear& linear) {
  const RefWeight& w = as_ref(*linear.weight);
  Wide y(h.rows, w.rows);
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t o = 0; o < w.rows; ++o) {
    w.dequantize_row(o, row.data());
    const double bias = linear.bias != nullptr ? linear.bias->data[o] : 0;
    for (int64_t r = 0; r < h.rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < w.cols; ++i) sum += static_cast<double>(row[static_cast<size_t>(i)]) * h.row(r)[i];
      y.row(r)[o] = sum + bias;
    }
  }
  return y;
}

// h = norm(h), each head of d values by itself.
void normalize_heads(Wide& h, const Norm& norm, int64_t d) {
  if (norm.kind == Norm::Kind::kNone) return;
  for (int64_t r = 0; r < h.rows; ++r) {
    for (int64_t i = 0; i < h.cols; i += d) normalize_piece(h.row(r) + i, norm, d, h.row(r) + i);
  }
}

// Pairs (j, j + d / 2) turn by the angle of pair j.
void rotate(const double* x, const float* cos, const float* sin, int64_t d, float* out) {
  const int64_t half = d / 2;
  for (int64_t j = 0; j < half; ++j) {
    out[j] = static_cast<float>(x[j] * cos[j] - x[j + half] * sin[j]);
    out[j + half] = static_cast<float>(x[j + half] * cos[j] + x[j] * sin[j]);
  }
}

double silu(double z) {
  return z / (1 + std::exp(-z));
}

float sigmoid(float z) {
  return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(z))));
}

double activate(Activation activation, double z) {
  switch (activation) {
    case Activation::kNone:
      return z;
    case Activation::kQuickGelu:
      return z / (1 + std::exp(-1.702 * z));
    case Activation::kGeluErf:
      return 0.5 * z * (1 + std::erf(z / std::numbers::sqrt2));
    case Activation::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * z * z * z)));
    case Activation::kSilu:
      return silu(z);
  }
  return z;
}

class RefOps final : public Ops {
 public:
  std::string describe() const override { return "ref"; }

  Result<std::shared_ptr<const PackedWeight>> pack(const WeightSource& source, WeightPrecision precision) override {
    GLIMPSE_ASSIGN(const std::shared_ptr<RefWeight> weight, begin_weight<RefWeight>(source));
    weight->stored = stored_type(source.type, precision);
    weight->row_bytes = dtype_row_bytes(weight->stored, static_cast<uint64_t>(source.cols));
    weight->n_bytes = packed_bytes(source.type, source.rows, source.cols, precision);
    GLIMPSE_ASSIGN(weight->bits, AlignedBuffer::allocate(weight->n_bytes, source.name.c_str()));

    const uint64_t source_row = dtype_row_bytes(source.type, static_cast<uint64_t>(source.cols));
    const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kReadBytes / std::max<uint64_t>(1, source_row)));
    std::vector<std::byte> piece(static_cast<size_t>(std::min(step, source.rows)) * source_row);
    std::vector<float> floats(static_cast<size_t>(source.cols));
    for (int64_t first = 0; first < source.rows; first += step) {
      const int64_t count = std::min(step, source.rows - first);
      GLIMPSE_TRY(source.read_rows(first, count, std::span(piece).first(static_cast<size_t>(count) * source_row)));
      for (int64_t r = 0; r < count; ++r) {
        const std::byte* in = piece.data() + static_cast<uint64_t>(r) * source_row;
        std::byte* out = weight->bits.data() + static_cast<uint64_t>(first + r) * weight->row_bytes;
        GLIMPSE_TRY(check_finite(source, source.type, in, first + r));
        if (weight->stored == source.type) {
          std::memcpy(out, in, source_row);
          continue;
        }
        dequantize_row_ref(source.type, in, floats.data(), source.cols);
        store_floats(floats, weight->stored, out);
        GLIMPSE_TRY(check_finite(source, weight->stored, out, first + r));  // bfloat16 rounds the largest floats up
      }
    }
    return std::shared_ptr<const PackedWeight>(weight);
  }

  uint64_t packed_bytes(DType type, int64_t rows, int64_t cols, WeightPrecision precision) const override {
    return static_cast<uint64_t>(rows) * dtype_row_bytes(stored_type(type, precision), static_cast<uint64_t>(cols));
  }

  void unpack_row(const PackedWeight& weight, int64_t row, float* out) const override {
    as_ref(weight).dequantize_row(row, out);
  }

  Result<std::unique_ptr<BackendBuffer>> allocate(int64_t n_floats, const char* purpose) override {
    auto buffer = std::make_unique<RefBuffer>();
    GLIMPSE_ASSIGN(buffer->memory, AlignedBuffer::allocate(static_cast<uint64_t>(n_floats) * sizeof(float), purpose));
    buffer->data = buffer->memory.as<float>();
    buffer->n_floats = n_floats;
    return std::unique_ptr<BackendBuffer>(std::move(buffer));
  }

  uint64_t buffer_bytes(int64_t n_floats) const override {
    return AlignedBuffer::memory_bytes(Ops::buffer_bytes(n_floats));
  }
  void upload(const float* host, int64_t n_floats, float* backend) override { std::copy_n(host, n_floats, backend); }
  void download(const float* backend, int64_t n_floats, float* host) override { std::copy_n(backend, n_floats, host); }

  Result<std::unique_ptr<KvStore>> make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                                           std::span<const int32_t>) override {
    capacity = round_up(capacity, kKeyBlock);
    auto kv = std::make_unique<RefKv>(KvShape{n_kv_heads, head_dim, element, {}}, capacity, capacity);
    GLIMPSE_ASSIGN(kv->memory,
                   AlignedBuffer::allocate(kv_bytes(n_kv_heads, head_dim, capacity, element, 0), "keys and values"));
    kv->first_page = kv->memory.as<float>();
    return std::unique_ptr<KvStore>(std::move(kv));
  }
  Result<std::unique_ptr<KvPool>> make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) override {
    auto pool = std::make_unique<RefPool>();
    pool->n_pages = n_pages;
    pool->page_bytes = kv_page_bytes(layers);
    for (const KvShape& shape : layers) pool->layers.push_back({shape.n_kv_heads, shape.head_dim, shape.element, {}});
    const auto bytes = checked_mul(pool->page_bytes, static_cast<uint64_t>(n_pages));
    if (!bytes) return make_error(ErrorCode::kTooLarge, "%d pages of keys and values", n_pages);
    GLIMPSE_ASSIGN(pool->memory, AlignedBuffer::allocate(*bytes, "keys and values"));
    return std::unique_ptr<KvPool>(std::move(pool));
  }
  uint64_t kv_page_bytes(std::span<const KvShape> layers) const override {
    return sizeof(float) * static_cast<uint64_t>(RefPool::page_floats(layers));
  }

  uint64_t kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement, int64_t) const override {
    return buffer_bytes(2 * n_kv_heads * head_dim * round_up(capacity, kKeyBlock));
  }

  // The oracle's intermediates live on the heap, one operation at a time; this is their greatest size.
  Status reserve(int64_t, int64_t) override { return {}; }
  Status reserve_attention(int64_t, int64_t, int64_t) override { return {}; }
  uint64_t kv_scratch_bytes(int64_t, int64_t, int64_t) const override { return 0; }
  uint64_t reserve_bytes(int64_t max_rows, int64_t max_cols) const override {
    return 3 * sizeof(double) * static_cast<uint64_t>(max_rows * max_cols);
  }

  Status run(FunctionRef<void()> body) override {
    body();
    return {};
  }

  void embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) override {
    for (size_t r = 0; r < ids.size(); ++r) {
      if (ids[r] >= 0) unpack_row(table, ids[r], x.row(static_cast<int64_t>(r)));
    }
  }

  void norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments,
                Mat q) override {
    const Wide h = normalize(x, norm);
    const int64_t d = w.head_dim;
    Wide queries = project(h, w.q), keys = project(h, w.k);
    const Wide values = project(h, w.v);
    normalize_heads(queries, w.q_norm, d);
    normalize_heads(keys, w.k_norm, d);
    for (const Segment& segment : segments) {
      RefKv& store = static_cast<RefKv&>(*segment.kv);
      for (int64_t i = 0; i < segment.n_rows; ++i) {
        const int64_t r = segment.first_row + i, position = segment.n_past + i;
        const float *cos = rope.cos.row(r), *sin = rope.sin.row(r);
        for (int64_t head = 0; head < w.n_heads; ++head) {
          rotate(queries.row(r) + head * d, cos, sin, d, q.row(r) + head * d);
        }
        for (int64_t head = 0; head < w.n_kv_heads; ++head) {
          rotate(keys.row(r) + head * d, cos, sin, d, store.key(head, position));
          std::transform(values.row(r) + head * d, values.row(r) + (head + 1) * d, store.value(head, position),
                         [](double v) { return static_cast<float>(v); });
        }
      }
    }
  }

  void attention(Mat q, int64_t n_heads, Segments segments, Mat out) override {
    for (const Segment& segment : segments) {
      const RefKv& store = static_cast<const RefKv&>(*segment.kv);
      for (int64_t i = 0; i < segment.n_rows; ++i) {
        const int64_t r = segment.first_row + i;
        attend_row(q.row(r), store, n_heads, segment.first_key, segment.n_visible(i), out.row(r));
      }
    }
  }

  void linear_add(Mat in, const Linear& w, Mat x) override {
    const Wide y = project(normalize(in, Norm{}), w);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t i = 0; i < x.cols; ++i) x.row(r)[i] = static_cast<float>(x.row(r)[i] + y.row(r)[i]);
    }
  }

  void norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) override {
    const Wide h = normalize(x, norm);
    const Wide g = project(h, gate), u = project(h, up);
    for (int64_t r = 0; r < out.rows; ++r) {
      for (int64_t i = 0; i < out.cols; ++i) out.row(r)[i] = static_cast<float>(silu(g.row(r)[i]) * u.row(r)[i]);
    }
  }

  void norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) override {
    const Wide y = project(normalize(x, norm), w);
    for (int64_t r = 0; r < out.rows; ++r) {
      for (int64_t i = 0; i < out.cols; ++i) out.row(r)[i] = static_cast<float>(activate(activation, y.row(r)[i]));
    }
  }

  void norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) override {
    norm_linear(x, norm, w.router, Activation::kNone, routing.scores);
    for (int64_t r = 0; r < x.rows; ++r) {
      choose_experts(routing.scores.row(r), w.n_experts(), w.n_used, w.normalize, routing.expert.row(r),
                     routing.weight.row(r));
      for (int64_t s = 0; s < w.n_used; ++s) {
        const auto e = static_cast<size_t>(routing.expert.row(r)[s]);
        norm_swiglu(x.slice(r, 1), norm, w.gate[e], w.up[e], out.slice(r, 1).columns(s * w.width(), w.width()));
      }
    }
    if (!w.has_shared()) return;
    const Mat shared_weight = routing.weight.columns(w.n_used, 1);
    norm_linear(x, norm, w.shared_router, Activation::kNone, shared_weight);
    for (int64_t r = 0; r < x.rows; ++r) shared_weight.row(r)[0] = sigmoid(shared_weight.row(r)[0]);
    norm_swiglu(x, norm, w.shared_gate, w.shared_up, out.columns(w.n_used * w.width(), w.shared_width()));
  }

  void experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) override {
    for (int64_t r = 0; r < x.rows; ++r) {
      std::vector<double> sum(static_cast<size_t>(x.cols), 0.0);
      for (int64_t s = 0; s < w.n_slots(); ++s) {
        const bool shared = s == w.n_used;
        const auto e = shared ? 0 : static_cast<size_t>(routing.expert.row(r)[s]);
        const Mat slot = in.slice(r, 1).columns(s * w.width(), shared ? w.shared_width() : w.width());
        const Wide y = project(normalize(slot, Norm{}), shared ? w.shared_down : w.down[e]);
        for (size_t i = 0; i < sum.size(); ++i) {
          sum[i] += static_cast<double>(routing.weight.row(r)[s]) * y.values[i];
        }
      }
      for (size_t i = 0; i < sum.size(); ++i) x.row(r)[i] = static_cast<float>(x.row(r)[i] + sum[i]);
    }
  }

  void add(Mat in, Mat x) override {
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t i = 0; i < x.cols; ++i) x.row(r)[i] += in.row(r)[i];
    }
  }

  bool all_finite(Mat x) override {
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t i = 0; i < x.cols; ++i) {
        if (!std::isfinite(x.row(r)[i])) return false;
      }
    }
    return true;
  }

 private:
  static Status check_finite(const WeightSource& source, DType type, const std::byte* row, int64_t index) {
    const int64_t block = find_non_finite_block(type, row, source.cols);
    if (block < 0) return {};
    return make_error(ErrorCode::kNumeric, "%s: row %d, column %d: NaN or infinity among the weights", source.name,
                      index, block * dtype_info(type).block_length);
  }

  static void store_floats(const std::vector<float>& floats, DType type, std::byte* out) {
    for (size_t i = 0; i < floats.size(); ++i) {
      if (type == DType::kF32) {
        std::memcpy(out + i * sizeof(float), &floats[i], sizeof(float));
      } else {
        const uint16_t rounded = float_to_bf16(floats[i]);
        std::memcpy(out + i * sizeof(uint16_t), &rounded, sizeof(uint16_t));
      }
    }
  }

  // All heads of one row over keys [first_key, first_key + n_keys).
  static void attend_row(const float* q, const RefKv& store, int64_t n_heads, int64_t first_key, int64_t n_keys,
                         float* out) {
    const int64_t d = store.head_dim, heads_per_kv = n_heads / store.n_kv_heads;
    std::vector<double> p(static_cast<size_t>(n_keys)), sum(static_cast<size_t>(d));
    for (int64_t head = 0; head < n_heads; ++head) {
      const int64_t kv_head = head / heads_per_kv;
      softmax_scores(q + head * d, store, kv_head, first_key, p);  // p = softmax(q k^T / sqrt(d))
      std::fill(sum.begin(), sum.end(), 0);
      for (int64_t key = 0; key < n_keys; ++key) {
        const float* value = store.value(kv_head, first_key + key);
        for (int64_t j = 0; j < d; ++j) sum[static_cast<size_t>(j)] += p[static_cast<size_t>(key)] * value[j];
      }
      for (int64_t j = 0; j < d; ++j) out[head * d + j] = static_cast<float>(sum[static_cast<size_t>(j)]);
    }
  }

  static void softmax_scores(const float* query, const RefKv& store, int64_t kv_head, int64_t first_key,
                             std::vector<double>& p) {
    const double scale = 1 / std::sqrt(static_cast<double>(store.head_dim));
    double highest = -std::numeric_limits<double>::infinity();
    for (size_t key = 0; key < p.size(); ++key) {
      const float* k = store.key(kv_head, first_key + static_cast<int64_t>(key));
      double dot = 0;
      for (int64_t j = 0; j < store.head_dim; ++j) dot += static_cast<double>(query[j]) * k[j];
      p[key] = dot * scale;
      highest = std::max(highest, p[key]);
    }
    double total = 0;
    for (double& score : p) total += score = std::exp(score - highest);
    for (double& score : p) score /= total;
  }
};

}  // namespace

uint64_t Ops::available_bytes() const {
  return available_memory_bytes();
}

void Ops::upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels, float* backend) {
  std::array<float, 4096> piece;
  for (int64_t first = 0; first < n_floats; first += static_cast<int64_t>(piece.size())) {
    const int64_t n = std::min(static_cast<int64_t>(piece.size()), n_floats - first);
    for (int64_t i = 0; i < n; ++i) {
      piece[static_cast<size_t>(i)] = levels[(first + i) / run % 3 * 256 + bytes[first + i]];
    }
    upload(piece.data(), n, backend + first);
  }
}

std::unique_ptr<Ops> make_ref_ops() {
  return std::make_unique<RefOps>();
}

}  // namespace glimpse
