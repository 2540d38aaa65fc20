// Files with text and vision in one, as Ollama writes them: the vision side under the names of a file of its own.
#pragma once

#include "engine/base/result.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Whether a text model's file has a vision encoder in it: patches and blocks, not a tensor that strayed into it.
bool has_vision_inside(const GgufFile& file);

/// The vision encoder of such a file as an mmproj file has it: its keys as clip.*, its tensors as llama.cpp's converter
/// names them, nothing of the text model. Source of the other names: Ollama's converter for Qwen3-VL; where the names
/// are llama.cpp's they stay. Errors: those of GgufFile::open(); kCorrupt (DeepStack blocks without their numbers).
Result<GgufFile> vision_inside(const GgufFile& file);

/// Whether a tensor of a text model's file belongs to the encoder in it.
bool is_vision_tensor(std::string_view name);

}  // namespace glimpse
