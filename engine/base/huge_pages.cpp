#include "engine/base/huge_pages.h"

#include <sys/mman.h>
#include <time.h>

namespace glimpse {
namespace {

// Of memory: between two trials that are in favour.
constexpr uint64_t kPiece = 8 * kHugePage;

// This thread's processor time, so that a neighbour's turn is not taken for a slow page; what a host does to give a
// page counts as this thread's.
int64_t thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

bool first_page_is_fast(std::byte* data, HugePageTrials& trials) {
  const int64_t start = thread_ns();
  *const_cast<volatile std::byte*>(data) = std::byte{0};
  return trials.took(thread_ns() - start);
}

}  // namespace

void allow_huge_pages(std::byte* data, uint64_t n_bytes) {
  madvise(data, n_bytes, MADV_HUGEPAGE);
}

void prepare_pages(std::byte* data, uint64_t n_bytes) {
  static HugePageTrials trials;
  for (uint64_t at = 0; at < n_bytes; at += kPiece) {
    const uint64_t piece = std::min(kPiece, n_bytes - at);
    if (trials.due(piece)) {
      allow_huge_pages(data + at, piece);
      if (piece == kHugePage || first_page_is_fast(data + at, trials)) continue;
      madvise(data + at + kHugePage, piece - kHugePage, MADV_NOHUGEPAGE);
    } else {
      madvise(data + at, piece, MADV_NOHUGEPAGE);
    }
  }
}

}  // namespace glimpse
