// The tokenizer keys of a synthetic model.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "loaders/gguf/gguf_writer.h"

namespace glimpse {

/// The number of tokens that a copy of the vocabulary of the GGUF at `source_path` has: its own and the special ones
/// that it lacks. Errors: kInvalidArgument (no tokens), those of opening it.
Result<int64_t> vocabulary_size(const std::string& source_path);

/// Copies every tokenizer.* key of the GGUF at `source_path`, the token list with the special tokens that it lacks, as
/// far as there is room, and padded to vocab_size; or, when the path is empty, writes a placeholder: the 256 byte
/// tokens, a few merges, Qwen's special tokens and padding. Errors: kInvalidArgument (vocab_size too small, a source
/// without tokens), those of opening the source.
Status add_vocabulary(GgufWriter& writer, int64_t vocab_size, const std::string& source_path);

}  // namespace glimpse
