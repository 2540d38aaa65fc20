// Activation storage and the scalar conversion, which defines what the vector versions compute.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/checked.h"
#include "engine/base/half.h"
#include "kernels/matmul/act_mix.h"
#include "kernels/matmul/matmul.h"

namespace glimpse {
namespace {

constexpr uint32_t kTinyBits = 27u << 23;  // 2^-100: below it 127 / max could overflow
constexpr uint32_t kInfinityBits = 0x7f800000u;

// Lays out one record; data stays empty.
ActView layout_of(ActFormat format, int64_t n, int64_t k) {
  ActView view;
  view.format = format;
  view.n = n;
  view.k = k;
  view.k_padded = round_up(k, 256);
  int64_t end = 0;
  const auto place = [&end](int64_t n_bytes) {
    const int64_t at = end;
    end += n_bytes;
    return at;
  };
  const int64_t p = view.k_padded;
  switch (format) {
    case ActFormat::kF32:
      place(p * 4);
      break;
    case ActFormat::kBf16:
      place(p * 2);
      break;
    case ActFormat::kInt8x32:
    case ActFormat::kInt8x32Mixed:
      place(p);
      view.scales_at = place(p / 32 * 4);
      view.bias32_at = place(p / 32 * 4);
      break;
    case ActFormat::kInt8x128K:
      place(p);
      view.bias16_at = place(p / 16 * 4);
      view.bias32_at = place(p / 32 * 4);
      view.sums16_at = place(p / 16 * 2);
      view.sums32_at = place(p / 32 * 2);
      view.scales_at = place(p / 128 * 4);
      break;
  }
  view.row_bytes = round_up(end, 64);
  if (view.row_bytes % 4096 == 0) view.row_bytes += 64;
  return view;
}

template <typename T>
void put(std::byte* record, int64_t at, int64_t index, T value) {
  std::memcpy(record + at + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

// One block of 32 or 128 values.
void quantize_block(const ActView& view, std::byte* record, int64_t first, int64_t length, const float* x) {
  uint32_t max_bits = 0;  // magnitudes compare like their bits, NaN above infinity: no order of evaluation to keep
  for (int64_t i = 0; i < length; ++i) max_bits = std::max(max_bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  const float max = std::bit_cast<float>(max_bits);
  const bool usable = max_bits >= kTinyBits && max_bits < kInfinityBits;
  const float scale = usable                      ? max / 127.0f
                      : max_bits >= kInfinityBits ? std::numeric_limits<float>::quiet_NaN()
                                                  : 0.0f;
  const float inverse = usable ? 127.0f / max : 0.0f;
  int32_t sums[8] = {};
  for (int64_t i = 0; i < length; ++i) {
    const long q = usable ? std::lrint(x[i] * inverse) : 0;
    put(record, 0, first + i, static_cast<int8_t>(q));
    sums[i / 16] += static_cast<int32_t>(q);
  }
  put(record, view.scales_at, first / length, scale);
  for (int64_t s = 0; s < length / 32; ++s) {
    const int32_t sum = sums[2 * s] + sums[2 * s + 1];
    put(record, view.bias32_at, first / 32 + s, -128 * sum);
    if (view.format == ActFormat::kInt8x128K) put(record, view.sums32_at, first / 32 + s, static_cast<int16_t>(sum));
  }
  if (view.format != ActFormat::kInt8x128K) return;
  for (int64_t s = 0; s < length / 16; ++s) {
    put(record, view.bias16_at, first / 16 + s, -128 * sums[s]);
    put(record, view.sums16_at, first / 16 + s, static_cast<int16_t>(sums[s]));
  }
}

}  // namespace

void mix_block(float* x) {
  for (int i = 0; i < 32; ++i) x[i] *= kMixFirst[i % 16];
  for (int step = 1; step < 32; step *= 2) {
    for (int i = 0; i < 32; ++i) {
      if ((i & step) != 0) continue;
      const float a = x[i], b = x[i + step];
      x[i] = a + b;
      x[i + step] = a - b;
    }
  }
}

void unmix_block(float* x) {
  for (int i = 0; i < 32; ++i) x[i] *= 8 * kMixFirst[i % 16];
  mix_block(x);  // signs, Hadamard: the other way round, and the signs once more
  for (int i = 0; i < 32; ++i) x[i] *= 8 * kMixFirst[i % 16];
}

ActView act_columns(const ActView& view, int64_t first, int64_t count) {
  ActView part = view;
  part.data = view.data + first * view.row_bytes;
  part.n = count;
  return part;
}

uint64_t act_bytes(ActFormat format, int64_t n, int64_t k) {
  return static_cast<uint64_t>(n) * static_cast<uint64_t>(layout_of(format, n, k).row_bytes);
}

ActView make_act_view(ActFormat format, int64_t n, int64_t k, std::byte* storage) {
  ActView view = layout_of(format, n, k);
  view.data = storage;
  return view;
}

void quantize_act_ref(const ActView& view, int64_t column, const float* x) {
  std::byte* record = view.data + column * view.row_bytes;
  switch (view.format) {
    case ActFormat::kF32:
      std::memcpy(record, x, static_cast<uint64_t>(view.k) * 4);
      std::memset(record + view.k * 4, 0, static_cast<uint64_t>(view.k_padded - view.k) * 4);
      return;
    case ActFormat::kBf16:
      for (int64_t i = 0; i < view.k; ++i) put(record, 0, i, float_to_bf16(x[i]));
      std::memset(record + view.k * 2, 0, static_cast<uint64_t>(view.k_padded - view.k) * 2);
      return;
    case ActFormat::kInt8x32:
    case ActFormat::kInt8x32Mixed:
    case ActFormat::kInt8x128K:
      break;
  }
  const int64_t length = view.format == ActFormat::kInt8x128K ? 128 : 32;
  for (int64_t first = 0; first < view.k_padded; first += length) {
    float block[128] = {};
    const int64_t have = std::clamp<int64_t>(view.k - first, 0, length);
    std::memcpy(block, x + (have > 0 ? first : 0), static_cast<uint64_t>(have) * 4);
    if (view.format == ActFormat::kInt8x32Mixed) mix_block(block);
    quantize_block(view, record, first, length, block);
  }
}

void quantize_act_row(Isa isa, const ActView& view, int64_t column, const float* x) {
  if (isa.has(Isa::kAvx512)) return quantize_act_avx512(view, column, x);
  if (isa.has(Isa::kAvx2)) return quantize_act_avx2(view, column, x);
  quantize_act_ref(view, column, x);
}

}  // namespace glimpse
