// How a command ends: what it is to say on stderr, and the status that the shell gets.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>

#include "engine/base/result.h"

namespace glimpse::cli {

/// Of what a command came to; an error is said.
int exit_status(const Status& result);
/// Of a command that returns its status or throws: an exception is said, but for those of wrong flags, which go on.
int exit_status_of(const std::function<int()>& run);

/// That files may be written: none of them is there, unless force. Errors: kInvalidArgument names the first that is.
Status check_free(std::initializer_list<std::string> paths, bool force);

}  // namespace glimpse::cli
