// What goes wrong while threads work on the pieces of one job.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <new>
#include <utility>

#include "engine/base/result.h"

namespace glimpse {

/// Of several failures the one of the lowest piece is kept: which one a caller is told does not depend on which thread
/// was faster. Allocates nothing itself, so that it works when memory has run out.
class FirstFailure {
 public:
  /// Runs body(), which returns a Status, for the piece that begins at `begin`. An exception is a failure, too. Pieces
  /// behind a failure are left out.
  template <typename Body>
  void run(int64_t begin, Body&& body) noexcept {
    if (begin > begin_.load(std::memory_order_relaxed)) return;
    try {
      Status status = body();
      if (!status.ok()) keep(begin, std::move(status).error());
    } catch (const std::bad_alloc&) {
      keep(begin, Error{ErrorCode::kOutOfMemory, {}});
    } catch (...) {
      keep(begin, Error{ErrorCode::kInternal, {}});
    }
  }

  /// The failure, if there was one; when all threads are done. what: names the job where the failure has no words.
  Status status(const std::string& what) {
    if (begin_.load(std::memory_order_relaxed) == kNone) return {};
    if (error_.message.empty()) return make_error(error_.code, "%s: %s", what, error_code_name(error_.code));
    return std::move(error_);
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  void keep(int64_t begin, Error&& error) {
    const std::lock_guard lock(mutex_);
    if (begin >= begin_.load(std::memory_order_relaxed)) return;
    begin_.store(begin, std::memory_order_relaxed);
    error_ = std::move(error);
  }

  std::mutex mutex_;
  std::atomic<int64_t> begin_{kNone};
  Error error_;
};

}  // namespace glimpse
