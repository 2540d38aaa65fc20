// Options of a device by their names, as hosts and command lines give them.
#include <string_view>

#include "engine/runtime/ops.h"

namespace glimpse {
namespace {

Status read_option(std::string_view name, std::string_view value, CudaOpsOptions& options) {
  if (name != "cuda_decode") {
    return make_error(ErrorCode::kInvalidArgument, "device option %s is unknown: there is cuda_decode", name);
  }
  if (value != "graph" && value != "launches") {
    return make_error(ErrorCode::kInvalidArgument, "device option cuda_decode is %s, want graph or launches", value);
  }
  options.decode = value == "graph" ? CudaDecode::kGraph : CudaDecode::kLaunches;
  return {};
}

}  // namespace

Status read_device_options(std::string_view text, CudaOpsOptions& options) {
  while (!text.empty()) {
    const size_t end = text.find(',');
    const std::string_view one = text.substr(0, end);
    const size_t equals = one.find('=');
    if (equals == std::string_view::npos) {
      return make_error(ErrorCode::kInvalidArgument, "device option %s has no value: want name=value", one);
    }
    GLIMPSE_TRY(read_option(one.substr(0, equals), one.substr(equals + 1), options));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return {};
}

}  // namespace glimpse
