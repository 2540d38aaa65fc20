// Reads strings and metadata values. Internal to this folder.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"
#include "loaders/gguf/byte_reader.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// The length of a string, no more than the format's limit and the bytes that are left.
/// Errors: kTruncated, kTooLarge, kIo; the message has the offset.
Result<uint64_t> read_gguf_string_length(ByteReader& reader);
Result<std::string> read_gguf_string(ByteReader& reader);

/// A type and the value after it. Errors: also kCorrupt (unknown type), kUnsupported (array of arrays).
Result<GgufValue> read_gguf_value(ByteReader& reader);

}  // namespace glimpse
