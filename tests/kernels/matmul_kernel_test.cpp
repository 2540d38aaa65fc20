// Every line of matmul_kernels.inc is put through every test here; lines that this CPU cannot run are skipped visibly.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <ostream>
#include <set>

#include "engine/base/cpu_features.h"
#include "kernels/matmul/matmul.h"
#include "tests/kernels/panel_test_util.h"

namespace glimpse {
static void PrintTo(const PanelKernel& kernel, std::ostream* out) {
  *out << kernel.name;
}
}  // namespace glimpse

namespace glimpse::test {
namespace {

constexpr float kGuard = -12345.5f;

/// Activations converted by the reference, with the floats they came from.
struct Activations {
  ActView view;
  AlignedBuffer storage;
  std::vector<float> x;  // (n, k)
};

/// Values that share a scale.
int64_t act_block(ActFormat format) {
  return format == ActFormat::kInt8x128K ? 128 : 32;
}

Activations make_activations(ActFormat format, int64_t n, int64_t k, bool exact, uint32_t seed) {
  Activations a;
  a.storage = allocate(act_bytes(format, n, k));
  a.view = make_act_view(format, n, k, a.storage.data());
  a.x.resize(static_cast<uint64_t>(n * k));
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  for (int64_t i = 0; i < n * k; ++i) {
    // exact: integers, the largest 127 in every block, so that the scale is 1 and nothing is rounded; the others small
    // enough for sums below 2^24
    const int block = static_cast<int>(act_block(format)), small = block == 32 ? 15 : 3;
    a.x[i] = gauss(random);
    if (exact)
      a.x[i] = i % k % block == 5 ? 127.0f : static_cast<float>(static_cast<int>(random() % (2 * small + 1)) - small);
  }
  if (exact && format == ActFormat::kInt8x32Mixed) {  // what becomes these when it is mixed; short blocks cannot
    for (int64_t first = 0; first < n * k; first += k) {
      for (int64_t i = first; i < first + k; i += 32) {
        const bool whole = i + 32 <= first + k;
        for (int64_t j = i; j < std::min(i + 32, first + k); ++j) a.x[j] *= whole ? 2.0f : 0.0f;
        if (whole) unmix_block(a.x.data() + i);
      }
    }
  }
  for (int64_t c = 0; c < n; ++c) quantize_act_ref(a.view, c, a.x.data() + c * k);
  return a;
}

/// The values that the kernel sees: what the record of a column stands for.
std::vector<double> seen_values(const ActView& view, int64_t column) {
  const std::byte* record = view.data + column * view.row_bytes;
  const int64_t k = view.format == ActFormat::kInt8x32Mixed ? view.k_padded : view.k;
  std::vector<double> values(static_cast<uint64_t>(k));
  for (int64_t i = 0; i < k; ++i) {
    if (view.format == ActFormat::kF32) {
      float v;
      std::memcpy(&v, record + 4 * i, 4);
      values[i] = v;
    } else if (view.format == ActFormat::kBf16) {
      uint16_t v;
      std::memcpy(&v, record + 2 * i, 2);
      values[i] = bf16_to_float(v);
    } else {
      float scale;
      std::memcpy(&scale, record + view.scales_at + i / act_block(view.format) * 4, 4);
      values[i] = static_cast<double>(scale) * static_cast<int8_t>(record[i]);
    }
  }
  return values;
}

class MatmulKernel : public testing::TestWithParam<PanelKernel> {
 protected:
  void SetUp() override {
    if (!detect_isa().has(GetParam().isa)) GTEST_SKIP() << "this CPU lacks " << isa_name(GetParam().isa);
  }
  bool integer() const { return !is_float_type(GetParam().format); }
  std::vector<int64_t> depths() const {
    const auto block = panel_row_format(GetParam().format).block_length;
    if (block == 1) return {1, 2, 37, 588, 1025};
    if (GetParam().format == PanelFormat::kI8x32) return {32, 588, 53 * 32};
    if (block == 32) return {32, 96, 53 * 32};
    return {256, 3 * 256, 7 * 256};
  }
  /// More than one piece of an expanded panel (panel_expanded.h), and no multiple of one.
  int64_t some_depth() const { return integer() ? 1792 : 603; }

  /// Runs the kernel on panels [first, first + n_panels) with guards around outputs and scratch.
  /// Returns (n, 16 * n_panels).
  std::vector<float> run(const PanelMatrix& m, int64_t first, int64_t n_panels, const ActView& act) const {
    const int64_t width = 16 * n_panels, ld = width + 3;
    std::vector<float> out(static_cast<uint64_t>(act.n * ld + 16), kGuard);
    const uint64_t n_scratch = panel_scratch_bytes(m.format, m.cols);
    EXPECT_EQ(n_scratch % 64, 0u);
    AlignedBuffer scratch = allocate(n_scratch + 64);
    std::memset(scratch.data(), 0xa5, n_scratch + 64);
    GetParam().run(m.data + static_cast<uint64_t>(first) * m.panel_bytes, m.panel_bytes, n_panels, act, out.data() + 5,
                   ld, scratch.data());
    for (uint64_t i = 0; i < 64; ++i)
      EXPECT_EQ(scratch.data()[n_scratch + i], std::byte{0xa5}) << "scratch guard " << i;
    std::vector<float> result;
    for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
      const int64_t at = i - 5;
      if (at >= 0 && at / ld < act.n && at % ld < width) {
        result.push_back(out[i]);
      } else if (out[i] != kGuard) {
        ADD_FAILURE() << "wrote outside its outputs, at float " << at;
        break;
      }
    }
    return result;
  }

  /// y and the sum of |products| of every output element in double precision, from the format's formula.
  void reference(const PackedMatrix& m, const ActView& act, std::vector<double>& y,
                 std::vector<double>& magnitude) const {
    const int64_t width = m.matrix.n_panels() * 16;
    y.assign(static_cast<uint64_t>(act.n * width), 0);
    magnitude = y;
    std::vector<std::vector<double>> columns;
    for (int64_t c = 0; c < act.n; ++c) columns.push_back(seen_values(act, c));
    // Mixed values behind the end of a row are no zeros.
    const int64_t k = act.format == ActFormat::kInt8x32Mixed ? (act.k + 31) / 32 * 32 : act.k;
    for (int64_t r = 0; r < m.matrix.rows; ++r) {
      const std::vector<float> w =
          dequantize(m.matrix.format, m.rows.data() + static_cast<uint64_t>(r) * m.row_bytes, k);
      for (int64_t c = 0; c < act.n; ++c) {
        double sum = 0, absolute = 0;
        for (int64_t i = 0; i < k; ++i) {
          const double product = w[i] * columns[c][i];
          sum += product;
          absolute += std::abs(product);
        }
        y[c * width + r] = sum;
        magnitude[c * width + r] = absolute;
      }
    }
  }

  static double nmse(const std::vector<float>& got, const std::vector<double>& want) {
    double error = 0, power = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      error += (got[i] - want[i]) * (got[i] - want[i]);
      power += want[i] * want[i];
    }
    return power == 0 ? error : error / power;
  }

  /// Float operations of a reduction's chain: with integers, at most three for each 16 columns and four for each part.
  int64_t chain_length(int64_t k) const { return integer() ? k / 16 * 3 + 4 : k + 2; }
  /// Squared error of a reduction over the square of its result, as far as it comes from rounding: each operation of
  /// the chain errs by at most 2^-24 of a partial sum, in no common direction, and partial sums are on average no
  /// larger than the result.
  double rounding_nmse(int64_t k) const { return 0x1p-48 * static_cast<double>(chain_length(k)); }
  /// The same as far as it comes from the conversion of these activations: a value errs by a uniform part of a step,
  /// whose mean square is step^2 / 12. Steps: the scale of an int8 block; of a bfloat16 number 2^-7 of its power of
  /// two; F32 has none. (Over n outputs the figure scatters by sqrt(4 / n): 12 % for the 9 x 32 of the test that allows
  /// 50 %.)
  static double conversion_nmse(const Activations& a) {
    double error = 0, power = 0;
    const double gain = a.view.format == ActFormat::kInt8x32Mixed ? 0.5 : 1;  // mix_block() shortens by sqrt(2)
    for (int64_t c = 0; c < a.view.n; ++c) {
      for (int64_t i = 0; i < a.view.k; ++i) {
        const double x = a.x[c * a.view.k + i];
        double step = 0;
        if (a.view.format == ActFormat::kBf16) {
          step = x == 0 ? 0 : std::exp2(std::floor(std::log2(std::abs(x))) - 7);
        } else if (a.view.format != ActFormat::kF32) {
          float scale;
          std::memcpy(&scale, a.view.data + c * a.view.row_bytes + a.view.scales_at + i / act_block(a.view.format) * 4,
                      4);
          step = scale;
        }
        error += step * step / 12;
        power += gain * x * x;
      }
    }
    return error / power;
  }

  /// Rounding of one reduction: at most one unit per float operation of the chain.
  void expect_close(const std::vector<float>& got, const std::vector<double>& want,
                    const std::vector<double>& magnitude, int64_t k) const {
    ASSERT_EQ(got.size(), want.size());
    const double unit = 0x1p-24 * static_cast<double>(chain_length(k));
    for (size_t i = 0; i < got.size(); ++i) {
      // Weights of formats with mins are differences: their own terms may be larger than they are.
      const double bound = (integer() ? 16 : 1) * unit * magnitude[i] + 1e-30;
      ASSERT_LE(std::abs(got[i] - want[i]), bound) << "element " << i << " got " << got[i] << " want " << want[i];
    }
  }
};

TEST_P(MatmulKernel, EqualsTheExactSumWhenScalesArePowersOfTwo) {
  for (const int64_t k : depths()) {
    for (const int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 20}) {
      const PackedMatrix m = pack_matrix(GetParam().format, 33, k, Fill::kPowersOfTwo, static_cast<uint32_t>(k));
      const Activations a = make_activations(GetParam().act, n, k, true, 3);
      std::vector<double> want, magnitude;
      reference(m, a.view, want, magnitude);
      const std::vector<float> got = run(m.matrix, 0, m.matrix.n_panels(), a.view);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_LT(magnitude[i], 0x1p24) << "the test itself would round";
        ASSERT_EQ(got[i], want[i]) << "k " << k << " n " << n << " column " << i / 48 << " row " << i % 48;
      }
    }
  }
}

TEST_P(MatmulKernel, MatchesDoublePrecisionOnTheSameActivations) {
  for (const int64_t k : depths()) {
    for (const int64_t rows : {1, 15, 16, 17, 40}) {
      const int64_t n = rows == 40 ? 21 : rows == 16 ? 3 : 1;
      const PackedMatrix m = pack_matrix(GetParam().format, rows, k, Fill::kGaussian, static_cast<uint32_t>(k + rows));
      const Activations a = make_activations(GetParam().act, n, k, false, 4);
      std::vector<double> want, magnitude;
      reference(m, a.view, want, magnitude);
      const std::vector<float> got = run(m.matrix, 0, m.matrix.n_panels(), a.view);
      expect_close(got, want, magnitude, k);
      if (rows < 15) continue;  // over a tensor: a single output may be close to zero
      EXPECT_LE(nmse(got, want), rounding_nmse(k)) << "k " << k << " rows " << rows;
    }
  }
}

TEST_P(MatmulKernel, IsExactOnExtremeBlocks) {
  const int64_t k = some_depth();
  const PackedMatrix m = pack_matrix(GetParam().format, 40, k, Fill::kExtreme, 11);
  for (const int64_t n : {1, 2, 4, 13}) {
    Activations a = make_activations(GetParam().act, n, k, false, 5);
    std::mt19937 random(6);
    for (float& x : a.x) x = random() % 8 == 0 ? -3.0f : 3.0f;  // every quantised value is -127 or 127
    for (int64_t c = 0; c < n; ++c) quantize_act_ref(a.view, c, a.x.data() + c * k);
    std::vector<double> want, magnitude;
    reference(m, a.view, want, magnitude);
    const std::vector<float> got = run(m.matrix, 0, m.matrix.n_panels(), a.view);
    expect_close(got, want, magnitude, k);
  }
}

TEST_P(MatmulKernel, StaysWithinTheBudgetOfActivationQuantisation) {
  const int64_t k = integer() ? 1536 : 1280;
  const PackedMatrix m = pack_matrix(GetParam().format, 32, k, Fill::kGaussian, 21);
  const Activations a = make_activations(GetParam().act, 9, k, false, 22);
  const std::vector<float> got = run(m.matrix, 0, m.matrix.n_panels(), a.view);
  std::vector<double> want(got.size());
  for (int64_t r = 0; r < 32; ++r) {
    const std::vector<float> w = weights_of(m.matrix.format, m.rows.data() + static_cast<uint64_t>(r) * m.row_bytes, k);
    for (int64_t c = 0; c < 9; ++c) {
      for (int64_t i = 0; i < k; ++i) want[c * 32 + r] += static_cast<double>(w[i]) * a.x[c * k + i];
    }
  }
  EXPECT_LE(nmse(got, want), 1.5 * conversion_nmse(a) + rounding_nmse(k));
}

TEST_P(MatmulKernel, AColumnHasTheSameBitsInAnyBatch) {
  const int64_t k = some_depth(), n_all = 300;
  const PackedMatrix m = pack_matrix(GetParam().format, 40, k, Fill::kGaussian, 31);
  const Activations a = make_activations(GetParam().act, n_all, k, false, 32);
  const std::vector<float> all = run(m.matrix, 0, 3, a.view);
  std::vector<int64_t> counts = {63, 64, 65};
  for (int64_t n = 1; n <= 20; ++n) counts.push_back(n);
  for (const int64_t n : counts) {
    const int64_t first = n * 7 % (n_all - n);
    const std::vector<float> part = run(m.matrix, 0, 3, act_columns(a.view, first, n));
    ASSERT_EQ(std::memcmp(part.data(), all.data() + first * 48, part.size() * 4), 0) << n << " columns from " << first;
  }
}

TEST_P(MatmulKernel, APanelHasTheSameBitsInAnyGroup) {
  const int64_t k = some_depth();
  const PackedMatrix m = pack_matrix(GetParam().format, 16 * 7, k, Fill::kGaussian, 41);
  for (const int64_t n : {1, 2, 3, 8, 30}) {
    const Activations a = make_activations(GetParam().act, n, k, false, 42);
    const std::vector<float> all = run(m.matrix, 0, 7, a.view);
    for (const int64_t n_panels : {1, 2, 3, 5}) {
      for (int64_t first = 0; first + n_panels <= 7; first += 2) {
        const std::vector<float> part = run(m.matrix, first, n_panels, a.view);
        for (int64_t c = 0; c < n; ++c) {
          ASSERT_EQ(std::memcmp(part.data() + c * 16 * n_panels, all.data() + c * 112 + 16 * first,
                                static_cast<uint64_t>(64 * n_panels)),
                    0)
              << n_panels << " panels from " << first << ", column " << c << " of " << n;
        }
      }
    }
  }
}

TEST_P(MatmulKernel, AgreesWithTheReferenceBitForBit) {
  const PanelKernel& kernel = GetParam();
  const PanelKernel& ref = select_panel_kernel(kernel.format, Isa::kRef);
  if (kernel.act != ref.act) GTEST_SKIP() << "reads other activations than the reference does";
  for (const int64_t at : {0, 1, 2, 3, 4, 5}) {
    const int64_t k = depths()[static_cast<size_t>(at) / 2 % depths().size()];
    const Fill fill = at % 2 == 0 ? Fill::kGaussian : Fill::kExtreme;
    const PackedMatrix m = pack_matrix(kernel.format, 40, k, fill, static_cast<uint32_t>(50 + k));
    for (const int64_t n : {1, 2, 3, 4, 6, 8, 17}) {
      Activations a = make_activations(kernel.act, n, k, false, 52);
      if (fill == Fill::kExtreme) {  // every quantised value is -127 or 127
        std::mt19937 random(53);
        for (float& x : a.x) x = random() % 8 == 0 ? -3.0f : 3.0f;
        for (int64_t c = 0; c < n; ++c) quantize_act_ref(a.view, c, a.x.data() + c * k);
      }
      const std::vector<float> got = run(m.matrix, 0, 3, a.view);
      std::vector<float> want(got.size());
      AlignedBuffer scratch = allocate(panel_scratch_bytes(kernel.format, k));
      ref.run(m.matrix.data, m.matrix.panel_bytes, 3, a.view, want.data(), 48, scratch.data());
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
            << "k " << k << " n " << n << " column " << i / 48 << " row " << i % 48 << ": " << got[i] << ", want "
            << want[i];
      }
    }
  }
}

TEST_P(MatmulKernel, MultipliesALongRow) {
  const int64_t k = integer() ? 8960 : 3420;
  const PackedMatrix m = pack_matrix(GetParam().format, 32, k, Fill::kGaussian, 61);
  const Activations a = make_activations(GetParam().act, 10, k, false, 62);
  std::vector<double> want, magnitude;
  reference(m, a.view, want, magnitude);
  const std::vector<float> got = run(m.matrix, 0, 2, a.view);
  expect_close(got, want, magnitude, k);
  EXPECT_LE(nmse(got, want), rounding_nmse(k));
}

TEST_P(MatmulKernel, NotANumberInTheActivationsReachesTheOutput) {
  const int64_t k = some_depth();
  const PackedMatrix m = pack_matrix(GetParam().format, 16, k, Fill::kGaussian, 71);
  Activations a = make_activations(GetParam().act, 3, k, false, 72);
  a.x[k + 300] = std::nanf("");
  quantize_act_ref(a.view, 1, a.x.data() + k);
  const std::vector<float> got = run(m.matrix, 0, 1, a.view);
  for (int64_t r = 0; r < 16; ++r) {
    EXPECT_TRUE(std::isfinite(got[r]) && std::isfinite(got[32 + r]));
    EXPECT_TRUE(std::isnan(got[16 + r]));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, MatmulKernel, testing::ValuesIn(panel_kernels().begin(), panel_kernels().end()),
                         [](const auto& kernel) { return std::string(kernel.param.name); });

TEST(PanelKernels, AreNamedOnceAndEndInWhatTheyNeed) {
  std::set<std::string> names;
  for (const PanelKernel& kernel : panel_kernels()) {
    EXPECT_TRUE(names.insert(kernel.name).second) << kernel.name;
    EXPECT_TRUE(std::string(kernel.name).ends_with(std::string("_") + isa_name(kernel.isa))) << kernel.name;
  }
}

TEST(SelectPanelKernel, TakesTheLastThatTheSetHas) {
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kRef).name, "matmul_q4_k_int8x128k_ref");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kAvx512).name, "matmul_q4_k_int8x128k_avx2");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kAvx512Bf16).name, "matmul_q4_k_int8x128k_avx512vnni");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kAvxVnni).name, "matmul_q4_k_int8x128k_avxvnni");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kAvxVnni | Isa::kAvx512).name,
               "matmul_q4_k_int8x128k_avxvnni");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kQ4_K, Isa::kAvxVnni | Isa::kAvx512Vnni).name,
               "matmul_q4_k_int8x128k_avx512vnni");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kBF16, Isa::kAvxVnni).name, "matmul_bf16_f32_avx2");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kBF16, Isa::kAvx512Vnni).name, "matmul_bf16_f32_avx512");
  EXPECT_STREQ(select_panel_kernel(PanelFormat::kBF16, Isa::kAvx512Bf16).name, "matmul_bf16_bf16_avx512bf16");
  for (const PanelFormat f : all_panel_formats()) {
    for (const Isa isa : all_isas()) {
      EXPECT_EQ(select_panel_kernel(f, isa).format, f);
      EXPECT_TRUE(isa.has(select_panel_kernel(f, isa).isa));
    }
  }
}

}  // namespace
}  // namespace glimpse::test
