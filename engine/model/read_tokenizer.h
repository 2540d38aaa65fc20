// The tokenizer that a text model's file carries.
#pragma once

#include <memory>

#include "engine/base/result.h"
#include "engine/model/config.h"
#include "loaders/gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// Errors: kCorrupt (no vocabulary, or one larger than the embedding), those of Tokenizer::create().
Result<std::unique_ptr<Tokenizer>> read_tokenizer(const GgufFile& file, const TextConfig& config);

}  // namespace glimpse
