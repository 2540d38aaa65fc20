#include "bench/kernels/kernel_row.h"

#include <algorithm>
#include <map>
#include <random>

namespace glimpse::bench {

std::vector<KernelRow> kernel_rows() {
  std::vector<KernelRow> rows = matmul_rows();
  for (const auto more : {attention_rows, elementwise_rows}) {
    for (KernelRow& row : more()) rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<KernelRow> smallest_rows(const std::vector<KernelRow>& rows) {
  std::vector<KernelRow> smallest;
  std::map<std::string, size_t> place;
  for (const KernelRow& row : rows) {
    const auto [at, is_new] = place.emplace(row.kernel, smallest.size());
    if (is_new) {
      smallest.push_back(row);
    } else if (KernelRow& old = smallest[at->second]; row.flop + row.bytes < old.flop + old.bytes) {
      old = row;
    }
  }
  return smallest;
}

double floor_seconds(const KernelRow& row, const Roofline& roofline) {
  const double memory = roofline.bytes_per_second > 0 ? row.bytes / roofline.bytes_per_second : 0;
  const double rate = roofline.rate(row.arithmetic);
  return std::max(memory, rate > 0 ? row.flop / rate : 0);
}

std::vector<float> gaussian_numbers(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  std::vector<float> numbers(static_cast<size_t>(n));
  for (float& number : numbers) number = gauss(random);
  return numbers;
}

double normalised_error(const float* got, const float* want, int64_t n) {
  double error = 0, power = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double wanted = want[i], difference = got[i] - wanted;
    error += difference * difference;
    power += wanted * wanted;
  }
  return power > 0 ? error / power : error;
}

}  // namespace glimpse::bench
