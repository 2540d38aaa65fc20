// Reads bytes as what the programs of both engines print: llama-mtmd-cli's log, `glimpse run --json`, and the tables of
// llama-bench and glimpse bench.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tools/compare/outputs.h"

namespace {

void check(const glimpse::Result<glimpse::compare::PictureRun>& run) {
  if (!run.ok()) {
    if (run.error().message.empty()) __builtin_trap();
    return;
  }
  for (const double ms : {run->image_prepare, run->image_encode, run->prefill, run->first_token, run->decode}) {
    if (!std::isfinite(ms)) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse::compare;
  const std::string text(reinterpret_cast<const char*>(data), size);
  check(parse_mtmd(text, text));
  check(parse_glimpse_run(text));
  const auto rows = parse_bench(text);
  if (!rows.ok()) return rows.error().message.empty() ? __builtin_trap(), 0 : 0;
  for (const BenchRow& row : rows.value()) {
    if (!std::isfinite(row.tokens_per_second)) __builtin_trap();
  }
  return 0;
}
