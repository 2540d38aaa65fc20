// Reads bytes as a set of cases, and compares every expected answer with itself and with the bytes.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "tools/cases/cases.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace glimpse::cases;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    for (const Case& c : parse_cases(text, "folder")) {
      if (c.turns.empty()) __builtin_trap();
      for (const std::string& picture : c.pictures) {
        if (!picture.starts_with("folder/")) __builtin_trap();
      }
      const std::string& answer = c.turns.back().answer;
      if (c.score != Score::kBox && !is_right(c.score, answer, answer)) __builtin_trap();
      is_right(c.score, text, answer);
    }
  } catch (const std::runtime_error& error) {
    if (error.what()[0] == '\0') __builtin_trap();
  }
  return 0;
}
