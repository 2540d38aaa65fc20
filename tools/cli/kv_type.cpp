#include "tools/cli/kv_type.h"

#include <vector>

#include "engine/include/glimpse/glimpse.h"
#include "kernels/attention/attention.h"

namespace glimpse::cli {

void add_kv_type(CLI::App& command, const std::string& names, std::string& type, const std::string& help) {
  std::vector<std::string> known;
  for (const KvElement element : kKvElements) known.emplace_back(kv_element_name(element));
  CLI::Option* const option = command.add_option(names, type, help)->check(CLI::IsMember(known));
  if (!type.empty()) option->capture_default_str();
}

KvElement kv_element(const std::string& type) {
  for (const KvElement element : kKvElements) {
    if (type == kv_element_name(element)) return element;
  }
  return kv_element(kUsualKvType);
}

int32_t kv_type_number(const std::string& type) {
  switch (kv_element(type)) {
    case KvElement::kBf16:
      return GLIMPSE_KV_BF16;
    case KvElement::kF32:
      return GLIMPSE_KV_F32;
    case KvElement::kQ8_0:
      return GLIMPSE_KV_Q8_0;
    case KvElement::kF16:
      break;
  }
  return GLIMPSE_KV_F16;
}

}  // namespace glimpse::cli
