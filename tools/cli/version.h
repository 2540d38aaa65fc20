// What `glimpse --version` says of the program: what a report about it should begin with.
#pragma once

#include <string>

namespace glimpse::cli {

/// Lines without a line end after the last: version; compiler and kind of build; instruction sets of this CPU and the
/// one in use; backends; formats of pictures.
std::string version_text();

}  // namespace glimpse::cli
