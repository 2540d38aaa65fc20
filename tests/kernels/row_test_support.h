// For the tests of kernels that work on rows: ISA parameters, guarded buffers, random rows.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/base/cpu_features.h"

namespace glimpse {
inline void PrintTo(Isa isa, std::ostream* out) {
  *out << isa_name(isa);
}  // for test names
}  // namespace glimpse

namespace glimpse::row_test {

/// Runs a test once per instruction set; one that this CPU lacks is skipped visibly.
class PerIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!detect_isa().has(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};
inline std::string isa_param_name(const testing::TestParamInfo<Isa>& info) {
  return isa_name(info.param);
}
/// kernels: a list of kernels, of which each is tested.
#define GLIMPSE_INSTANTIATE_PER_ISA(suite, kernels)                                            \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(glimpse::row_test::isas_of(kernels)), \
                           glimpse::row_test::isa_param_name)
template <class Kernels>
std::vector<Isa> isas_of(const Kernels& kernels) {
  std::vector<Isa> isas;
  for (const auto& kernel : kernels) {
    if (std::find(isas.begin(), isas.end(), kernel.isa) == isas.end()) isas.push_back(kernel.isa);
  }
  return isas;
}

/// n_bytes of guard pattern. Not inlined: GCC 12 would follow the case that the size wraps to zero and warn.
[[gnu::noinline]] inline std::vector<uint8_t> guard_bytes(int64_t n_bytes) {
  return std::vector<uint8_t>(static_cast<size_t>(n_bytes), uint8_t{0xa5});
}

/// n values between two guards of 64 bytes; starts `offset` values behind a 64-byte boundary. The guards are checked
/// when it dies.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t n, int64_t offset = 0)
      : n_(n), bytes_(guard_bytes((n + offset) * static_cast<int64_t>(sizeof(T)) + 192)) {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    begin_ = static_cast<int64_t>((address + 127) / 64 * 64 - address) + offset * static_cast<int64_t>(sizeof(T));
    for (int64_t i = 0; i < n; ++i) data()[i] = T{};
  }
  Guarded(int64_t n, const std::vector<T>& values, int64_t offset = 0) : Guarded(n, offset) {
    std::copy_n(values.data(), n, data());
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() {
    const auto end = begin_ + n_ * static_cast<int64_t>(sizeof(T));
    for (int64_t i = 0; i < static_cast<int64_t>(bytes_.size()); ++i) {
      if (i >= begin_ && i < end) continue;
      if (bytes_[i] != 0xa5) {
        ADD_FAILURE() << "guard byte " << (i < begin_ ? i - begin_ : i - end) << (i < begin_ ? " before" : " behind");
        return;
      }
    }
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data() + begin_); }
  int64_t size() const { return n_; }
  T& operator[](int64_t i) { return data()[i]; }
  std::vector<T> copy() { return std::vector<T>(data(), data() + n_); }

 private:
  int64_t n_;
  int64_t begin_ = 0;
  std::vector<uint8_t> bytes_;
};

inline std::vector<float> normal_row(int64_t n, uint32_t seed, float deviation = 1.0f, float mean = 0.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = normal(generator);
  return row;
}

/// |got - want|^2 / |want|^2.
inline double nmse(std::span<const float> got, std::span<const double> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return error / norm;
}

/// Same bits, any NaN equal to any other.
inline testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace glimpse::row_test
