// What a model file says about itself, key by key, as text: kept with the model, for programs that look.
#pragma once

#include <map>
#include <string>

#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Numbers in decimal, bools as true and false, strings as they are, arrays as "[1, 2, 3]" or ["a", "b"] with strings
/// quoted and escaped as JSON does. Of an array of more than kMostListed entries only the type: "array of 151936
/// string".
constexpr size_t kMostListed = 1024;
using Metadata = std::map<std::string, std::string, std::less<>>;
Metadata read_metadata(const GgufFile& file);

}  // namespace glimpse
