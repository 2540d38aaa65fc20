// Whether fresh memory should be of huge pages: they make reading weights a few per cent faster, and where a host gives
// memory to a virtual machine piece by piece, each costs twenty times its clearing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace glimpse {

inline constexpr uint64_t kHugePage = uint64_t{2} << 20;

/// Decides by trial: the first huge page of each piece of memory is touched and timed; while that is slow, most memory
/// goes without. Any number of threads; what they race for is a guess.
class HugePageTrials {
 public:
  /// Clearing a page takes 0.04 to 0.3 ms of processor time; one that the host has to find takes 2 to 4 ms
  /// (bench/README.md).
  static constexpr int64_t kSlowNs = 1'000'000;
  /// Bytes without huge pages after a slow one; twice as many after each further one in a row.
  static constexpr uint64_t kFirstPause = uint64_t{64} << 20, kLongestPause = uint64_t{1} << 30;

  /// True when the next n_bytes are to be tried; otherwise they count as passed by.
  bool due(uint64_t n_bytes) {
    const uint64_t left = pause_.load(std::memory_order_relaxed);
    if (left == 0) return true;
    pause_.store(left - std::min(left, n_bytes), std::memory_order_relaxed);
    return false;
  }
  /// How long the first page took. True when the rest of the piece is to be of huge pages, too.
  bool took(int64_t ns) {
    if (ns < kSlowNs) {
      next_pause_.store(kFirstPause, std::memory_order_relaxed);
      return true;
    }
    const uint64_t pause = next_pause_.load(std::memory_order_relaxed);
    pause_.store(pause, std::memory_order_relaxed);
    next_pause_.store(std::min(2 * pause, kLongestPause), std::memory_order_relaxed);
    return false;
  }

 private:
  std::atomic<uint64_t> pause_{0}, next_pause_{kFirstPause};
};

/// Asks for huge pages in [data, data + n_bytes), untouched memory that begins and ends at huge pages, as far as the
/// process's trials are in favour. The first page of a piece may be touched.
void prepare_pages(std::byte* data, uint64_t n_bytes);
/// Fresh pages are huge from now on; small ones that are there may be joined when the kernel has time (khugepaged).
void allow_huge_pages(std::byte* data, uint64_t n_bytes);

}  // namespace glimpse
