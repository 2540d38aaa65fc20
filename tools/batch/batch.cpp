#include "tools/batch/batch.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>

#include "tools/batch/reader.h"

namespace glimpse::batch {
namespace {

using Clock = std::chrono::steady_clock;

class Runner {
 public:
  Runner(Engine& engine, RowSource& rows, StopSignal& stop, RowOutput& output,
         const std::vector<OutputFile::Finished>& finished, const Settings& settings)
      : engine_(engine), output_(output), settings_(settings), reader_(rows, stop, finished, settings) {
    Progress& p = report_.progress;
    p.n_done = p.n_resumed = finished.size();
    p.n_failed = static_cast<uint64_t>(
        std::count_if(finished.begin(), finished.end(), [](const auto& row) { return row.failed; }));
  }

  Result<Report> run() {
    const Clock::time_point start = Clock::now();
    while (status_.ok()) {
      if (settings_.interrupted && settings_.interrupted()) report_.interrupted = true;
      if (!report_.interrupted) admit();
      if (n_running_ > 0) {
        engine_.step();
      } else if (report_.interrupted || reader_.ended()) {
        break;
      } else {
        reader_.wait();
      }
      report_.progress.seconds = std::chrono::duration<double>(Clock::now() - start).count();
      tell();
    }
    if (n_running_ > 0) end_requests();
    report_.interrupted = report_.interrupted && !reader_.ended();
    const Status flushed = output_.finish();
    GLIMPSE_TRY(status_);
    GLIMPSE_TRY(reader_.status());
    GLIMPSE_TRY(flushed);
    return report_;
  }

 private:
  // A row under way or waiting for those before it.
  struct Waiting {
    PreparedRow row;
    RequestId request = 0;
    bool done = false;
  };

  // Enough rows for the engine to choose from; and no more answers are kept for a slow one before them than that.
  void admit() {
    const auto most = static_cast<size_t>(most_running(settings_.n_parallel)), most_waiting = 64 * most;
    while (status_.ok() && n_running_ < most && waiting_.size() < most_waiting) {
      std::optional<PreparedRow> row = reader_.take();
      if (!row) return;
      const uint64_t number = next_number_++;
      Waiting& waiting = waiting_[number];
      waiting.row = std::move(*row);
      if (!waiting.row.outcome.error.empty()) {
        finish(number);
      } else {
        submit(number, waiting);
      }
    }
  }

  void submit(uint64_t number, Waiting& waiting) {
    Request request;
    if (!waiting.row.unused.empty()) {
      ++report_.n_unseeing;
      if (report_.unused.empty()) report_.unused = waiting.row.unused;
    }
    request.messages = std::move(waiting.row.messages);
    request.generate = settings_.generate;
    request.on_done = [this, number](RequestResult result) {
      --n_running_;
      try {
        take_result(number, std::move(result));
      } catch (const std::exception& error) {  // the engine would drop it, and the row with it
        if (status_.ok()) status_ = make_error(ErrorCode::kOutOfMemory, "writing a row: %s", error.what());
      }
    };
    ++n_running_;
    Result<RequestId> id = engine_.submit(std::move(request));
    if (id.ok()) {
      waiting.request = id.value();
      return;
    }
    --n_running_;
    waiting.row.outcome.error = id.error().message;
    finish(number);
  }

  void take_result(uint64_t number, RequestResult result) {
    Outcome& outcome = waiting_[number].row.outcome;
    const Timings& t = result.answer.timings;
    outcome.n_prompt_tokens = t.n_prompt_tokens + t.n_cached_tokens;  // which of the two depends on company
    outcome.n_generated_tokens = static_cast<int64_t>(result.answer.tokens.size());
    outcome.text = std::move(result.answer.text);
    if (result.status.ok()) {
      outcome.finish_reason = finish_reason_name(result.answer.reason);
    } else {
      outcome.error = result.status.error().message;
    }
    finish(number);
  }

  void finish(uint64_t number) {
    waiting_[number].done = true;
    if (!settings_.ordered) {
      write(number);
      return;
    }
    while (!waiting_.empty() && waiting_.begin()->second.done) write(waiting_.begin()->first);
  }

  void write(uint64_t number) {
    const Waiting& waiting = waiting_[number];
    const Outcome& outcome = waiting.row.outcome;
    const bool failed = !outcome.error.empty();
    const Status written = status_.ok() ? output_.append(outcome.index, waiting.row.key, failed,
                                                         output_line(outcome, settings_.format, !settings_.ordered))
                                        : status_;
    if (written.ok()) {
      ++report_.progress.n_done;
      report_.progress.n_failed += failed ? 1 : 0;
    } else {
      status_ = written;
    }
    waiting_.erase(number);
  }

  // Nothing can be written any more.
  void end_requests() {
    for (const auto& [number, waiting] : waiting_) {
      if (!waiting.done) engine_.cancel(waiting.request);
    }
    while (n_running_ > 0 && engine_.step()) {
    }
  }

  void tell() {
    if (!settings_.progress) return;
    const double fraction = reader_.fraction();
    Progress& p = report_.progress;
    p.n_total = reader_.ended() ? static_cast<double>(reader_.n_read())
                : fraction > 0  ? static_cast<double>(reader_.n_read()) / fraction
                                : -1;
    settings_.progress(p);
  }

  Engine& engine_;
  RowOutput& output_;
  const Settings& settings_;
  Report report_;
  Status status_;
  std::map<uint64_t, Waiting> waiting_;  // by the order in which they were taken
  uint64_t next_number_ = 0;
  size_t n_running_ = 0;
  RowReader reader_;
};

}  // namespace

Result<Report> run_batch(Engine& engine, RowSource& rows, StopSignal& stop, RowOutput& output,
                         const std::vector<OutputFile::Finished>& finished, const Settings& settings) {
  return Runner(engine, rows, stop, output, finished, settings).run();
}

}  // namespace glimpse::batch
