// What loading a file would say, without reading its weights: the findings of `glimpse inspect`.
#pragma once

#include <vector>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_check.h"

namespace glimpse {

/// Configuration, vocabulary and tensor table of a text model or a vision encoder, as Model::load() takes them. A file
/// without tensors is no model, and nothing is said about it.
std::vector<GgufFinding> check_model(const GgufFile& file);

}  // namespace glimpse
