// --vision-precision: what the encoder's matrices are multiplied in, named alike in every command that loads a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace glimpse {
enum class VisionPrecision;
}

namespace glimpse::cli {

/// Adds --vision-precision: `precision` becomes one of the names, or the command line is refused.
void add_vision_precision(CLI::App& command, std::string& precision,
                          const std::string& help = "auto, f32, bf16 or int8 (fastest, half the memory, larger error)");
/// The precision of a name that the option took.
VisionPrecision vision_precision(const std::string& name);
/// The same as a glimpse_vision_precision.
int32_t vision_precision_number(const std::string& name);

}  // namespace glimpse::cli
