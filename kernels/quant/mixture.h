// Which type each tensor gets in a file of a given type ("Q4_K_M" is mostly Q4_K, with some tensors finer): pure
// functions of names and shapes. Source: llama-quant.cpp (tensor_allows_quantization, llama_tensor_get_type_impl,
// tensor_type_fallback) for dense models; conversion/base.py and qwenvl.py for converted_dtype.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/dtype.h"

namespace glimpse {

/// general.file_type: llama_ftype ids (llama.h).
enum class FileType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 7,
  kQ5_0 = 8,
  kQ5_1 = 9,
  kQ2_K = 10,
  kQ3_K_S = 11,
  kQ3_K_M = 12,
  kQ3_K_L = 13,
  kQ4_K_S = 14,
  kQ4_K_M = 15,
  kQ5_K_S = 16,
  kQ5_K_M = 17,
  kQ6_K = 18,
  kIQ2_XXS = 19,
  kIQ2_XS = 20,
  kQ2_K_S = 21,
  kIQ3_XS = 22,
  kIQ3_XXS = 23,
  kIQ1_S = 24,
  kIQ4_NL = 25,
  kIQ3_S = 26,
  kIQ3_M = 27,
  kIQ2_S = 28,
  kIQ2_M = 29,
  kIQ4_XS = 30,
  kIQ1_M = 31,
  kBF16 = 32,
  kTQ1_0 = 36,
  kTQ2_0 = 37,
  kMXFP4_MoE = 38,
  kNVFP4 = 39,
  kQ1_0 = 40,
  kQ2_0 = 41,
};

/// "Q4_K_M" for 15; the flag 1024 ("guessed") is ignored. nullptr for ids that are unknown or removed.
const char* file_type_name(uint32_t id);

/// Finds a file type by name, ignoring case. Q3_K, Q4_K and Q5_K mean the _M mixture. nullopt when there is none.
std::optional<FileType> file_type_from_name(std::string_view name);

/// The type of most tensors in such a file; nullopt for files that glimpse cannot write (IQ1 to IQ3, TQ, FP4 ...).
std::optional<DType> file_type_base(FileType type);

/// The facts of a model that the mixtures depend on.
struct MixtureModel {
  int n_layers = 0;  // decoder layers; vision blocks in an mmproj file
  int n_heads = 0;
  int n_kv_heads = 0;
  bool tied_output = false;     // no output.weight: token_embd.weight serves as both
  bool has_importance = false;  // an importance matrix is given
};

/// A tensor as GGUF describes it.
struct MixtureTensor {
  std::string_view name;
  std::span<const uint64_t> dims;  // GGUF order: dims[0] is the row length
  DType source = DType::kF32;      // its type now, kept where nothing is quantised
  int layer = -1;                  // -1: the number after "blk." in the name
};

/// True for layers that the _M mixtures keep finer: the first and last eighth, and every third between.
bool use_more_bits(int layer, int n_layers);

/// False for what stays as it is: fewer than two dims (trailing ones do not count), names not ending in "weight",
/// norms, position and patch embeddings, patch mergers, expert gates.
bool is_quantized_tensor(std::string_view name, std::span<const uint64_t> dims);

/// `type`, or the type to use instead when rows of row_length elements are no multiple of its block: a 32-element type,
/// then F16.
DType fallback_dtype(DType type, uint64_t row_length);

/// The type of `tensor` in a file of type `type`, fallbacks included.
/// Precondition: file_type_base(type) has a value (otherwise tensor.source is returned).
/// llama.cpp counts tensors in file order instead, which for "v.blk.N" of mmproj files is alphabetical, and takes their
/// number of layers as 0, so that its mixed mmproj files may have the finer type on other vision blocks. Who wants the
/// same passes `layer` and n_layers so.
DType mixture_dtype(FileType type, const MixtureModel& model, const MixtureTensor& tensor);

/// The type of a tensor in a file written straight from the checkpoint as F32, F16, BF16 or Q8_0: F32 for one
/// dimension, norms, position embeddings and names that do not end in ".weight"; patch embeddings and mergers F16 in
/// F16 files and F32 otherwise; Q8_0 becomes F16 where rows are no multiple of 32. Other file types count as F16.
DType converted_dtype(FileType type, std::string_view name, std::span<const uint64_t> dims);

}  // namespace glimpse
