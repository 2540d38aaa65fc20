// What the opaque handles of glimpse.h hold, and the wall that no exception passes.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate/picture_encoder.h"
#include "engine/generate/session.h"
#include "engine/include/glimpse/glimpse.h"

struct glimpse_model {
  std::shared_ptr<const glimpse::Model> model;
};

struct glimpse_constraint {
  std::shared_ptr<const glimpse::Constraint> constraint;
};

struct glimpse_embedding {
  std::shared_ptr<const glimpse::ImageEmbedding> embedding;
};

namespace glimpse::capi {

/// Whether a call is under way on a handle, see Use.
struct Usable {
  enum State { kIdle, kBusy, kFreedWhileBusy };
  mutable std::atomic<int> use{kIdle};
};
/// Whether one of the sessions that were forked from one another is at work.
using Family = std::shared_ptr<std::atomic<bool>>;

}  // namespace glimpse::capi

struct glimpse_encoder : glimpse::capi::Usable {
  static constexpr const char* kName = "encoder";
  std::unique_ptr<glimpse::PictureEncoder> encoder;
  glimpse::capi::Family family;  // none
  void call_ended() const {}
};

struct glimpse_session : glimpse::capi::Usable {
  static constexpr const char* kName = "session";
  std::shared_ptr<const glimpse::Model> model;
  std::unique_ptr<glimpse::Session> session;
  glimpse::capi::Family family = std::make_shared<std::atomic<bool>>(false);
  std::string step_text;
  mutable std::atomic<int32_t> n_past{0};  // after the last call that ended
  void call_ended() const { n_past.store(static_cast<int32_t>(session->n_past()), std::memory_order_relaxed); }
};

struct glimpse_checkpoint {
  std::unique_ptr<glimpse::Session::Checkpoint> checkpoint;
};

namespace glimpse::capi {

/// A status is its code plus one, GLIMPSE_OK being 0.
constexpr glimpse_status to_status(ErrorCode code) {
  return static_cast<glimpse_status>(static_cast<int>(code) + 1);
}
/// Stores the message for glimpse_last_error() and returns the status of the code. Allocates nothing.
glimpse_status fail(ErrorCode code, std::string_view message) noexcept;

/// Runs `body` (which returns a Status) and turns errors and exceptions into a status. What is left to do when it fails
/// needs no memory.
template <typename Body>
glimpse_status guarded(Body&& body) noexcept {
  try {
    const Status status = body();
    return status.ok() ? GLIMPSE_OK : fail(status.error().code, status.error().message);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "out of memory");
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kInternal, exception.what());
  } catch (...) {
    return fail(ErrorCode::kInternal, "an unknown exception");
  }
}

/// A handle in use by one call: another one, from a callback of the first or from another thread, is refused.
template <typename Handle>
class Use {
 public:
  Use() = default;
  ~Use() {
    if (handle_ == nullptr) return;
    handle_->call_ended();
    if (works_) handle_->family->store(false, std::memory_order_release);
    int expected = Usable::kBusy;
    if (!handle_->use.compare_exchange_strong(expected, Usable::kIdle)) delete handle_;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  /// Errors: kInvalidArgument for NULL, kBusy: also while another session of the family works.
  Status begin(const Handle* handle) {
    GLIMPSE_TRY(begin_reading(handle));
    if (handle->family == nullptr) return {};
    if (handle->family->exchange(true, std::memory_order_acquire)) {
      return make_error(ErrorCode::kBusy, "a %s that was forked from the same is at work: they share their threads",
                        Handle::kName);
    }
    works_ = true;
    return {};
  }
  /// For what needs neither threads nor scratch of the family.
  Status begin_reading(const Handle* handle) {
    if (handle == nullptr) return make_error(ErrorCode::kInvalidArgument, "%s is NULL", Handle::kName);
    int expected = Usable::kIdle;
    if (!handle->use.compare_exchange_strong(expected, Usable::kBusy)) {
      return make_error(ErrorCode::kBusy,
                        "the %s is busy: it was called from its own callback, or while another thread uses it",
                        Handle::kName);
    }
    handle_ = handle;
    return {};
  }

 private:
  const Handle* handle_ = nullptr;
  bool works_ = false;  // has the family's threads
};
using SessionUse = Use<glimpse_session>;

/// From its own callback: the call that is under way frees it when it ends.
template <typename Handle>
void free_handle(Handle* handle) {
  if (handle == nullptr) return;
  if (handle->use.exchange(Usable::kFreedWhileBusy) == Usable::kIdle) delete handle;
}

/// No struct is longer: more is a struct_size that nobody set.
inline constexpr size_t kLongestStruct = size_t{1} << 16;

/// Copies a caller's struct over the defaults: only as many bytes as the caller's version has.
/// Errors: kInvalidArgument when the pointer is null or struct_size was not set; kUnsupported when the caller, built
/// for a later version, sets what this one does not know.
template <typename Params>
Status read_params(const Params* given, Params* params) {
  if (given == nullptr) return make_error(ErrorCode::kInvalidArgument, "the parameters are NULL");
  const size_t size = given->struct_size;
  if (size < sizeof(size_t) || size > kLongestStruct) {
    return make_error(ErrorCode::kInvalidArgument, "struct_size is not set: call the matching init function first");
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (size_t i = sizeof(Params); i < size; ++i) {
    if (bytes[i] == 0) continue;
    return make_error(ErrorCode::kUnsupported,
                      "a parameter at byte %zu of its struct is set, of which this library knows %zu: the program was "
                      "built for a newer glimpse",
                      i, sizeof(Params));
  }
  __builtin_memcpy(params, given, size < sizeof(Params) ? size : sizeof(Params));
  params->struct_size = sizeof(Params);
  return {};
}

/// The same on what `init` sets.
template <typename Params>
Result<Params> given_params(const Params* given, size_t (*init)(Params*, size_t)) {
  Params params;
  init(&params, sizeof params);
  GLIMPSE_TRY(read_params(given, &params));
  return params;
}

/// Errors: kInvalidArgument when a result struct is null or its struct_size was not set.
template <typename Info>
Status check_info(const Info* out) {
  if (out == nullptr) return make_error(ErrorCode::kInvalidArgument, "the result struct is NULL");
  const size_t room = out->struct_size;
  if (room < sizeof(size_t) || room > kLongestStruct) {
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

/// A call that makes a handle: `fill` does, and it goes to *out; NULL does where that fails.
template <typename Handle, typename Fill>
glimpse_status give_handle(Handle** out, Fill&& fill) noexcept {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    auto handle = std::make_unique<Handle>();
    GLIMPSE_TRY(fill(*handle));
    *out = handle.release();
    return {};
  });
}

glimpse_memory_plan memory_plan(const MemoryPlan& plan);
/// A call that plans memory: `plan` does for a model and the options that `read` makes of the parameters.
template <typename Params, typename Options>
glimpse_status give_plan(const glimpse_model* model, const Params* params, glimpse_memory_plan* out,
                         Result<Options> (*read)(const Params*),
                         Result<MemoryPlan> (*plan)(const Model&, const Options&)) noexcept {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_ASSIGN(const Options options, read(params));
    GLIMPSE_ASSIGN(const MemoryPlan planned, plan(*model->model, options));
    return write_info(memory_plan(planned), out);
  });
}
/// A call that makes a handle of a model: fill(handle, model, options) does.
template <typename Handle, typename Params, typename Options, typename Fill>
glimpse_status give_made(const glimpse_model* model, const Params* params, Handle** out,
                         Result<Options> (*read)(const Params*), Fill fill) noexcept {
  return give_handle(out, [&](Handle& handle) -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_ASSIGN(const Options options, read(params));
    return fill(handle, model->model, options);
  });
}

/// What parameters begin as: zeros but for what fill(&params) sets, in as many bytes as the caller's struct has.
template <typename Params, typename Fill>
size_t init_params(Params* out, size_t struct_size, Fill&& fill) {
  if (out == nullptr || struct_size < sizeof(size_t) || struct_size > kLongestStruct) return sizeof(Params);
  Params params;
  __builtin_memset(&params, 0, sizeof params);  // gaps between fields too
  __builtin_memset(static_cast<void*>(out), 0, struct_size);
  fill(&params);
  params.struct_size = struct_size;
  __builtin_memcpy(out, &params, struct_size < sizeof(Params) ? struct_size : sizeof(Params));
  return sizeof(Params);
}

/// The convention of results in the caller's memory: *n is how many there are, and they are copied unless capacity is
/// 0. Errors: kInvalidArgument (NULL), kTooLarge (names `what` and both sizes).
template <typename From, typename To>
Status copy_out(const From& from, const char* what, To* to, size_t capacity, size_t* n) {
  GLIMPSE_TRY(require(n, "the address of the count"));
  *n = from.size();
  if (capacity == 0) return {};
  GLIMPSE_TRY(require(to, what));
  if (capacity < from.size()) {
    return make_error(ErrorCode::kTooLarge, "%s: there are %d, there is room for %d", what, from.size(), capacity);
  }
  std::copy(from.begin(), from.end(), to);
  return {};
}

/// The fields that sessions and encoders have in common: bounds on pictures.
template <typename Params>
void init_picture_params(Params* params) {
  const PictureOptions defaults;
  params->image_min_pixels = defaults.image_limits.min_pixels;
  params->image_max_pixels = defaults.image_limits.max_pixels;
  params->image_source_max_pixels = static_cast<int64_t>(defaults.source_limits.max_pixels);
  params->image_source_max_memory = static_cast<int64_t>(defaults.source_limits.max_memory);
  params->image_source_max_scans = defaults.source_limits.max_scans;
}
template <typename Params>
Status read_picture_params(const Params& params, PictureOptions* options) {
  if (params.image_source_max_pixels < 1 || params.image_source_max_memory < 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "image_source_max_pixels is %d and image_source_max_memory is %d: each must be at least 1",
                      params.image_source_max_pixels, params.image_source_max_memory);
  }
  options->image_limits = {params.image_min_pixels, params.image_max_pixels};
  options->min_image_tokens = params.image_min_tokens;
  options->max_image_tokens = params.image_max_tokens;
  options->source_limits.max_pixels = static_cast<uint64_t>(params.image_source_max_pixels);
  options->source_limits.max_memory = static_cast<uint64_t>(params.image_source_max_memory);
  options->source_limits.max_scans = params.image_source_max_scans;
  options->dedup_patches = params.image_dedup != 0;
  return {};
}
/// Errors: those of write_info().
Status write_step(glimpse_session& session, Session::Step step, glimpse_step_result* result);
Status write_timings(const Timings& measured, glimpse_timings* timings);
/// Errors: kInvalidArgument past the last token.
Status write_top_logprobs(const std::vector<SampledToken>& tokens, size_t index, int32_t* ids, float* logprobs,
                          size_t capacity, size_t* n);

Result<KvElement> kv_element(int32_t kv_type);
Result<GenerateOptions> generate_options(const glimpse_generate_params* given);
/// A part's text; n_bytes 0: it ends with a NUL.
Result<std::string> part_text(const char* text, size_t n_bytes);
/// That exactly one of bytes, path and rgb is given.
Status check_one_source(const glimpse_picture& picture);
/// Bytes from one row of rgb to the next. Errors: kInvalidArgument (outside the limits, a stride that is too small).
Result<size_t> stride_of(const glimpse_picture& picture, const ImageLimits& limits);

Result<SessionOptions> session_options(const glimpse_session_params* given);
Result<PromptOptions> prompt_options(const char* const* tools, size_t n_tools, int32_t thinking);
Result<std::vector<Message>> read_messages(const glimpse_message* messages, size_t n_messages);

LogSink log_sink(glimpse_log_callback callback, void* user);
ProgressSink progress_sink(glimpse_progress_callback callback, void* user);

}  // namespace glimpse::capi
