// --kv-type: the types of the key/value cache, named alike in every command that runs a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace glimpse {
enum class KvElement;
}

namespace glimpse::cli {

/// What sessions use.
inline constexpr const char* kUsualKvType = "f16";

/// Adds the option `names`, usually "--kv-type": `type` becomes one of the names, or the command line is refused.
/// Help shows its value before as the default, unless it is empty.
void add_kv_type(CLI::App& command, const std::string& names, std::string& type, const std::string& help);
/// The element type of a name that the option took.
KvElement kv_element(const std::string& type);
/// The same as a glimpse_kv_type.
int32_t kv_type_number(const std::string& type);

}  // namespace glimpse::cli
