// Functions on rows of numbers: each is measured on the rows of a prefill. They wait for memory, so that bytes alone
// are counted.
#include <cmath>
#include <cstring>

#include "bench/kernels/kernel_row.h"
#include "engine/base/dtype.h"
#include "kernels/activation/activation.h"
#include "kernels/matmul/panel.h"
#include "kernels/norm/norm.h"
#include "kernels/quant/quant.h"
#include "kernels/quant/random_blocks.h"
#include "kernels/rope/rope.h"

namespace glimpse::bench {
namespace {

constexpr int64_t kRows = 64;
constexpr float kEpsilon = 1e-6f;

/// Operands of one row of n numbers.
struct Operands {
  const float *x, *y, *weight, *bias;
  float* out;
  int64_t n;
};
using RowFn = void (*)(Isa isa, const Operands& o);

// What works in place gets a copy of its row first, which counts: run on its own result again and again it would end in
// zeros and denormals.
template <Activation activation>
void on_copy(Isa isa, const Operands& o) {
  std::memcpy(o.out, o.x, static_cast<size_t>(o.n) * sizeof(float));
  store_tile(isa, {o.out, o.n, o.n, 1, nullptr}, activation, o.out, o.n);
}

struct RowFunction {
  const char* name;
  RowFn run;
  int n_operands;  // rows of n floats that are read or written
  std::vector<int64_t> sizes;
};

constexpr int64_t kHeadDim = 128;

const std::vector<RowFunction>& row_functions() {
  static const std::vector<int64_t> model = {1536, 3584}, vision = {1280, 5120}, inner = {8960, 18944};
  static const std::vector<RowFunction> functions = {
      {"rms_norm", [](Isa isa, const Operands& o) { rms_norm(isa, o.x, o.weight, kEpsilon, o.n, o.out); }, 2, model},
      {"layer_norm", [](Isa isa, const Operands& o) { layer_norm(isa, o.x, o.weight, o.bias, kEpsilon, o.n, o.out); },
       2, vision},
      {"rope_head",
       [](Isa isa, const Operands& o) {  // rotating again changes no magnitude
         for (int64_t i = 0; i + kHeadDim <= o.n; i += kHeadDim) {
           rope_head(isa, o.out + i, o.weight, o.bias, kHeadDim);
         }
       },
       2, model},
      {"swiglu", [](Isa isa, const Operands& o) { swiglu(isa, o.x, o.y, o.n, o.out); }, 3, inner},
      {"quick_gelu", on_copy<Activation::kQuickGelu>, 2, vision},
      {"gelu_erf", on_copy<Activation::kGeluErf>, 2, vision},
      {"gelu_tanh", on_copy<Activation::kGeluTanh>, 2, vision},
      {"silu", on_copy<Activation::kSilu>, 2, vision},
      {"add", [](Isa isa, const Operands& o) { add(isa, o.x, o.n, o.out); }, 3, model},
  };
  return functions;
}

class RowRun : public KernelRun {
 public:
  RowRun(RowFn function, Isa isa, int64_t n)
      : function_(function),
        isa_(isa),
        n_(n),
        x_(gaussian_numbers(kRows * n, 1)),
        y_(gaussian_numbers(kRows * n, 2)),
        weight_(static_cast<size_t>(n)),
        bias_(weight_.size()),
        out_(x_) {
    for (size_t i = 0; i < weight_.size(); ++i) {  // cosines and sines, for the rotation's sake
      weight_[i] = std::cos(0.1f * static_cast<float>(i));
      bias_[i] = std::sin(0.1f * static_cast<float>(i));
    }
  }
  void run() override { run_as(isa_); }
  double nmse() override {
    out_ = x_;
    run_as(isa_);
    const std::vector<float> got = out_;
    out_ = x_;
    run_as(Isa::kRef);
    return normalised_error(got.data(), out_.data(), kRows * n_);
  }

 private:
  void run_as(Isa isa) {
    for (int64_t r = 0; r < kRows; ++r) {
      function_(isa, {x_.data() + r * n_, y_.data() + r * n_, weight_.data(), bias_.data(), out_.data() + r * n_, n_});
    }
  }

  RowFn function_;
  Isa isa_;
  int64_t n_;
  std::vector<float> x_, y_, weight_, bias_, out_;
};

// ----------------------------------------------------------------------------------------------- formats of weights

enum class Conversion { kQuantize, kDequantize, kDequantizePanel };

class ConversionRun : public KernelRun {
 public:
  ConversionRun(Conversion conversion, DType type, int64_t n)
      : conversion_(conversion),
        type_(type),
        n_(n),
        row_bytes_(dtype_row_bytes(type, static_cast<uint64_t>(n))),
        numbers_(gaussian_numbers(kPanelRows * n, 1)),
        floats_(numbers_.size()),
        blocks_(kPanelRows * row_bytes_),
        panel_(panel_bytes(type, n)) {
    quantize();
    pack_panel(type, blocks_.data(), row_bytes_, kPanelRows, n, panel_.data());
  }
  void run() override {
    if (conversion_ == Conversion::kQuantize) return quantize();
    if (conversion_ == Conversion::kDequantize) return dequantize(floats_);
    const PanelMatrix matrix{type_, kPanelRows, n_, panel_.size(), panel_.data()};
    for (int64_t r = 0; r < kPanelRows; ++r) dequantize_panel_row(matrix, r, floats_.data() + r * n_);
  }
  // Of the quantiser: against the numbers themselves. Of the others: against what the blocks say.
  double nmse() override {
    run();
    std::vector<float> want(floats_.size());
    dequantize(want);
    if (conversion_ == Conversion::kQuantize) {
      return normalised_error(want.data(), numbers_.data(), static_cast<int64_t>(want.size()));
    }
    return normalised_error(floats_.data(), want.data(), static_cast<int64_t>(want.size()));
  }

 private:
  void quantize() {
    if (!can_quantize(type_)) return random_blocks(type_, 1, kPanelRows * n_, blocks_.data());
    for (int64_t r = 0; r < kPanelRows; ++r) {
      quantize_row_ref(type_, numbers_.data() + r * n_, blocks_.data() + static_cast<uint64_t>(r) * row_bytes_, n_,
                       nullptr);
    }
  }
  void dequantize(std::vector<float>& out) const {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      dequantize_row_ref(type_, blocks_.data() + static_cast<uint64_t>(r) * row_bytes_, out.data() + r * n_, n_);
    }
  }

  Conversion conversion_;
  DType type_;
  int64_t n_;
  uint64_t row_bytes_;
  std::vector<float> numbers_, floats_;
  std::vector<std::byte> blocks_, panel_;
};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

void add_conversions(std::vector<KernelRow>& rows) {
  struct Entry {
    Conversion conversion;
    const char* name;
  };
  constexpr Entry kEntries[] = {{Conversion::kQuantize, "quantize_row"},
                                {Conversion::kDequantize, "dequantize_row"},
                                {Conversion::kDequantizePanel, "dequantize_panel_row"}};
  static constexpr int64_t kLength = 1536;  // a token's embedding
  for (const Entry& entry : kEntries) {
    for (uint32_t id = 0; id < 64; ++id) {
      const DTypeInfo* const info = find_dtype(id);
      if (info == nullptr || !is_weight_type(info->type)) continue;
      if (entry.conversion == Conversion::kQuantize && !can_quantize(info->type)) continue;
      KernelRow row;
      row.kernel = format("%s_%s_ref", entry.name, lower(info->name));
      row.shape = format("k:%d/n:%d", kLength, kPanelRows);
      row.bytes =
          static_cast<double>(kPanelRows) * static_cast<double>(dtype_row_bytes(info->type, kLength) + 4 * kLength);
      row.prepare = [entry, info](uint64_t) -> Result<std::unique_ptr<KernelRun>> {
        return std::unique_ptr<KernelRun>(std::make_unique<ConversionRun>(entry.conversion, info->type, kLength));
      };
      rows.push_back(std::move(row));
    }
  }
}

}  // namespace

std::vector<KernelRow> elementwise_rows() {
  std::vector<KernelRow> rows;
  for (const RowFunction& function : row_functions()) {
    for (const ActivationKernels& kernels : activation_kernels()) {  // norms and rotation have the same
      const Isa isa = kernels.isa;
      for (const int64_t n : function.sizes) {
        KernelRow row;
        row.kernel = format("%s_%s", function.name, isa_name(isa));
        row.shape = format("d:%d/n:%d", n, kRows);
        row.isa = isa;
        row.bytes = 4.0 * static_cast<double>(function.n_operands * kRows * n);
        row.prepare = [run = function.run, isa, n](uint64_t) -> Result<std::unique_ptr<KernelRun>> {
          return std::unique_ptr<KernelRun>(std::make_unique<RowRun>(run, isa, n));
        };
        rows.push_back(std::move(row));
      }
    }
  }
  add_conversions(rows);
  return rows;
}

}  // namespace glimpse::bench
