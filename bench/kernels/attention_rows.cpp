// Attention at the head shapes of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: one block of query rows of every head over all its
// keys.
#include <algorithm>
#include <cstring>

#include "bench/kernels/kernel_row.h"
#include "engine/base/aligned_buffer.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_int8.h"

namespace glimpse::bench {
namespace {

struct Shape {
  const char* name;
  int64_t head_dim, n_heads;  // key/value heads
  int64_t n_rows;             // query rows of one of them: tokens times the heads that share it
  std::vector<int64_t> n_keys;
};
const std::vector<Shape>& shapes() {
  static const std::vector<int64_t> context = {128, 512, 2048, 8192, 32768};
  static const std::vector<Shape> all = {
      {"vit", 80, 16, 64, {256, 1024, 4096, 5184, 16384}},
      {"2b/prefill", 128, 2, 60, context},
      {"2b/decode1", 128, 2, 6, context},
      {"2b/decode4", 128, 2, 24, context},
      {"7b/prefill", 128, 4, 63, context},
      {"7b/decode1", 128, 4, 7, context},
      {"7b/decode4", 128, 4, 28, context},
      {"vl25_vit/window", 80, 16, 64, {64}},
      {"vl25_3b/decode1", 128, 2, 8, {2048}},
      {"vl3_vit_m", 64, 16, 64, {1024, 4096}},
      {"vl3_vit_l", 72, 16, 64, {1024, 4096}},
      {"vl3_2b/prefill", 128, 8, 64, {2048}},
      {"vl3_2b/decode1", 128, 8, 2, {2048}},
      {"vl3_8b/prefill", 128, 8, 64, {2048}},
      {"vl3_8b/decode1", 128, 8, 4, {2048}},
      {"vl3_30b/decode1", 128, 4, 8, {2048}},
  };
  return all;
}

int64_t whole_blocks(int64_t n_keys) {
  return (n_keys + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
}

/// Query rows of one head with their running state.
struct Rows {
  int64_t n_rows, d;
  AlignedBuffer storage;
  AttentionState state;

  static Result<Rows> make(int64_t n_rows, int64_t d) {
    Rows rows{n_rows, d, {}, {}};
    GLIMPSE_ASSIGN(rows.storage, AlignedBuffer::allocate(
                                     static_cast<uint64_t>(2 * kMaxQueryRows + n_rows * d) * sizeof(float), "states"));
    float* const floats = rows.storage.as<float>();
    rows.state = {floats, floats + kMaxQueryRows, floats + 2 * kMaxQueryRows};
    return rows;
  }
};

class AttentionRun : public KernelRun {
 public:
  AttentionRun(const AttentionKernel& kernel, const Shape& shape, int64_t n_keys)
      : kernel_(kernel), shape_(shape), n_keys_(n_keys), d_(padded_head_dim(shape.head_dim)) {
    head_bytes_ = kv_head_bytes(kernel.element, shape.head_dim, whole_blocks(n_keys));
  }

  Status prepare(uint64_t rotate_bytes) {
    const auto n_heads = static_cast<uint64_t>(shape_.n_heads);
    n_copies_ = static_cast<int64_t>(std::max<uint64_t>(1, rotate_bytes / (2 * n_heads * head_bytes_) + 1));
    GLIMPSE_ASSIGN(kv_, AlignedBuffer::allocate(static_cast<uint64_t>(n_copies_) * n_heads * 2 * head_bytes_,
                                                "keys and values to measure with"));
    const std::vector<float> numbers = gaussian_numbers(256 * shape_.head_dim, 1);
    const Isa isa = detect_isa();  // the bits are the same
    for (int64_t first = 0; first < n_keys_; first += 256) {
      const int64_t n = std::min<int64_t>(256, n_keys_ - first);
      store_keys(isa, kernel_.element, numbers.data(), shape_.head_dim, n, shape_.head_dim, first, keys(0, 0));
      store_values(isa, kernel_.element, numbers.data(), shape_.head_dim, n, shape_.head_dim, first, values(0, 0));
    }
    GLIMPSE_ASSIGN(scratch_, AlignedBuffer::allocate(attention_scratch_bytes(d_), "scratch of a kernel"));
    const std::vector<float> q = gaussian_numbers(shape_.n_rows * shape_.head_dim, 2);
    if (kernel_.int8) {
      const SegmentQueries queries{q.data(), shape_.head_dim, shape_.n_rows, 1};
      estimate_int8(detect_isa(), queries, shape_.head_dim, n_keys_, keys(0, 0), values(0, 0), scratch_.data());
      quantize_segment(detect_isa(), shape_.head_dim, n_keys_, keys(0, 0), values(0, 0), scratch_.data());
    }
    for (uint64_t i = 1; i < static_cast<uint64_t>(n_copies_) * n_heads; ++i) {
      std::memcpy(kv_.data() + i * 2 * head_bytes_, kv_.data(), 2 * head_bytes_);
    }
    GLIMPSE_ASSIGN(queries_, AlignedBuffer::allocate(static_cast<uint64_t>(shape_.n_rows * d_) * 4, "queries"));
    std::vector<const float*> q_rows;
    for (int64_t r = 0; r < shape_.n_rows; ++r) q_rows.push_back(q.data() + r * shape_.head_dim);
    if (kernel_.int8) {
      prepare_queries_int8(detect_isa(), q_rows.data(), shape_.n_rows, shape_.head_dim, keys(0, 0), queries_.data());
    } else {
      prepare_queries(isa, kernel_.element, q_rows.data(), shape_.n_rows, shape_.head_dim, queries_.data());
    }
    GLIMPSE_ASSIGN(rows_, Rows::make(shape_.n_rows, d_));
    return {};
  }

  void run() override {
    for (int64_t head = 0; head < shape_.n_heads; ++head) attend(kernel_, head, n_keys_, rows_.state);
    copy_ = (copy_ + 1) % n_copies_;
  }

  double nmse() override {
    const int64_t n_keys = std::min<int64_t>(n_keys_, 1024);
    const std::vector<float> got = output(kernel_, n_keys);
    const std::vector<float> want = output(select_attention_kernel(kernel_.element, Isa::kRef, kernel_.int8), n_keys);
    return normalised_error(got.data(), want.data(), static_cast<int64_t>(want.size()));
  }

 private:
  std::byte* keys(int64_t copy, int64_t head) {
    return kv_.data() + static_cast<uint64_t>(copy * shape_.n_heads + head) * 2 * head_bytes_;
  }
  std::byte* values(int64_t copy, int64_t head) { return keys(copy, head) + head_bytes_; }

  void attend(const AttentionKernel& kernel, int64_t head, int64_t n_keys, const AttentionState& state) {
    reset_attention_state(state, shape_.n_rows, d_);
    int32_t visible[kMaxQueryRows];
    for (int64_t key = 0; key < n_keys; key += kKeyBlock) {
      std::fill_n(visible, shape_.n_rows, static_cast<int32_t>(std::min(kKeyBlock, n_keys - key)));
      kernel.run(queries_.data(), shape_.n_rows, d_, keys(copy_, head), values(copy_, head), key, visible, state,
                 scratch_.data());
    }
  }

  std::vector<float> output(const AttentionKernel& kernel, int64_t n_keys) {
    attend(kernel, 0, n_keys, rows_.state);
    std::vector<float> out(static_cast<size_t>(shape_.n_rows * shape_.head_dim));
    std::vector<float*> out_rows;
    for (int64_t r = 0; r < shape_.n_rows; ++r) out_rows.push_back(out.data() + r * shape_.head_dim);
    finish_attention(Isa::kRef, rows_.state, shape_.n_rows, shape_.head_dim, out_rows.data());
    return out;
  }

  const AttentionKernel& kernel_;
  const Shape shape_;
  const int64_t n_keys_, d_;
  uint64_t head_bytes_ = 0;
  int64_t n_copies_ = 1, copy_ = 0;
  AlignedBuffer kv_, queries_, scratch_;
  Rows rows_{0, 0, {}, {}};
};

Arithmetic arithmetic_of(const AttentionKernel& kernel) {
  if ((kernel.element == KvElement::kQ8_0 || kernel.int8) && kernel.isa != Isa::kRef) {
    return int8_arithmetic(kernel.isa);
  }
  if (kernel.isa.has(Isa::kAvx512Bf16)) return Arithmetic::kBf16;
  if (kernel.isa.has(Isa::kAvx512)) return Arithmetic::kFmaAvx512;
  return kernel.isa.has(Isa::kAvx2) ? Arithmetic::kFmaAvx2 : Arithmetic::kBaseline;
}

// Bytes that are read of a head's keys and values.
uint64_t panel_bytes_read(const AttentionKernel& kernel, int64_t head_dim, int64_t n_keys) {
  if (!kernel.int8) return 2 * kv_head_bytes(kernel.element, head_dim, n_keys);
  const int64_t d = padded_head_dim(head_dim);
  return static_cast<uint64_t>(int8_key_header_bytes(d) +
                               n_keys * (int8_key_block_bytes(d) + int8_value_block_bytes(d)) / kKeyBlock);
}

KernelRow attention_row(const AttentionKernel& kernel, const Shape& shape, int64_t n_keys) {
  KernelRow row;
  row.kernel = kernel.name;
  row.shape =
      format("%s/hd:%d/heads:%d/rows:%d/keys:%d", shape.name, shape.head_dim, shape.n_heads, shape.n_rows, n_keys);
  row.isa = kernel.isa;
  row.arithmetic = arithmetic_of(kernel);
  const auto n_dots = static_cast<double>(shape.n_heads * shape.n_rows * n_keys);
  row.flop = 4 * n_dots * static_cast<double>(shape.head_dim);
  const int64_t d = padded_head_dim(shape.head_dim);
  const uint64_t query_bytes =
      kernel.int8 ? static_cast<uint64_t>(int8_query_bytes(d)) : query_row_bytes(kernel.element, d);
  row.bytes = static_cast<double>(shape.n_heads) *
              static_cast<double>(panel_bytes_read(kernel, shape.head_dim, n_keys) +
                                  static_cast<uint64_t>(shape.n_rows) *
                                      (query_bytes + static_cast<uint64_t>(d) * sizeof(float)));
  row.prepare = [&kernel, shape, n_keys](uint64_t rotate_bytes) -> Result<std::unique_ptr<KernelRun>> {
    auto run = std::make_unique<AttentionRun>(kernel, shape, n_keys);
    GLIMPSE_TRY(run->prepare(rotate_bytes));
    return std::unique_ptr<KernelRun>(std::move(run));
  };
  return row;
}

// ------------------------------------------------------------------------------------------ storing keys and values

class StoreRun : public KernelRun {
 public:
  StoreRun(bool is_key, Isa isa, KvElement element, int64_t head_dim, int64_t n)
      : is_key_(is_key), isa_(isa), element_(element), head_dim_(head_dim), n_(n) {
    numbers_ = gaussian_numbers(n * head_dim, 1);
  }
  Status allocate() {
    GLIMPSE_ASSIGN(panels_, AlignedBuffer::allocate(kv_head_bytes(element_, head_dim_, whole_blocks(n_)), "panels"));
    return {};
  }
  void run() override { store(isa_); }
  double nmse() override {
    const std::vector<float> got = stored(isa_), want = stored(Isa::kRef);
    return normalised_error(got.data(), want.data(), n_ * head_dim_);
  }

 private:
  void store(Isa isa) {
    if (is_key_) {
      store_keys(isa, element_, numbers_.data(), head_dim_, n_, head_dim_, 0, panels_.data());
    } else {
      store_values(isa, element_, numbers_.data(), head_dim_, n_, head_dim_, 0, panels_.data());
    }
  }
  std::vector<float> stored(Isa isa) {
    store(isa);
    std::vector<float> out(numbers_.size());
    for (int64_t i = 0; i < n_; ++i) {
      float* const row = out.data() + i * head_dim_;
      if (is_key_) {
        load_key(element_, panels_.data(), head_dim_, i, row);
      } else {
        load_value(element_, panels_.data(), head_dim_, i, row);
      }
    }
    return out;
  }

  bool is_key_;
  Isa isa_;
  KvElement element_;
  int64_t head_dim_, n_;
  std::vector<float> numbers_;
  AlignedBuffer panels_;
};

void add_stores(std::vector<KernelRow>& rows) {
  for (const bool is_key : {true, false}) {
    for (const KvElement element : kKvElements) {
      for (const Isa isa : {Isa::kRef, Isa::kAvx2, Isa::kAvx512}) {
        if (element == KvElement::kQ8_0 && isa != Isa::kRef) continue;  // one piece of code for all
        for (const auto& [head_dim, n] : {std::pair<int64_t, int64_t>{80, 1024}, {128, 16}, {128, 512}}) {
          KernelRow row;
          row.kernel =
              format("%s_%s_%s", is_key ? "store_keys" : "store_values", kv_element_name(element), isa_name(isa));
          row.shape = format("hd:%d/n:%d", head_dim, n);
          row.isa = isa;
          row.bytes = static_cast<double>(static_cast<uint64_t>(n * head_dim) * sizeof(float) +
                                          kv_head_bytes(element, head_dim, n));
          row.prepare = [=, dim = head_dim, count = n](uint64_t) -> Result<std::unique_ptr<KernelRun>> {
            auto run = std::make_unique<StoreRun>(is_key, isa, element, dim, count);
            GLIMPSE_TRY(run->allocate());
            return std::unique_ptr<KernelRun>(std::move(run));
          };
          rows.push_back(std::move(row));
        }
      }
    }
  }
}

}  // namespace

std::vector<KernelRow> attention_rows() {
  std::vector<KernelRow> rows;
  for (const AttentionKernel& kernel : attention_kernels()) {
    for (const Shape& shape : shapes()) {
      for (const int64_t n_keys : shape.n_keys) {
        if (kernel.isa == Isa::kRef && n_keys > 2048) continue;  // seconds per run, and it would say the same
        rows.push_back(attention_row(kernel, shape, n_keys));
      }
    }
  }
  add_stores(rows);
  return rows;
}

}  // namespace glimpse::bench
