// Parses and validates the metadata of one GGUF file. Internal to this folder; gguf.h is the way in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "loaders/gguf/byte_reader.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

// Limits of the format as llama.cpp enforces them (ggml/src/gguf.cpp), and the alignment limit of glimpse.
inline constexpr uint64_t kGgufMaxStringBytes = uint64_t{1} << 30;
inline constexpr uint64_t kGgufMaxArrayCount = uint64_t{1} << 30;
// A vocabulary of 256 000 tokens with as many merges takes 40 MB.
inline constexpr uint64_t kGgufMaxMetadataBytes = uint64_t{512} << 20;
inline constexpr uint64_t kGgufMaxTensorName = 63;
inline constexpr uint32_t kGgufMaxDims = 4;
inline constexpr uint64_t kGgufMaxAlignment = uint64_t{1} << 20;
inline constexpr uint64_t kGgufDefaultAlignment = 32;

/// Everything one file says before its tensor data.
struct GgufContents {
  uint32_t version = 0;
  uint64_t alignment = kGgufDefaultAlignment;
  uint64_t data_start = 0;
  uint64_t n_bytes = 0;
  std::vector<std::string> key_order;
  GgufValues values;
  std::vector<GgufTensor> tensors;  // file_offset is absolute; shard is 0
};

/// Reads up to the tensor data, which is not touched. Errors: see GgufFile::open; messages do not name the file.
/// Nothing is allocated that the bytes of the file have not been counted for.
Result<GgufContents> parse_gguf(ByteReader& reader);

/// Bytes of one value in a file; 0 for strings and arrays.
uint64_t gguf_type_bytes(GgufType type);

/// What a file that is no GGUF file seems to be, from its first bytes: "a Git LFS pointer, not the model: ...".
std::string describe_foreign_file(std::string_view first_bytes);

/// What to do about a tensor type that find_dtype() does not know.
std::string describe_unknown_dtype(uint32_t id);

}  // namespace glimpse
