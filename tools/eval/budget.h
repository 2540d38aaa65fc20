// How much each step of a pass may differ from the reference: what all operations up to it may add.
#pragma once

#include <string>

#include "engine/model/model.h"

namespace glimpse::eval {

/// NMSE that one operation may add, on one backend.
struct OpLimits {
  double decoder_op = 1e-10;     // a product of the decoder with gaussian-like inputs
  double decoder_heavy = 1e-10;  // one with heavy-tailed inputs: what comes out of SwiGLU
  double decoder_attention = 1e-10;
  double vision_op = 1e-10;
  double vision_attention = 1e-10;
  double kv_rounding = 0;  // of keys and values as the cache stores them
};

/// Limits of a model as it runs: 1e-10 for arithmetic in float; 1e-4, and 1e-3 for heavy tails, where activations are
/// quantised to int8 (quantised weights on the CPU); 2e-5 for products in bfloat16; for attention 5e-5 on a bfloat16
/// cache, a 64th of it on binary16, 2e-4 on int8. exact: the model runs on the oracle.
OpLimits op_limits(const Model& model, KvElement kv_element, bool exact);

class Budget {
 public:
  explicit Budget(const OpLimits& limits) : limits_(limits) {}
  /// The limit of an activation; to be asked for every step in model order, pictures first.
  double limit(const std::string& name);

 private:
  OpLimits limits_;
  double spent_ = 0;
  double worst_picture_ = 0;
};

}  // namespace glimpse::eval
