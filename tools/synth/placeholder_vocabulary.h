// The tokenizer keys of a synthetic model.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "loaders/gguf/gguf_writer.h"

namespace glimpse {

/// Copies every tokenizer.* key of the GGUF at `source_path`, the token list cut or padded to vocab_size; or, when the
/// path is empty, writes a placeholder: the 256 byte tokens, a few merges, Qwen's special tokens and padding.
/// Errors: kInvalidArgument (vocab_size too small, a source without tokens or with more special tokens than fit), and
/// those of opening the source.
Status add_vocabulary(GgufWriter& writer, int64_t vocab_size, const std::string& source_path);

}  // namespace glimpse
