// Takes a changed file (model_mutant.h) as the reference of a diff: reads every activation it offers and compares each
// with itself.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tests/fuzz/model_mutant.h"
#include "tools/eval/activations.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse;
  static const GgufFile base = fuzz::open_base(GLIMPSE_TEST_DIR "/golden/tied/case-text.gguf");
  fuzz::ModelMutant mutant(base);
  const std::string bytes = mutant.apply(std::span(data, size)).build();
  auto file = GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "mutant.gguf");
  if (!file.ok()) return 0;
  const auto set = eval::ActivationSet::from(std::move(file).value());
  if (!set.ok()) return set.error().message.empty() ? __builtin_trap(), 0 : 0;
  for (const std::string& name : set->names()) {
    if (!set->has(name)) __builtin_trap();
    const auto activation = set->read(name);
    if (!activation.ok()) __builtin_trap();
    const int64_t n = activation->rows * activation->cols;
    if (n < 1 || static_cast<size_t>(n) != activation->values.size()) __builtin_trap();
    const eval::Difference same = eval::compare_activations(activation.value(), activation.value(), 0);
    if (same.nmse != 0 && !std::isnan(same.nmse)) __builtin_trap();
    if (std::isnan(same.nmse) && !same.outside) __builtin_trap();
  }
  return 0;
}
