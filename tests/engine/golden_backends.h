// The backends that the golden models run on, with the error each is allowed.
#pragma once

#include <ostream>

#include "tests/engine/golden_support.h"

namespace glimpse::testing {

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

inline std::vector<Backend> golden_backends() {
  std::vector<Backend> backends = {
      {.name = "ref", .reference = true},
  };
  return backends;
}

}  // namespace glimpse::testing
