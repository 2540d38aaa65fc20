// Plans the quantisation of a changed file (model_mutant.h). The input: a byte for the file type, one for flags (bit 0:
// the vision encoder, 1: pure, 2: requantise), a rule that ends with a newline, and the changes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tests/fuzz/model_mutant.h"
#include "tools/quantize/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse;
  static const GgufFile text = fuzz::open_base(GLIMPSE_TEST_DIR "/quantize/data/text.gguf");
  static const GgufFile vision = fuzz::open_base(GLIMPSE_TEST_DIR "/quantize/data/vision.gguf");
  if (size < 2) return 0;
  QuantizeRequest request;
  const char* const type_name = file_type_name(data[0] % 40u);
  const std::optional<FileType> type = type_name == nullptr ? std::nullopt : file_type_from_name(type_name);
  if (type) request.type = *type;
  request.pure = (data[1] & 2) != 0;
  request.allow_requantize = (data[1] & 4) != 0;
  const uint8_t* const end = std::find(data + 2, data + size, '\n');
  // A regular expression of the user's own may take long; that is no fault of the plan.
  const std::string rule(data + 2, std::min(end, data + 2 + 24));
  if (!rule.empty()) {
    auto parsed = parse_tensor_type_rule(rule);
    if (parsed.ok()) request.rules.push_back(std::move(parsed).value());
  }
  const uint8_t* const program = std::min(end + 1, data + size);
  fuzz::ModelMutant mutant((data[1] & 1) != 0 ? vision : text);
  const std::string bytes = mutant.apply(std::span(program, data + size)).build();
  const auto file = GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "mutant.gguf");
  if (!file.ok()) return 0;
  const auto plan = plan_quantization(file.value(), request);
  if (!plan.ok()) return plan.error().message.empty() ? __builtin_trap(), 0 : 0;
  if (plan->tensors.size() != file->tensors().size()) __builtin_trap();
  uint64_t before = 0, after = 0;
  for (const PlannedTensor& tensor : plan->tensors) {
    if (tensor.source->row_length() % dtype_info(tensor.type).block_length != 0) __builtin_trap();
    before += tensor.source->n_bytes;
    after += tensor.n_bytes();
  }
  if (before != plan->bytes_before || after != plan->bytes_after) __builtin_trap();
  return 0;
}
