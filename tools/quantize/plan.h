// Which tensor of a file gets which type, decided and checked before anything is written.
#pragma once

#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/result.h"
#include "kernels/quant/mixture.h"
#include "loaders/gguf/gguf.h"
#include "tools/quantize/importance.h"

namespace glimpse {

/// "Tensors whose name contains a match of this expression get this type."
struct TensorTypeRule {
  std::string pattern;
  std::regex expression;
  DType type = DType::kF32;
};
/// "attn_q=q8_0": an ECMAScript expression, matched ignoring case, and the name of a tensor type; the last '=' parts
/// them. Errors: kInvalidArgument.
Result<TensorTypeRule> parse_tensor_type_rule(const std::string& text);
/// A tensor type that can be written, by name, ignoring case. Errors: kInvalidArgument lists the names.
Result<DType> parse_tensor_type(const std::string& name);

struct QuantizeRequest {
  FileType type = FileType::kQ4_K_M;
  bool pure = false;                    // one type for all, no mixture
  bool allow_requantize = false;        // from types that have lost precision already
  std::optional<DType> output_type;     // of output.weight, or of the token embeddings that serve as such
  std::optional<DType> embedding_type;  // of token_embd.weight; goes before output_type
  std::vector<TensorTypeRule> rules;    // the first that matches goes before the mixture, after the two above
  const ImportanceMatrix* importance = nullptr;
};

struct PlannedTensor {
  const GgufTensor* source = nullptr;  // of the file that was planned
  DType type = DType::kF32;
  bool is_fallback = false;  // its rows are no whole blocks of the type that it should have had
  /// One value per column, one matrix after the other (dims[2] * dims[3] of them); empty: none.
  std::span<const float> importance;
  bool lacks_importance = false;  // quantised without, though there is an importance matrix

  bool is_copied() const { return source->type == type; }
  uint64_t n_bytes() const { return dtype_row_bytes(type, source->row_length()) * source->n_rows(); }
};

struct QuantizePlan {
  std::vector<PlannedTensor> tensors;     // in file order
  std::vector<std::string> unused_rules;  // patterns that matched no tensor that may be quantised
  uint64_t n_elements = 0, bytes_before = 0, bytes_after = 0;
};

/// Chooses types as llama.cpp's llama-quantize does for Qwen models and their vision encoders: the mixture of
/// kernels/quant/mixture.h, and for vision encoders with its peculiar layer counts, so that types are equal there too.
/// It differs where a rule takes a tensor out of the mixture: llama-quantize then counts the later layers one short.
/// file and request.importance must outlive the plan.
/// Errors: kUnsupported (an architecture whose rules are unknown, a file type that cannot be written, a source type
/// that cannot be read), kInvalidArgument (a quantised source without allow_requantize, an importance matrix that is
/// needed and lacks the tensor), kMismatch (its length is not that of the tensor's rows), and those of missing keys.
Result<QuantizePlan> plan_quantization(const GgufFile& file, const QuantizeRequest& request);

}  // namespace glimpse
