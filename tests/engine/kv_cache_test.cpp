// Keys that carry large biases, as published models have them, in a cache of q8_0.
#include <gtest/gtest.h>

#include "engine/model/pass_input.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::must;

// The tied model, each layer's keys with a bias in one channel of the first head.
class Biased {
 public:
  explicit Biased(float bias) : editor_("tied/model.gguf") {
    for (const char* layer : {"blk.0.", "blk.1."}) editor_.floats(std::string(layer) + "attn_k.bias")[3] = bias;
    ModelOptions options;
    options.model_path = editor_.write();
    model_ = must(Model::load(options));
    ops_ = must(model_->make_ops(1));
  }
  uint64_t cache_bytes(KvElement element) const { return KvCache::plan_bytes(*model_, *ops_, 256, element); }
  // Logits of all rows of a text.
  std::vector<float> logits(KvElement element) const {
    const auto text = must(testing::OneText::create(model_, *ops_, 200, 64, element));
    std::vector<TokenId> ids;
    for (int64_t i = 0; i < 150; ++i) ids.push_back(static_cast<TokenId>((i * i * 31 + 7) % 311));
    PassInput input;
    input.append_text(ids);
    std::vector<float> logits(ids.size() * static_cast<size_t>(model_->text().vocab_size));
    EXPECT_OK(text->forward(input.rows(), logits, true, {}, {}));
    return logits;
  }
  // Mean square of the error of the logits, relative to theirs, with floats as the truth.
  double error(KvElement element) const {
    const std::vector<float> want = logits(KvElement::kF32), got = logits(element);
    double error = 0, power = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
      power += static_cast<double>(want[i]) * want[i];
    }
    return error / power;
  }

 private:
  testing::ModelEditor editor_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Ops> ops_;
};

TEST(KvCacheQ8, BiasesOfKeysCostNoPrecision) {
  const double unbiased = Biased(0).error(KvElement::kQ8_0);
  EXPECT_GT(unbiased, 0);
  for (const float bias : {20.0f, 60.0f, 350.0f}) {
    const Biased model(bias);
    // A wide channel is as exact as in a cache of halves, whose error such a bias multiplies.
    EXPECT_LE(model.error(KvElement::kQ8_0), 2 * unbiased + 2 * model.error(KvElement::kF16)) << bias;
  }
}

TEST(KvCacheQ8, WideChannelsAreInThePlan) {
  const Biased none(0), some(60);
  EXPECT_EQ(some.cache_bytes(KvElement::kF16), none.cache_bytes(KvElement::kF16));
  // Two layers, two heads, two channels of 256 positions.
  EXPECT_EQ(some.cache_bytes(KvElement::kQ8_0), none.cache_bytes(KvElement::kQ8_0) + 2u * 2 * 2 * 256 * 2);
}

}  // namespace
}  // namespace glimpse
