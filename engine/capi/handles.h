// What the opaque handles of glimpse.h hold, and the wall that no exception passes.
#pragma once

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "engine/generate/session.h"
#include "engine/include/glimpse/glimpse.h"

struct glimpse_model {
  std::shared_ptr<const glimpse::Model> model;
};

struct glimpse_embedding {
  std::shared_ptr<const glimpse::ImageEmbedding> embedding;
};

struct glimpse_session {
  std::shared_ptr<const glimpse::Model> model;
  std::unique_ptr<glimpse::Session> session;
  glimpse::Answer answer;                       // of the last generate, or what steps have made so far
  int32_t finish_reason = GLIMPSE_FINISH_NONE;  // of that answer
  bool keeps_logprobs = false;                  // the steps at hand: as generate does, only when asked for
  std::string step_text;
};

namespace glimpse::capi {

glimpse_status to_status(ErrorCode code);
/// Stores the message for glimpse_last_error() and returns the status of its code.
glimpse_status fail(const Error& error);

/// Runs `body` (which returns a Status) and turns errors and exceptions into a status.
template <typename Body>
glimpse_status guarded(Body&& body) noexcept {
  try {
    const Status status = body();
    return status.ok() ? GLIMPSE_OK : fail(status.error());
  } catch (const std::bad_alloc&) {
    return fail({ErrorCode::kOutOfMemory, "out of memory"});
  } catch (const std::exception& exception) {
    return fail({ErrorCode::kInternal, exception.what()});
  } catch (...) {
    return fail({ErrorCode::kInternal, "an unknown exception"});
  }
}

/// Copies a caller's struct over the defaults: only as many bytes as the caller's version has.
/// Errors: kInvalidArgument when the pointer is null or struct_size was not set.
template <typename Params>
Status read_params(const Params* given, Params* params) {
  if (given == nullptr) return make_error(ErrorCode::kInvalidArgument, "the parameters are NULL");
  const size_t size = given->struct_size;
  if (size < sizeof(size_t) || size > (size_t{1} << 16)) {
    return make_error(ErrorCode::kInvalidArgument, "struct_size is not set: call the matching init function first");
  }
  __builtin_memcpy(params, given, size < sizeof(Params) ? size : sizeof(Params));
  params->struct_size = sizeof(Params);
  return {};
}

/// Errors: kInvalidArgument when a result struct is null or its struct_size was not set.
template <typename Info>
Status check_info(const Info* out) {
  if (out == nullptr) return make_error(ErrorCode::kInvalidArgument, "the result struct is NULL");
  const size_t room = out->struct_size;
  if (room < sizeof(size_t) || room > (size_t{1} << 16)) {
    return make_error(ErrorCode::kInvalidArgument, "struct_size of the result struct is not set");
  }
  return {};
}

/// The way back: fills as much of the caller's struct as it has room for.
template <typename Info>
Status write_info(Info info, Info* out) {
  GLIMPSE_TRY(check_info(out));
  const size_t room = out->struct_size;
  info.struct_size = room;
  __builtin_memcpy(out, &info, room < sizeof(Info) ? room : sizeof(Info));
  return {};
}

inline Status require(const void* pointer, const char* what) {
  if (pointer == nullptr) return make_error(ErrorCode::kInvalidArgument, "%s is NULL", what);
  return {};
}

/// For the address of a result: refuses NULL, and clears what it points at, so that a call that fails leaves NULL
/// there.
template <typename T>
Status clear_out(T** out) {
  GLIMPSE_TRY(require(out, "out"));
  *out = nullptr;
  return {};
}

LogSink log_sink(glimpse_log_callback callback, void* user);
ProgressSink progress_sink(glimpse_progress_callback callback, void* user);

}  // namespace glimpse::capi
