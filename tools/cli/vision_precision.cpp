#include "tools/cli/vision_precision.h"

#include <vector>

#include "engine/include/glimpse/glimpse.h"
#include "engine/model/model.h"

namespace glimpse::cli {
namespace {

struct Named {
  const char* name;
  VisionPrecision precision;
  int32_t number;
};
constexpr Named kNames[] = {
    {"auto", VisionPrecision::kAuto, GLIMPSE_VISION_AUTO},
    {"f32", VisionPrecision::kF32, GLIMPSE_VISION_F32},
    {"bf16", VisionPrecision::kBf16, GLIMPSE_VISION_BF16},
    {"int8", VisionPrecision::kInt8, GLIMPSE_VISION_INT8},
};

const Named& find(const std::string& name) {
  for (const Named& one : kNames) {
    if (name == one.name) return one;
  }
  return kNames[0];
}

}  // namespace

void add_vision_precision(CLI::App& command, std::string& precision, const std::string& help) {
  std::vector<std::string> known;
  for (const Named& one : kNames) known.emplace_back(one.name);
  command.add_option("--vision-precision", precision, help)->check(CLI::IsMember(known))->capture_default_str();
}

VisionPrecision vision_precision(const std::string& name) {
  return find(name).precision;
}

int32_t vision_precision_number(const std::string& name) {
  return find(name).number;
}

}  // namespace glimpse::cli
