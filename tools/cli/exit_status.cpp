#include "tools/cli/exit_status.h"

#include <CLI/CLI.hpp>
#include <filesystem>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/cli/commands.h"
#include "tools/cli/terminal.h"

namespace glimpse::cli {

int exit_status(const Status& result) {
  if (result.ok()) return kExitOk;
  print_error(result.error().message);
  return result.error().code == ErrorCode::kCancelled ? kExitCancelled : kExitError;
}

int exit_status_of(const std::function<int()>& run) {
  try {
    return run();
  } catch (const CLI::Error&) {
    throw;
  } catch (const api::Error& error) {
    print_error(error.what());
    return error.status() == GLIMPSE_ERROR_CANCELLED ? kExitCancelled : kExitError;
  } catch (const std::exception& error) {  // memory, files
    print_error(error.what());
    return kExitError;
  }
}

Status check_free(std::initializer_list<std::string> paths, bool force) {
  for (const std::string& path : paths) {
    std::error_code unknown;  // then writing will say what is wrong
    if (!force && !path.empty() && std::filesystem::exists(std::filesystem::symlink_status(path, unknown))) {
      return make_error(ErrorCode::kInvalidArgument, "%s exists already and is not overwritten (--force does)", path);
    }
  }
  return {};
}

}  // namespace glimpse::cli
