// Flags that users of llama.cpp type from habit, and what becomes of them here.
#pragma once

#include <string>

namespace glimpse::cli {

struct LlamaFlag {
  enum class Kind {
    kOurs,     // `text` is our option of the same meaning
    kNothing,  // what it asks for is so anyway: it is left out
    kRefused,  // `text` says why, and what to do instead
  };
  Kind kind = Kind::kRefused;
  /// kNothing: whether a value may follow; those that say no are refused with `text`.
  bool may_be_off = false;
  const char* text = "";
};

/// nullptr: no flag of llama.cpp's that this table knows. An option of the command itself comes before it.
const LlamaFlag* find_llama_flag(const std::string& name);

}  // namespace glimpse::cli
