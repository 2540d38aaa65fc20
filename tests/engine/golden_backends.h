// The backends that the golden models run on, with the error each is allowed. A further backend is a further line.
#pragma once

#include <ostream>

#include "tests/engine/golden_support.h"
#if defined(GLIMPSE_TEST_CUDA_HOST)
#include "tests/cuda/host_backend.h"
#endif

namespace glimpse::testing {

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

#if defined(GLIMPSE_TEST_CUDA_HOST)
inline std::vector<Backend> golden_backends() {
  return cuda_host_backends();
}
#else
inline std::vector<Backend> golden_backends() {
  std::vector<Backend> backends = {{.name = "ref", .reference = true}};
  for (const Isa isa : all_isas()) {
    const std::string name = std::string("cpu_") + isa_name(isa);
    // The budgets of the kernels: int8 activations 1e-4, 1e-3 for heavy tails; bfloat16 products 2e-5; int8 vision
    // 2e-4; attention on a bfloat16 cache 5e-5, on binary16, eight times finer, a 64th of it, on int8 2e-4. Everything
    // in float: rounding and the polynomial exponential only.
    Backend exact = {.name = name, .isa = isa, .quantized_op = 1e-4, .quantized_heavy = 1e-3};
    backends.push_back(exact);
    const Backend usual = usual_of(exact);
    backends.push_back(usual);
    Backend small = usual;  // int8 vision weights and activations, mixed
    small.name = name + "_int8";
    small.vision = VisionPrecision::kInt8;
    small.vision_op = 2e-4;
    backends.push_back(small);
    Backend bf16 = exact, q8 = exact;  // the other caches
    bf16.name += "_kv_bf16";
    bf16.kv = KvElement::kBf16;
    bf16.text_attention = 5e-5;
    backends.push_back(bf16);
    q8.name += "_kv_q8_0";
    q8.kv = KvElement::kQ8_0;
    q8.text_attention = 2e-4;
    backends.push_back(q8);
  }
  return backends;
}
#endif

/// The mean square of a router's scores s = W (g x), for normalised x, whose channels have the mean square 1: that of a
/// row of W times g. The greatest of all layers; 0 without experts.
inline double router_square(std::string_view folder) {
  const GgufFile file = must(GgufFile::open(golden_path(std::string(folder) + "/model.gguf")));
  const auto read = [&](const std::string& name) {
    const GgufTensor* tensor = file.find_tensor(name);
    std::vector<float> values(tensor == nullptr ? 0 : tensor->n_elements());
    if (tensor != nullptr) EXPECT_OK(file.read(*tensor, 0, std::as_writable_bytes(std::span(values))));
    return values;
  };
  double greatest = 0;
  for (int layer = 0;; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + ".ffn_";
    const std::vector<float> weights = read(name + "gate_inp.weight"), norm = read(name + "norm.weight");
    if (weights.empty()) return greatest;
    double sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double product = static_cast<double>(weights[i]) * norm[i % norm.size()];
      sum += product * product;
    }
    greatest = std::max(greatest, sum * static_cast<double>(norm.size()) / static_cast<double>(weights.size()));
  }
}

/// What a pass may have lost when it comes to a step: the sum of what its operations may add.
class ErrorBudget {
 public:
  /// folder: of the golden model; tells the type of its weights. golden: what the reference made of the pass; tells how
  /// much of the stream is the experts'.
  ErrorBudget(const Backend& backend, std::string_view folder, const GoldenCase* golden = nullptr)
      : backend_(backend),
        golden_(golden),
        router_square_(router_square(folder)),
        op_(folder == "quantized"                            ? backend.quantized_op
            : folder == "untied" || folder.ends_with("-f16") ? backend.half_op
                                                             : backend.float_op),
        gated_vision_(folder == "qwen25vl"),
        heavy_(folder == "quantized" ? backend.quantized_heavy : op_) {}

  /// The limit of the activation `name`; to be asked in model order.
  double limit(const std::string& name) {
    const std::string step = name.substr(name.rfind('.') + 1);
    const bool vision = name.find("v.") == 0 || name.find("/v.") != std::string::npos;
    const double op = vision ? backend_.vision_op : op_;
    if (step == "patch_embd") spent_ = backend_.float_op;  // the next picture
    if (step == "embd" && vision) worst_picture_ = std::max(worst_picture_, spent_ + op);
    if (step == "embd" && !vision) return spent_ = worst_picture_ + backend_.float_op;
    if (step == "q" || step == "attn_out" || step == "merger" || step == "embd" || step == "logits") spent_ += op;
    // The scores multiply two products, q and k, and weigh a third, v.
    if (step == "attn") spent_ += 2 * op + (vision ? backend_.vision_attention : backend_.text_attention);
    const bool gated = !vision || gated_vision_;
    if (step == "ffn" && !gated) spent_ += op;
    if (step == "ffn_out" && routing_ > 0) mix_experts(name.substr(0, name.size() - step.size()));
    if (step == "ffn_out") spent_ += vision ? op : heavy_;
    if (step == "deepstack") return spent_ = std::max(spent_, worst_picture_) + backend_.float_op;
    // A weight is exp(s) over a sum of such: relative to it, its error is that of s less the weights' mean of all. Over
    // the weights, its mean square is below that of the error of s alone, which is relative to the scores' mean square.
    if (step == "routing") return routing_ = router_square_ * (spent_ + op);
    if (step == "k" || step == "v") return spent_ + stored();
    if (step != "ffn" || !gated) return spent_;
    spent_ += 2 * op;
    return ffn_ = 2 * spent_;  // a product: the error of both its factors
  }

 private:
  // The stream after a layer is what it was and the sum of weight * expert, whose errors count as their squares do.
  void mix_experts(const std::string& layer) {
    ASSERT_NE(golden_, nullptr);
    const std::vector<float> before = golden_->floats(layer + "attn_out"), after = golden_->floats(layer + "ffn_out");
    double old = 0, added = 0, all = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      const double x = before[i], y = after[i];
      old += x * x, added += (y - x) * (y - x), all += y * y;
    }
    spent_ = (old * spent_ + added * (routing_ + ffn_)) / all;
    routing_ = 0;  // the next layer may have no experts
  }
  // What storing keys and values may add: the greatest relative error squared; int8: steps of greatest / 127, uniform,
  // where the greatest of 32 is at most three times their root mean square.
  double stored() const {
    switch (backend_.kv) {
      case KvElement::kBf16:
        return 0x1p-18;
      case KvElement::kF16:
        return 0x1p-22;
      case KvElement::kQ8_0:
        return 9.0 / (127 * 127 * 12);
      case KvElement::kF32:
        break;
    }
    return 0;
  }

  const Backend& backend_;
  const GoldenCase* const golden_;
  const double router_square_;
  const double op_;
  const bool gated_vision_;
  const double heavy_;
  double spent_ = 0, worst_picture_ = 0;
  double routing_ = 0, ffn_ = 0;  // of this layer's weights of experts, and of what is multiplied by them
};

/// Fixture: skips, visibly, what this CPU cannot run.
class BackendTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (!detect_isa().has(GetParam().isa)) {
      GTEST_SKIP() << "this CPU offers " << isa_name(detect_isa()) << " at most";
    }
  }
};

}  // namespace glimpse::testing
