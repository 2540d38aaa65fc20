// The thread of a batch that reads rows and their files, a few ahead of the engine.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tools/batch/batch.h"

namespace glimpse::batch {

/// A row with everything that its request takes.
struct PreparedRow {
  Outcome outcome;  // who it is; with an error when it cannot be asked
  uint64_t key = 0;
  std::vector<RequestMessage> messages;
  std::string unused = {};  // Row::unused
};

/// Finished rows are left out; they must be the rows that they were.
class RowReader {
 public:
  RowReader(RowSource& rows, StopSignal& stop, const std::vector<OutputFile::Finished>& finished,
            const Settings& settings);
  /// Raises the stop signal and waits for the thread.
  ~RowReader();

  /// The next row, if there is one.
  std::optional<PreparedRow> take();
  /// Waits until there is a row, or the end, or a moment has passed.
  void wait();
  /// Nothing comes any more.
  bool ended() const;
  /// Why it ended.
  Status status() const;
  /// Rows that have been read, finished ones included, and the fraction of all that they are (negative: unknown).
  uint64_t n_read() const { return n_read_.load(std::memory_order_relaxed); }
  double fraction() const { return fraction_.load(std::memory_order_relaxed); }

 private:
  void read();
  Result<bool> read_row(std::optional<PreparedRow>& prepared);
  PreparedRow prepare(Row row) const;
  Status load(const Row& row, std::vector<RequestMessage>& messages) const;
  Status load_picture(const Picture& picture, std::vector<RequestPart>& parts) const;
  Status load_video(const Picture& picture, std::vector<RequestPart>& parts) const;
  Result<std::string> bytes_of(const Picture& picture) const;

  RowSource& rows_;
  StopSignal& stop_;
  const std::vector<OutputFile::Finished>& finished_;
  const Settings& settings_;
  size_t next_finished_ = 0;
  std::atomic<uint64_t> n_read_{0};
  std::atomic<double> fraction_{-1};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PreparedRow> ready_;
  bool ended_ = false;
  Status status_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace glimpse::batch
