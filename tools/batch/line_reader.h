// Bytes of a file or a pipe, line by line, for a thread that another one can call away from a pipe that says nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/base/result.h"

namespace glimpse::batch {

/// Longest line, and longest CSV record: a picture of 40 megabytes as text.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

/// Wakes readers that wait for bytes: from then on they say that their input has ended.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  void raise();
  bool raised() const { return raised_.load(std::memory_order_relaxed); }
  /// Waits until `descriptor` has bytes or an end, or the signal is raised; false for the latter.
  bool wait_for(int descriptor) const;

 private:
  std::atomic<bool> raised_{false};
  int ends_[2] = {-1, -1};
};

/// Where a line ends is left to the caller: CSV has lines inside of its fields.
class LineReader {
 public:
  /// "-" is standard input. stop: may be nullptr; outlives the reader. Errors: kNotFound, kIo.
  static Result<std::unique_ptr<LineReader>> open(const std::string& path, const StopSignal* stop);
  /// Lines of a text in memory.
  static std::unique_ptr<LineReader> of_text(std::string text);
  ~LineReader();

  /// The next line with its line end ("\n" or none at the end of the input); the byte order mark before the first is
  /// left out. A line of more than kMaxLineBytes comes without what is beyond, and `cut` is set. false: the end.
  /// Errors: kIo.
  Result<bool> next(std::string& line, bool& cut);

  /// The line that came last comes again.
  void put_back(const std::string& line);

  const std::string& name() const { return name_; }
  int64_t n_lines() const { return n_lines_; }
  /// Of the input, bytes that were read; its size, or 0 where it has none (a pipe).
  uint64_t n_read() const { return n_read_.load(std::memory_order_relaxed); }
  uint64_t size() const { return size_; }

 private:
  LineReader() = default;
  Result<bool> fill();

  std::string name_;
  int descriptor_ = -1;
  bool owned_ = false, ended_ = false, stopped_ = false;
  const StopSignal* stop_ = nullptr;
  std::string buffer_;
  size_t at_ = 0;
  int64_t n_lines_ = 0;
  std::atomic<uint64_t> n_read_{0};
  uint64_t size_ = 0;
};

/// Without "\n" or "\r\n" at its end.
std::string_view without_line_end(std::string_view line);

}  // namespace glimpse::batch
