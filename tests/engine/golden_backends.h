// The backends that the golden models run on, with the error each is allowed. A further backend is a further line.
#pragma once

#include <ostream>

#include "tests/engine/golden_support.h"

namespace glimpse::testing {

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

inline std::vector<Backend> golden_backends() {
  std::vector<Backend> backends = {{.name = "ref", .reference = true}};
  for (const Isa isa : all_isas()) {
    const std::string name = std::string("cpu_") + isa_name(isa);
    // Float weights, float cache: rounding only, and polynomial exponentials.
    backends.push_back({.name = name,
                        .isa = isa,
                        .n_threads = 2,
                        .text_limit = 1e-10,
                        .vision_limit = 1e-10,
                        .quantized_limit = 5e-4});
    // What sessions use: bfloat16 vision weights and caches.
    backends.push_back({.name = name + "_bf16",
                        .isa = isa,
                        .n_threads = 2,
                        .vision = VisionPrecision::kBf16,
                        .kv = KvElement::kBf16,
                        .text_limit = 1e-4,
                        .vision_limit = 1e-4,
                        .quantized_limit = 5e-4});
  }
  return backends;
}

/// Fixture: skips, visibly, what this CPU cannot run.
class BackendTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (GetParam().isa > detect_isa()) {
      GTEST_SKIP() << "this CPU offers " << isa_name(detect_isa()) << " at most";
    }
  }
};

}  // namespace glimpse::testing
