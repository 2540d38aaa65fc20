#include "tools/eval/log_probs.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace glimpse::eval {
namespace {

constexpr size_t kHeaderBytes = 8;  // scale, lowest
constexpr float kLargestCode = 65535.0f;
// Room for float rounding of log_sum_exp in files that others wrote.
constexpr double kLargestLogProb = 1e-2;

}  // namespace

Softmax measure_softmax(std::span<const float> logits) {
  Softmax s;
  s.max = s.min = logits[0];
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > s.max) {
      s.max = logits[i];
      s.top = static_cast<int64_t>(i);
    }
    s.min = std::min(s.min, logits[i]);
  }
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - s.max));
  s.log_sum_exp = static_cast<double>(s.max) + std::log(sum);
  return s;
}

void encode_log_probs(std::span<const float> logits, const Softmax& softmax, std::span<std::byte> out) {
  const float lowest = std::max(softmax.min, softmax.max - static_cast<float>(kCodedRange));
  const float scale = (softmax.max - lowest) / kLargestCode;
  const auto lowest_log_prob = static_cast<float>(static_cast<double>(lowest) - softmax.log_sum_exp);
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data(), &scale, 4);
  std::memcpy(out.data() + 4, &lowest_log_prob, 4);
  if (scale == 0) return;  // all equal
  const float inverse = 1 / scale;
  std::byte* codes = out.data() + kHeaderBytes;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float code = logits[i] > lowest ? std::min(std::nearbyint(inverse * (logits[i] - lowest)), kLargestCode) : 0;
    const auto bits = static_cast<uint16_t>(code);
    std::memcpy(codes + 2 * i, &bits, 2);
  }
}

Status decode_log_probs(std::span<const std::byte> row, std::span<float> log_probs) {
  float scale = 0, lowest = 0;
  std::memcpy(&scale, row.data(), 4);
  std::memcpy(&lowest, row.data() + 4, 4);
  if (!std::isfinite(scale) || !std::isfinite(lowest) || scale < 0) {
    return make_error(ErrorCode::kCorrupt, "scale %g and lowest log-probability %g make no sense",
                      static_cast<double>(scale), static_cast<double>(lowest));
  }
  const std::byte* codes = row.data() + kHeaderBytes;
  float largest = lowest;
  for (size_t i = 0; i < log_probs.size(); ++i) {
    uint16_t code = 0;
    std::memcpy(&code, codes + 2 * i, 2);
    log_probs[i] = scale * static_cast<float>(code) + lowest;
    largest = std::max(largest, log_probs[i]);
  }
  if (static_cast<double>(largest) > kLargestLogProb) {
    return make_error(ErrorCode::kCorrupt, "a log-probability of %g", static_cast<double>(largest));
  }
  return {};
}

}  // namespace glimpse::eval
