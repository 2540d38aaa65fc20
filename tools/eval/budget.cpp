#include "tools/eval/budget.h"

#include <algorithm>

#include "engine/model/weights.h"

namespace glimpse::eval {
namespace {

constexpr double kFloatOp = 1e-10;
constexpr double kInt8Op = 1e-4, kInt8Heavy = 1e-3;
constexpr double kBf16Op = 2e-5;
constexpr double kBf16Attention = 5e-5;
constexpr double kF16Attention = kBf16Attention / 64;  // rounds eight times more finely
constexpr double kQ8Attention = 2e-4;
constexpr double kInt8Attention = 1e-3;  // of the vision encoder, large pictures: int8 scores and weights
// Of a stored number, squared: at most half a step, 2^-9 and 2^-11 of it; uniform in steps of greatest / 127, where the
// greatest of 32 is at most three times their root mean square.
constexpr double kBf16Rounding = 0x1p-18, kF16Rounding = 0x1p-22, kQ8Rounding = 9.0 / (127 * 127 * 12);

// No weight: the model has another one instead.
bool is_quantised(const Linear& linear) {
  if (linear.weight == nullptr) return false;
  const PackedWeight& weight = *linear.weight;
  if (dtype_info(weight.source_type).block_length == 1) return false;
  // Kept as float it takes 4 bytes per weight, whatever the file has.
  return weight.n_bytes < static_cast<uint64_t>(weight.rows) * static_cast<uint64_t>(weight.cols) * 2;
}

bool any_quantised(const DecoderLayerWeights& w) {
  for (const Linear* l : {&w.qkv.q, &w.qkv.k, &w.qkv.v, &w.attn_output, &w.ffn_gate, &w.ffn_up, &w.ffn_down}) {
    if (is_quantised(*l)) return true;
  }
  if (!w.experts) return false;
  return is_quantised(w.experts->gate[0]) || is_quantised(w.experts->up[0]) || is_quantised(w.experts->down[0]);
}

bool any_quantised(const VisionLayerWeights& w) {
  for (const Linear* l : {&w.qkv.q, &w.qkv.k, &w.qkv.v, &w.attn_output, &w.gate, &w.fc1, &w.fc2}) {
    if (is_quantised(*l)) return true;
  }
  return false;
}

}  // namespace

OpLimits op_limits(const Model& model, KvElement kv_element, bool exact) {
  OpLimits limits;
  if (exact) return limits;
  for (const DecoderLayerWeights& layer : model.text_weights().layers) {
    if (!any_quantised(layer)) continue;
    limits.decoder_op = kInt8Op;
    limits.decoder_heavy = kInt8Heavy;
  }
  switch (kv_element) {
    case KvElement::kBf16:
      limits.decoder_attention = kBf16Attention;
      limits.kv_rounding = kBf16Rounding;
      break;
    case KvElement::kF16:
      limits.decoder_attention = kF16Attention;
      limits.kv_rounding = kF16Rounding;
      break;
    case KvElement::kQ8_0:
      limits.decoder_attention = kQ8Attention;
      limits.kv_rounding = kQ8Rounding;
      break;
    case KvElement::kF32:
      break;
  }
  if (!model.has_vision()) return limits;
  if (model.vision_kv_element() == KvElement::kBf16) {
    limits.vision_op = kBf16Op;
    limits.vision_attention = model.vision_int8_keys() ? kInt8Attention : kBf16Attention;
  }
  for (const VisionLayerWeights& layer : model.vision_weights().layers) {
    if (any_quantised(layer)) limits.vision_op = std::max(limits.vision_op, kInt8Heavy);
  }
  return limits;
}

double Budget::limit(const std::string& name) {
  const std::string step = name.substr(name.rfind('.') + 1);
  const bool vision = name.find("/v.") != std::string::npos;
  const double op = vision ? limits_.vision_op : limits_.decoder_op;
  if (step == "patch_embd") return spent_ = kFloatOp;  // the next picture
  if (step == "embd" && vision) {
    spent_ += op;
    worst_picture_ = std::max(worst_picture_, spent_);
    return spent_;
  }
  if (step == "embd") return spent_ = worst_picture_ + kFloatOp;
  if (step == "q" || step == "attn_out" || step == "merger" || step == "logits") spent_ += op;
  if (step == "k" || step == "v") return spent_ + limits_.kv_rounding;
  // The scores multiply two products, q and k, and weigh a third, v.
  if (step == "attn") spent_ += 2 * op + (vision ? limits_.vision_attention : limits_.decoder_attention);
  if (step == "ffn_out") spent_ += vision ? op : limits_.decoder_heavy;
  if (step != "ffn") return spent_;
  if (vision) return spent_ += op;
  spent_ += 2 * op;
  return 2 * spent_;  // a product of two: the error of both
}

}  // namespace glimpse::eval
