// Parses bytes as a GGUF file, reads everything the file offers and runs both checks over it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_check.h"

namespace {

using glimpse::GgufFile;

uint64_t touch_keys(const GgufFile& file) {
  uint64_t sum = 0;
  for (const std::string& key : file.keys()) {
    const glimpse::GgufValue* value = file.find(key);
    if (value == nullptr) __builtin_trap();  // every listed key can be found
    sum += value->array_size() + value->describe_type().size();
    if (const auto v = file.optional_uint(key); v.ok() && v.value()) sum += *v.value();
    if (const auto v = file.optional_bool(key); v.ok() && v.value()) sum += *v.value();
    if (const auto v = file.optional_string(key); v.ok() && v.value()) sum += v.value()->size();
    sum += file.optional_float(key).ok() + file.require_uint(key).ok() + file.require_float(key).ok();
    sum += file.int_array(key).ok() + file.float_array(key).ok() + file.require_string(key).ok();
    if (const auto* strings = file.string_array(key)) {
      for (const std::string& text : *strings) sum += text.size();
    }
  }
  return sum;
}

uint64_t touch_tensors(const GgufFile& file) {
  uint64_t sum = 0, total = 0;
  std::vector<std::byte> bytes;
  for (const glimpse::GgufTensor& tensor : file.tensors()) {
    if (file.find_tensor(tensor.name) != &tensor) __builtin_trap();
    // Tensors do not overlap, so all of them together are no larger than the file.
    total += tensor.n_bytes;
    if (total > file.n_bytes()) __builtin_trap();
    bytes.resize(tensor.n_bytes);
    if (!file.read(tensor, 0, bytes).ok()) __builtin_trap();
    for (std::byte b : bytes) sum += static_cast<uint64_t>(b);
    sum += tensor.describe().size() + tensor.n_elements() + tensor.row_bytes();
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!file.ok()) return file.error().message.empty() ? __builtin_trap(), 0 : 0;
  volatile uint64_t sum = touch_keys(file.value()) + touch_tensors(file.value());
  sum = sum + glimpse::check_gguf(file.value()).size();
  if (!glimpse::check_gguf_data(file.value()).ok()) __builtin_trap();
  return 0;
}
