// Matrix products at the layer shapes of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.
#include <algorithm>
#include <cstring>

#include "bench/kernels/kernel_row.h"
#include "engine/base/aligned_buffer.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/weight_row.h"
#include "kernels/quant/quant.h"
#include "kernels/quant/random_blocks.h"

namespace glimpse::bench {
namespace {

struct Shape {
  const char* name;
  int64_t rows, cols;  // out features, in features
};
struct ShapeSet {
  const char* name;
  std::vector<Shape> shapes;
  std::vector<int64_t> columns;  // tokens, patches
};

// What a pass multiplies: q, k and v side by side, gate and up side by side.
const std::vector<ShapeSet>& shape_sets() {
  static const std::vector<int64_t> tokens = {1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  static const std::vector<int64_t> few_tokens = {1, 512}, patches = {1024};
  static const std::vector<ShapeSet> sets = {
      {"2b",
       {{"qkv", 2048, 1536}, {"o", 1536, 1536}, {"gate_up", 17920, 1536}, {"down", 1536, 8960}, {"head", 151936, 1536}},
       tokens},
      {"7b",
       {{"qkv", 4608, 3584},
        {"o", 3584, 3584},
        {"gate_up", 37888, 3584},
        {"down", 3584, 18944},
        {"head", 152064, 3584}},
       tokens},
      {"vit",
       {{"patch", 1280, 588}, {"qkv", 3840, 1280}, {"o", 1280, 1280}, {"up", 5120, 1280}, {"down", 1280, 5120}},
       {256, 1024, 4096, 5184, 16384}},
      // Qwen2.5-VL 3B; its 7B is the 7b above. Rows of 3420 are no whole block.
      {"vl25_3b",
       {{"qkv", 2560, 2048},
        {"o", 2048, 2048},
        {"gate_up", 22016, 2048},
        {"down", 2048, 11008},
        {"head", 151936, 2048}},
       few_tokens},
      {"vl25_vit", {{"gate_up", 6840, 1280}, {"down", 1280, 3420}, {"mm2_3b", 2048, 5120}}, patches},
      // Qwen3-VL 2B, 4B, 8B and 30B-A3B: of the last, one expert.
      {"vl3_2b", {{"qkv", 4096, 2048}, {"gate_up", 12288, 2048}, {"down", 2048, 6144}}, few_tokens},
      {"vl3_4b",
       {{"qkv", 6144, 2560}, {"o", 2560, 4096}, {"gate_up", 19456, 2560}, {"down", 2560, 9728}, {"head", 151936, 2560}},
       few_tokens},
      {"vl3_8b",
       {{"qkv", 6144, 4096},
        {"o", 4096, 4096},
        {"gate_up", 24576, 4096},
        {"down", 4096, 12288},
        {"head", 151936, 4096}},
       few_tokens},
      {"vl3_30b",
       {{"qkv", 5120, 2048},
        {"o", 2048, 4096},
        {"router", 128, 2048},
        {"expert_gate_up", 1536, 2048},
        {"expert_down", 2048, 768}},
       few_tokens},
      {"vl3_vit_m",
       {{"patch", 1024, 768},
        {"qkv", 3072, 1024},
        {"o", 1024, 1024},
        {"up", 4096, 1024},
        {"down", 1024, 4096},
        {"mm0", 4096, 4096},
        {"mm2_2b", 2048, 4096},
        {"mm2_4b", 2560, 4096}},
       patches},
      {"vl3_vit_l",
       {{"patch", 1152, 768},
        {"qkv", 3456, 1152},
        {"o", 1152, 1152},
        {"up", 4304, 1152},
        {"down", 1152, 4304},
        {"mm0", 4608, 4608},
        {"mm2_8b", 4096, 4608}},
       patches},
      {"merger", {{"mm0", 5120, 5120}, {"mm2_2b", 1536, 5120}, {"mm2_7b", 3584, 5120}}, {64, 256, 1024, 1296, 4096}},
  };
  return sets;
}

constexpr int64_t kMostColumns = 512;  // of one call: a decoder's batch

// The engine's own cut: many panels a call when there are few columns, four when there are many (cpu_ops_linear.cpp).
int64_t panels_per_call(int64_t n_columns) {
  return std::clamp<int64_t>(256 / std::max<int64_t>(1, n_columns), 4, 16);
}

/// A packed matrix, several times over. All panels hold the same 16 rows of quantised gaussian numbers: what is
/// multiplied does not change the time, where it lies does.
struct Weights {
  PanelMatrix matrix;  // the first copy
  int64_t n_copies = 1;
  uint64_t rotate_bytes = 0;  // asked for
  AlignedBuffer storage;

  const std::byte* panel(int64_t copy, int64_t index) const {
    return matrix.data + static_cast<uint64_t>(copy * matrix.n_panels() + index) * matrix.panel_bytes;
  }
};

Result<std::shared_ptr<Weights>> make_weights(PanelFormat format, int64_t rows, int64_t cols, uint64_t rotate_bytes) {
  auto weights = std::make_shared<Weights>();
  weights->matrix = {format, rows, cols, panel_bytes(format, cols), nullptr};
  weights->rotate_bytes = rotate_bytes;
  const auto n_panels = static_cast<uint64_t>(weights->matrix.n_panels());
  const uint64_t copy_bytes = n_panels * weights->matrix.panel_bytes;
  const uint64_t n_copies = std::max<uint64_t>(1, (rotate_bytes + copy_bytes - 1) / copy_bytes);
  weights->n_copies = static_cast<int64_t>(n_copies);
  GLIMPSE_ASSIGN(weights->storage, AlignedBuffer::allocate(n_copies * copy_bytes, "weights to measure with"));
  weights->matrix.data = weights->storage.data();

  const uint64_t row_bytes = panel_row_bytes(format, cols);
  std::vector<std::byte> blocks(kPanelRows * row_bytes);
  const std::vector<float> numbers = gaussian_numbers(kPanelRows * cols, 1);
  std::vector<std::byte> scratch(is_float_row_target(format) ? float_row_scratch_bytes(format, cols) : 0);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    std::byte* const row = blocks.data() + static_cast<uint64_t>(r) * row_bytes;
    if (is_float_row_target(format)) {
      float_row(Isa::kRef, format, numbers.data() + r * cols, cols, row, scratch.data());
    } else if (!can_quantize(format)) {
      random_blocks(format, static_cast<uint64_t>(r), cols, row);
    } else {
      quantize_row_ref(format, numbers.data() + r * cols, row, cols, nullptr);
    }
  }
  pack_panel(format, blocks.data(), row_bytes, kPanelRows, cols, weights->storage.data());
  for (uint64_t i = 1; i < n_copies * n_panels; ++i) {
    std::memcpy(weights->storage.data() + i * weights->matrix.panel_bytes, weights->storage.data(),
                weights->matrix.panel_bytes);
  }
  return weights;
}

// Rows that differ in the number of columns share their weights: half a gigabyte is not filled anew for each.
using LastWeights = std::shared_ptr<std::shared_ptr<Weights>>;

Result<std::shared_ptr<Weights>> take_weights(const LastWeights& last, PanelFormat format, int64_t rows, int64_t cols,
                                              uint64_t rotate_bytes) {
  const Weights* const old = last->get();
  if (old == nullptr || old->matrix.format != format || old->matrix.rows != rows || old->matrix.cols != cols ||
      old->rotate_bytes != rotate_bytes) {
    last->reset();  // before the next are allocated
    GLIMPSE_ASSIGN(*last, make_weights(format, rows, cols, rotate_bytes));
  }
  return *last;
}

/// n columns of activations in one format; there are 16 different ones.
struct Columns {
  ActView view;
  AlignedBuffer storage;
};
Result<Columns> make_columns(ActFormat format, Isa isa, int64_t n, int64_t k) {
  Columns columns;
  GLIMPSE_ASSIGN(columns.storage, AlignedBuffer::allocate(act_bytes(format, n, k), "activations to measure with"));
  columns.view = make_act_view(format, n, k, columns.storage.data());
  const std::vector<float> numbers = gaussian_numbers(std::min<int64_t>(n, 16) * k, 2);
  for (int64_t c = 0; c < n; ++c) quantize_act_row(isa, columns.view, c, numbers.data() + c % 16 * k);
  return columns;
}

class MatmulRun : public KernelRun {
 public:
  MatmulRun(const PanelKernel& kernel, std::shared_ptr<Weights> weights, Columns columns)
      : kernel_(kernel), weights_(std::move(weights)), columns_(std::move(columns)) {}

  Status allocate() {
    const auto tile = static_cast<uint64_t>(kMostColumns * 16 * kPanelRows) * sizeof(float);
    GLIMPSE_ASSIGN(tile_, AlignedBuffer::allocate(tile, "a tile of results"));
    GLIMPSE_ASSIGN(scratch_, AlignedBuffer::allocate(panel_scratch_bytes(kernel_.format, columns_.view.k) + 64,
                                                     "scratch of a kernel"));
    return {};
  }

  void run() override {
    const PanelMatrix& matrix = weights_->matrix;
    for (int64_t first = 0; first < columns_.view.n; first += kMostColumns) {
      const ActView act = act_columns(columns_.view, first, std::min<int64_t>(kMostColumns, columns_.view.n - first));
      const int64_t step = panels_per_call(act.n);
      for (int64_t panel = 0; panel < matrix.n_panels(); panel += step) {
        const int64_t n_panels = std::min(step, matrix.n_panels() - panel);
        kernel_.run(weights_->panel(copy_, panel), matrix.panel_bytes, n_panels, act, tile_.as<float>(),
                    n_panels * kPanelRows, scratch_.data());
      }
    }
    copy_ = (copy_ + 1) % weights_->n_copies;
  }

  double nmse() override {
    const PanelKernel& reference = select_panel_kernel(kernel_.format, Isa::kRef);
    const int64_t n = std::min<int64_t>(4, columns_.view.n), n_results = n * kPanelRows;
    Result<Columns> wanted = make_columns(reference.act, Isa::kRef, n, columns_.view.k);
    if (!wanted.ok()) return 1;
    std::vector<float> got(static_cast<size_t>(n_results)), want(got.size());
    const PanelMatrix& matrix = weights_->matrix;
    kernel_.run(matrix.data, matrix.panel_bytes, 1, act_columns(columns_.view, 0, n), got.data(), kPanelRows,
                scratch_.data());
    reference.run(matrix.data, matrix.panel_bytes, 1, wanted->view, want.data(), kPanelRows, scratch_.data());
    return normalised_error(got.data(), want.data(), n_results);
  }

 private:
  const PanelKernel& kernel_;
  std::shared_ptr<Weights> weights_;
  Columns columns_;
  AlignedBuffer tile_, scratch_;
  int64_t copy_ = 0;
};

Arithmetic arithmetic_of(const PanelKernel& kernel) {
  if (kernel.isa == Isa::kRef) return Arithmetic::kBaseline;
  if (kernel.act == ActFormat::kBf16) return Arithmetic::kBf16;
  if (kernel.act != ActFormat::kF32) return int8_arithmetic(kernel.isa);
  return kernel.isa.has(Isa::kAvx512) ? Arithmetic::kFmaAvx512 : Arithmetic::kFmaAvx2;
}

KernelRow matmul_row(const PanelKernel& kernel, const char* set, const Shape& shape, int64_t n,
                     const LastWeights& last) {
  KernelRow row;
  row.kernel = kernel.name;
  row.shape = format("%s/%s_%dx%d/n:%d", set, shape.name, shape.rows, shape.cols, n);
  row.isa = kernel.isa;
  row.arithmetic = arithmetic_of(kernel);
  row.flop = 2.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.cols) * static_cast<double>(n);
  const int64_t n_panels = (shape.rows + kPanelRows - 1) / kPanelRows;
  row.bytes = static_cast<double>(static_cast<uint64_t>(n_panels) * panel_bytes(kernel.format, shape.cols) +
                                  act_bytes(kernel.act, n, shape.cols)) +
              4.0 * static_cast<double>(shape.rows) * static_cast<double>(n);
  row.prepare = [&kernel, shape, n, last](uint64_t rotate_bytes) -> Result<std::unique_ptr<KernelRun>> {
    GLIMPSE_ASSIGN(std::shared_ptr<Weights> weights,
                   take_weights(last, kernel.format, shape.rows, shape.cols, rotate_bytes));
    GLIMPSE_ASSIGN(Columns columns, make_columns(kernel.act, kernel.isa, n, shape.cols));
    auto run = std::make_unique<MatmulRun>(kernel, std::move(weights), std::move(columns));
    GLIMPSE_TRY(run->allocate());
    return std::unique_ptr<KernelRun>(std::move(run));
  };
  return row;
}

// The references show what a kernel gains; a thousand columns of them would take minutes and say the same.
bool is_worth_measuring(const PanelKernel& kernel, const ShapeSet& set, int64_t n) {
  return kernel.isa != Isa::kRef || (std::strcmp(set.name, "2b") == 0 && (n == 1 || n == 8));
}

// ------------------------------------------------------------------------------------- conversion of activations

class ConvertRun : public KernelRun {
 public:
  ConvertRun(Isa isa, Columns columns) : isa_(isa), columns_(std::move(columns)) {
    numbers_ = gaussian_numbers(columns_.view.n * columns_.view.k, 3);
  }
  void run() override {
    for (int64_t c = 0; c < columns_.view.n; ++c) {
      quantize_act_row(isa_, columns_.view, c, numbers_.data() + c * columns_.view.k);
    }
  }
  // Every instruction set writes the same bits: 0 or the share of bytes that differ.
  double nmse() override {
    run();
    const std::vector<std::byte> got(columns_.storage.data(), columns_.storage.data() + columns_.storage.size());
    for (int64_t c = 0; c < columns_.view.n; ++c) {
      quantize_act_row(Isa::kRef, columns_.view, c, numbers_.data() + c * columns_.view.k);
    }
    double n_different = 0;
    for (size_t i = 0; i < got.size(); ++i) n_different += got[i] != columns_.storage.data()[i];
    return n_different / static_cast<double>(got.size());
  }

 private:
  Isa isa_;
  Columns columns_;
  std::vector<float> numbers_;
};

void add_conversions(std::vector<KernelRow>& rows) {
  struct Format {
    ActFormat format;
    const char* name;
  };
  constexpr Format kFormats[] = {{ActFormat::kF32, "f32"},
                                 {ActFormat::kBf16, "bf16"},
                                 {ActFormat::kInt8x32, "int8x32"},
                                 {ActFormat::kInt8x32Mixed, "int8x32mixed"},
                                 {ActFormat::kInt8x128K, "int8x128k"}};
  constexpr int64_t kColumns = 64;
  for (const Format& f : kFormats) {
    for (const Isa isa : {Isa::kRef, Isa::kAvx2, Isa::kAvx512}) {
      for (const int64_t k : {1280, 1536, 3584, 8960, 18944}) {
        KernelRow row;
        row.kernel = format("quantize_act_%s_%s", f.name, isa_name(isa));
        row.shape = format("k:%d/n:%d", k, kColumns);
        row.isa = isa;
        row.bytes = static_cast<double>(act_bytes(f.format, kColumns, k)) + 4.0 * static_cast<double>(kColumns * k);
        row.prepare = [f, isa, k](uint64_t) -> Result<std::unique_ptr<KernelRun>> {
          GLIMPSE_ASSIGN(Columns columns, make_columns(f.format, isa, kColumns, k));
          return std::unique_ptr<KernelRun>(std::make_unique<ConvertRun>(isa, std::move(columns)));
        };
        rows.push_back(std::move(row));
      }
    }
  }
}

}  // namespace

std::vector<KernelRow> matmul_rows() {
  std::vector<KernelRow> rows;
  const LastWeights last = std::make_shared<std::shared_ptr<Weights>>();
  for (const PanelKernel& kernel : panel_kernels()) {
    const int64_t block = kernel.format == PanelFormat::kI8x32 ? 1 : panel_row_format(kernel.format).block_length;
    for (const ShapeSet& set : shape_sets()) {
      for (const Shape& shape : set.shapes) {
        if (shape.cols % block != 0) continue;  // no file can have it
        for (const int64_t n : set.columns) {
          if (is_worth_measuring(kernel, set, n)) rows.push_back(matmul_row(kernel, set.name, shape, n, last));
        }
      }
    }
  }
  add_conversions(rows);
  return rows;
}

}  // namespace glimpse::bench
