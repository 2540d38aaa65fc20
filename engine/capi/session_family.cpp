// Forks, checkpoints, tokens of the caller's choice, steps of several sessions, and sessions as bytes.
#include <algorithm>

#include "engine/base/file.h"
#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

// results[i] of an array whose elements are as large as the first says.
glimpse_step_result* result_at(glimpse_step_result* results, size_t i) {
  return reinterpret_cast<glimpse_step_result*>(reinterpret_cast<char*>(results) + i * results->struct_size);
}

Status check_results(glimpse_step_result* results, size_t n) {
  GLIMPSE_TRY(require(results, "results"));
  for (size_t i = 0; i < n; ++i) {
    GLIMPSE_TRY(check_info(result_at(results, i)));
    if (result_at(results, i)->struct_size == results->struct_size) continue;
    return make_error(ErrorCode::kInvalidArgument, "struct_size of result %d differs from that of the first", i + 1);
  }
  return {};
}

// The limit is what no state of this session can exceed, so that no device is read forever.
uint64_t most_state_bytes(const Session& session, const Model& model) {
  return (uint64_t{1} << 20) + static_cast<uint64_t>(model.text().vocab_size) * sizeof(float) +
         static_cast<uint64_t>(session.context() + 1) * sizeof(int32_t) +
         static_cast<uint64_t>(session.n_pages()) * (session.page_bytes() + sizeof(uint64_t));
}

}  // namespace

extern "C" {

glimpse_status glimpse_session_fork(const glimpse_session* session, glimpse_session** out) {
  return give_handle(out, [&](glimpse_session& handle) -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    handle.model = session->model;
    handle.family = session->family;
    GLIMPSE_ASSIGN(handle.session, session->session->fork());
    handle.call_ended();
    return {};
  });
}

glimpse_status glimpse_session_checkpoint(const glimpse_session* session, glimpse_checkpoint** out) {
  return give_handle(out, [&](glimpse_checkpoint& handle) -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(handle.checkpoint, session->session->checkpoint());
    return {};
  });
}

glimpse_status glimpse_session_rewind(glimpse_session* session, const glimpse_checkpoint* checkpoint) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(checkpoint, "checkpoint"));
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    return session->session->rewind(*checkpoint->checkpoint);
  });
}

void glimpse_checkpoint_free(glimpse_checkpoint* checkpoint) {
  delete checkpoint;
}

glimpse_status glimpse_feed(glimpse_session* session, int32_t token, glimpse_step_result* result) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_TRY(check_info(result));
    GLIMPSE_ASSIGN(Session::Step step, session->session->feed(token));
    return write_step(*session, std::move(step), result);
  });
}

glimpse_status glimpse_forward(glimpse_session* session) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    return session->session->forward();
  });
}

glimpse_status glimpse_step_many(glimpse_session* const* sessions, size_t n_sessions, glimpse_step_result* results) {
  return guarded([&]() -> Status {
    if (n_sessions == 0) return make_error(ErrorCode::kInvalidArgument, "no sessions");
    GLIMPSE_TRY(require(sessions, "sessions"));
    GLIMPSE_TRY(check_results(results, n_sessions));
    for (size_t i = 0; i < n_sessions; ++i) {
      if (std::find(sessions, sessions + i, sessions[i]) != sessions + i) {
        return make_error(ErrorCode::kInvalidArgument, "session %d is among the sessions twice", i + 1);
      }
    }
    std::vector<SessionUse> uses(n_sessions);
    std::vector<Session*> members;
    for (size_t i = 0; i < n_sessions; ++i) {
      GLIMPSE_TRY(i == 0 ? uses[i].begin(sessions[i]) : uses[i].begin_reading(sessions[i]));
      members.push_back(sessions[i]->session.get());
    }
    GLIMPSE_ASSIGN(std::vector<Result<Session::Step>> steps, Session::step_many(members));
    Status first;
    for (size_t i = 0; i < n_sessions; ++i) {
      if (steps[i].ok()) {
        GLIMPSE_TRY(write_step(*sessions[i], std::move(steps[i]).value(), result_at(results, i)));
        continue;
      }
      Error error = std::move(steps[i]).error();
      glimpse_step_result failed{};
      failed.token = -1;
      failed.finish_reason = GLIMPSE_FINISH_NONE;
      failed.text = "";
      failed.status = to_status(error.code);
      GLIMPSE_TRY(write_info(failed, result_at(results, i)));
      if (!first.ok()) continue;
      error.message = format("session %d of %d: %s", i + 1, n_sessions, error.message);
      first = std::move(error);
    }
    return first;
  });
}

glimpse_status glimpse_session_save(const glimpse_session* session, void* bytes, size_t capacity, size_t* n_bytes) {
  return guarded([&]() -> Status {
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_TRY(require(n_bytes, "the address of the count"));
    *n_bytes = session->session->saved_bytes();
    if (capacity == 0) return {};
    GLIMPSE_TRY(require(bytes, "bytes"));
    if (capacity < *n_bytes) {
      return make_error(ErrorCode::kTooLarge, "bytes: there are %d, there is room for %d", *n_bytes, capacity);
    }
    auto* to = static_cast<std::byte*>(bytes);
    return session->session->save([&](std::span<const std::byte> piece) -> Status {
      to = std::copy(piece.begin(), piece.end(), to);
      return {};
    });
  });
}

glimpse_status glimpse_session_save_file(const glimpse_session* session, const char* path) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(path, "path"));
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(AtomicFileWriter file, AtomicFileWriter::create(path, AtomicFileWriter::Existing::kReplace));
    GLIMPSE_TRY(session->session->save([&](std::span<const std::byte> piece) { return file.write(piece); }));
    return file.commit();
  });
}

glimpse_status glimpse_session_load(glimpse_session* session, const void* bytes, size_t n_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(bytes, "bytes"));
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    return session->session->load({static_cast<const std::byte*>(bytes), n_bytes});
  });
}

glimpse_status glimpse_session_load_file(glimpse_session* session, const char* path) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(path, "path"));
    SessionUse use;
    GLIMPSE_TRY(use.begin(session));
    GLIMPSE_ASSIGN(const std::vector<std::byte> bytes,
                   read_file(path, most_state_bytes(*session->session, *session->model)));
    Status loaded = session->session->load(bytes);
    if (loaded.ok()) return loaded;
    Error error = std::move(loaded).error();
    error.message = format("%s: %s", path, error.message);
    return error;
  });
}

}  // extern "C"
