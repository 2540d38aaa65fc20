// Reads strings and metadata values. Internal to this folder.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "loaders/gguf/byte_reader.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// What the metadata of one file may take in memory: kGgufMaxMetadataBytes, and what the machine has. A file with holes
/// claims gigabytes that it does not have.
class GgufBudget {
 public:
  /// Called before n_bytes are allocated. Errors: kTooLarge, kOutOfMemory.
  Status take(uint64_t n_bytes);

 private:
  uint64_t taken_ = 0;
  uint64_t available_ = 0;  // 0: not asked yet
};

/// The length of a string, no more than the format's limit and the bytes that are left.
/// Errors: kTruncated, kTooLarge, kIo; the message has the offset.
Result<uint64_t> read_gguf_string_length(ByteReader& reader);
Result<std::string> read_gguf_string(ByteReader& reader, GgufBudget& budget);

/// A type and the value after it. Errors: also kCorrupt (unknown type), kUnsupported (array of arrays).
Result<GgufValue> read_gguf_value(ByteReader& reader, GgufBudget& budget);

}  // namespace glimpse
