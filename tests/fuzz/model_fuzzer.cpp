// Changes the meaning of a golden pair of files as the bytes say (model_mutant.h), loads and runs it. The first byte
// says which file is changed (bit 0: the vision encoder's) and what runs it (bit 1: the oracle instead of the kernels).
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tests/fuzz/model_mutant.h"
#include "tests/fuzz/run_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse::fuzz;
  static const glimpse::GgufFile text = open_base(GLIMPSE_TEST_DIR "/golden/tied/model.gguf");
  static const glimpse::GgufFile vision = open_base(GLIMPSE_TEST_DIR "/golden/tied/mmproj.gguf");
  if (size == 0) return 0;
  const bool of_vision = (data[0] & 1) != 0;
  const std::span<const uint8_t> program(data + 1, size - 1);
  ModelMutant text_mutant(text), vision_mutant(vision);
  (of_vision ? vision_mutant : text_mutant).apply(program);
  const ModelRun run =
      run_model(text_mutant.build(), of_vision ? vision_mutant.build() : std::string(), (data[0] & 2) != 0);
  if (!is_sane(run)) __builtin_trap();
  return 0;
}
