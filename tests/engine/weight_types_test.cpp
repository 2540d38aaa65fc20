// Every type of quantised weights from a file to logits: each CPU backend against the oracle, on a decoder whose
// matrices are all of that type.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/quant/block_codes.h"
#include "kernels/quant/random_blocks.h"
#include "tests/engine/golden_backends.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::must;

// The golden decoder of 256 columns with random matrices of `type`, as far as their rows are whole blocks.
std::string write_model(testing::ModelEditor& editor, DType type) {
  const DTypeInfo& info = dtype_info(type);
  for (testing::ModelEditor::Tensor& tensor : editor.tensors()) {
    if (tensor.dims.size() != 2 || tensor.dims[0] % info.block_length != 0) continue;
    const uint64_t cols = tensor.dims[0], rows = tensor.dims[1];
    tensor.type = type;
    tensor.bytes.resize(rows * dtype_row_bytes(type, cols));
    random_blocks(type, rows, static_cast<int64_t>(rows * cols), tensor.bytes.data());
    // Products keep the size of their inputs.
    BlockCodes codes;
    const auto root = static_cast<float>(1 / std::sqrt(static_cast<double>(cols)));
    for (size_t at = 0; at < tensor.bytes.size(); at += info.block_bytes) {
      auto* block = reinterpret_cast<uint8_t*>(tensor.bytes.data() + at);
      decode_block(type, block, codes);
      const float d = block_scale(block_format(type), codes) * root;
      set_block_scales(type, d, d, block);
    }
  }
  return editor.write();
}

std::vector<float> logits_of(const std::string& path, const testing::Backend& backend) {
  const testing::ForcedIsa forced(backend.isa);
  ModelOptions options;
  options.model_path = path;
  options.use_reference = backend.reference;
  const auto model = must(Model::load(options));
  const auto ops = testing::make_ops(*model, backend);
  const int64_t n = 12, vocab = model->text().vocab_size;
  std::vector<TokenId> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i * i * 29 % 307);
  testing::CaseInput input;
  input.ids = ids;
  PositionCounter().append_text(n, input.positions);
  std::vector<float> logits(static_cast<size_t>(n * vocab));
  const auto decoder = must(testing::OneText::create(model, *ops, n, n, backend.kv));
  EXPECT_OK(decoder->forward(input.view(), logits, true, {}, {}));
  return logits;
}

class WeightTypes : public ::testing::TestWithParam<DType> {};

TEST_P(WeightTypes, GiveTheOraclesLogitsOnEveryInstructionSet) {
  testing::ModelEditor editor("quantized/model.gguf");
  const std::string path = write_model(editor, GetParam());
  const std::vector<float> want = logits_of(path, {.name = "ref", .reference = true});
  for (const float value : want) ASSERT_TRUE(std::isfinite(value));
  for (const Isa isa : all_isas()) {
    if (!detect_isa().has(isa)) continue;
    const std::vector<float> got = logits_of(path, {.name = isa_name(isa), .isa = isa});
    // Activations of 8 bits cost 1e-4 a product, heavy tails 1e-3 (golden_backends.h); two layers of seven products
    // each.
    EXPECT_LE(testing::nmse(got, want), 14e-3) << isa_name(isa);
  }
}

std::vector<DType> quantised_types() {
  std::vector<DType> types;
  for (const BlockFormat& format : kBlockFormats) {
    if (format.info.is_weight && format.is_quantised()) types.push_back(format.info.type);
  }
  return types;
}
INSTANTIATE_TEST_SUITE_P(Types, WeightTypes, ::testing::ValuesIn(quantised_types()),
                         [](const auto& type) { return std::string(dtype_name(type.param)); });

}  // namespace
}  // namespace glimpse
