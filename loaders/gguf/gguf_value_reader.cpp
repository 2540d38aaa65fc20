#include "loaders/gguf/gguf_value_reader.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// Arrays grow as they are read, from at most this many entries: a count that only the tensor data behind it makes
// plausible must not reserve gigabytes.
constexpr uint64_t kMaxReserve = uint64_t{1} << 18;

Result<GgufType> read_type(ByteReader& reader) {
  const uint64_t offset = reader.position();
  GLIMPSE_ASSIGN(const uint32_t id, reader.read_value<uint32_t>());
  if (id > static_cast<uint32_t>(GgufType::kFloat64)) {
    return make_error(ErrorCode::kCorrupt, "value type %d at offset %d; known types are 0 to 12", id, offset);
  }
  return static_cast<GgufType>(id);
}

template <typename Stored, typename Wide>
Status read_scalar(ByteReader& reader, GgufValue& value) {
  GLIMPSE_ASSIGN(const Stored stored, reader.read_value<Stored>());
  value.data = static_cast<Wide>(stored);
  return {};
}

template <typename Stored, typename Wide>
Status read_numbers(ByteReader& reader, GgufValue& value, uint64_t count) {
  auto& numbers = value.data.emplace<std::vector<Wide>>();
  numbers.reserve(std::min(count, kMaxReserve));
  Stored chunk[1024];
  while (numbers.size() < count) {
    const auto n = static_cast<size_t>(std::min<uint64_t>(std::size(chunk), count - numbers.size()));
    GLIMPSE_TRY(reader.read(chunk, n * sizeof(Stored)));
    for (size_t i = 0; i < n; ++i) numbers.push_back(static_cast<Wide>(chunk[i]));
  }
  return {};
}

Status read_array(ByteReader& reader, GgufValue& value) {
  GLIMPSE_ASSIGN(value.element_type, read_type(reader));
  if (value.element_type == GgufType::kArray) {
    return make_error(ErrorCode::kUnsupported, "an array of arrays, which neither glimpse nor llama.cpp reads");
  }
  GLIMPSE_ASSIGN(const uint64_t count, reader.read_value<uint64_t>());
  const char* type = gguf_type_name(value.element_type);
  if (count > kGgufMaxArrayCount) {
    return make_error(ErrorCode::kTooLarge, "an array of %d %s; the limit is %d", count, type, kGgufMaxArrayCount);
  }
  // A string needs at least its length.
  const uint64_t least = value.element_type == GgufType::kString ? 8 : gguf_type_bytes(value.element_type);
  if (count > reader.remaining() / least) {
    return make_error(ErrorCode::kTruncated, "an array of %d %s, but only %d bytes are left", count, type,
                      reader.remaining());
  }
  switch (value.element_type) {
    case GgufType::kUint8:
      return read_numbers<uint8_t, uint64_t>(reader, value, count);
    case GgufType::kInt8:
      return read_numbers<int8_t, int64_t>(reader, value, count);
    case GgufType::kUint16:
      return read_numbers<uint16_t, uint64_t>(reader, value, count);
    case GgufType::kInt16:
      return read_numbers<int16_t, int64_t>(reader, value, count);
    case GgufType::kUint32:
      return read_numbers<uint32_t, uint64_t>(reader, value, count);
    case GgufType::kInt32:
      return read_numbers<int32_t, int64_t>(reader, value, count);
    case GgufType::kUint64:
      return read_numbers<uint64_t, uint64_t>(reader, value, count);
    case GgufType::kInt64:
      return read_numbers<int64_t, int64_t>(reader, value, count);
    case GgufType::kFloat32:
      return read_numbers<float, double>(reader, value, count);
    case GgufType::kFloat64:
      return read_numbers<double, double>(reader, value, count);
    case GgufType::kBool: {
      GLIMPSE_TRY((read_numbers<uint8_t, uint64_t>(reader, value, count)));
      for (uint64_t& flag : *std::get_if<std::vector<uint64_t>>(&value.data)) flag = flag != 0;
      return {};
    }
    case GgufType::kString: {
      auto& strings = value.data.emplace<std::vector<std::string>>();
      strings.reserve(std::min(count, kMaxReserve));
      for (uint64_t i = 0; i < count; ++i) {
        auto text = read_gguf_string(reader);
        if (!text.ok()) {
          return with_context(std::move(text).error(), format("string %d of %d", i + 1, count));
        }
        strings.push_back(std::move(text).value());
      }
      return {};
    }
    case GgufType::kArray:
      break;
  }
  return make_error(ErrorCode::kInternal, "unreachable element type");
}

}  // namespace

Result<uint64_t> read_gguf_string_length(ByteReader& reader) {
  const uint64_t offset = reader.position();
  GLIMPSE_ASSIGN(const uint64_t length, reader.read_value<uint64_t>());
  if (length > kGgufMaxStringBytes) {
    return make_error(ErrorCode::kTooLarge, "a string of %d bytes at offset %d; the limit is %d", length, offset,
                      kGgufMaxStringBytes);
  }
  if (length > reader.remaining()) {
    return make_error(ErrorCode::kTruncated, "a string of %d bytes at offset %d, but only %d bytes are left", length,
                      offset, reader.remaining());
  }
  return length;
}

Result<std::string> read_gguf_string(ByteReader& reader) {
  GLIMPSE_ASSIGN(const uint64_t length, read_gguf_string_length(reader));
  std::string text(length, '\0');
  GLIMPSE_TRY(reader.read(text.data(), text.size()));
  return text;
}

Result<GgufValue> read_gguf_value(ByteReader& reader) {
  GgufValue value;
  GLIMPSE_ASSIGN(value.type, read_type(reader));
  switch (value.type) {
    case GgufType::kUint8:
      GLIMPSE_TRY((read_scalar<uint8_t, uint64_t>(reader, value)));
      break;
    case GgufType::kInt8:
      GLIMPSE_TRY((read_scalar<int8_t, int64_t>(reader, value)));
      break;
    case GgufType::kUint16:
      GLIMPSE_TRY((read_scalar<uint16_t, uint64_t>(reader, value)));
      break;
    case GgufType::kInt16:
      GLIMPSE_TRY((read_scalar<int16_t, int64_t>(reader, value)));
      break;
    case GgufType::kUint32:
      GLIMPSE_TRY((read_scalar<uint32_t, uint64_t>(reader, value)));
      break;
    case GgufType::kInt32:
      GLIMPSE_TRY((read_scalar<int32_t, int64_t>(reader, value)));
      break;
    case GgufType::kUint64:
      GLIMPSE_TRY((read_scalar<uint64_t, uint64_t>(reader, value)));
      break;
    case GgufType::kInt64:
      GLIMPSE_TRY((read_scalar<int64_t, int64_t>(reader, value)));
      break;
    case GgufType::kFloat32:
      GLIMPSE_TRY((read_scalar<float, double>(reader, value)));
      break;
    case GgufType::kFloat64:
      GLIMPSE_TRY((read_scalar<double, double>(reader, value)));
      break;
    case GgufType::kBool: {
      GLIMPSE_ASSIGN(const uint8_t byte, reader.read_value<uint8_t>());
      value.data = uint64_t{byte != 0};
      break;
    }
    case GgufType::kString: {
      GLIMPSE_ASSIGN(value.data, read_gguf_string(reader));
      break;
    }
    case GgufType::kArray:
      GLIMPSE_TRY(read_array(reader, value));
      break;
  }
  return value;
}

}  // namespace glimpse
