// Parses bytes as a base file of log-probabilities and reads every row that it offers.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tools/eval/kl_base.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using glimpse::eval::KlBase;
  const auto base = KlBase::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!base.ok()) return base.error().message.empty() ? __builtin_trap(), 0 : 0;
  std::vector<float> row(static_cast<size_t>(base.value().n_vocab()));
  for (size_t s = 0; s < base.value().sequences().size(); ++s) {
    const glimpse::eval::Sequence& sequence = base.value().sequences()[s];
    if (sequence.first < 0 || sequence.n_scored < 1) __builtin_trap();
    if (sequence.first + sequence.n_scored >= static_cast<int64_t>(sequence.ids.size())) __builtin_trap();
    for (const int32_t id : sequence.ids) {
      if (id < 0 || id >= base.value().n_vocab()) __builtin_trap();
    }
    for (int64_t r = 0; r < sequence.n_scored; ++r) {
      if (!base.value().read_row(s, r, row).ok()) continue;
      for (const float value : row) {
        if (!(value < 0.02f)) __builtin_trap();  // no probability above 1, no NaN
      }
    }
  }
  return 0;
}
