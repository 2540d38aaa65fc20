#include "engine/constrain/code_points.h"

#include <algorithm>
#include <string>

#include "tokenizer/utf8.h"

namespace glimpse::constrain {
namespace {

constexpr CodePointSet::Range kSurrogates = {0xD800, 0xDFFF};

// Splits where the length of the sequence changes, then where a following byte would not run through all its values.
void split(char32_t first, char32_t last, std::vector<ByteRanges>& to) {
  for (const char32_t border : {0x7F, 0x7FF, 0xFFFF}) {
    if (first <= border && border < last) {
      split(first, border, to);
      split(border + 1, last, to);
      return;
    }
  }
  for (int shift = 6; shift <= 18; shift += 6) {
    const char32_t low = (char32_t{1} << shift) - 1;
    if (first <= 0x7F || (first & ~low) == (last & ~low)) continue;
    if ((first & low) != 0) {
      split(first, first | low, to);
      split((first | low) + 1, last, to);
      return;
    }
    if ((last & low) != low) {
      split(first, (last & ~low) - 1, to);
      split(last & ~low, last, to);
      return;
    }
  }
  std::string a, b;
  append_utf8(first, a);
  append_utf8(last, b);
  ByteRanges sequence;
  for (size_t i = 0; i < a.size(); ++i) {
    sequence.bytes[sequence.n++] = {static_cast<uint8_t>(a[i]), static_cast<uint8_t>(b[i])};
  }
  to.push_back(sequence);
}

}  // namespace

CodePointSet CodePointSet::all() {
  return {{0, kLastCodePoint}};
}

void CodePointSet::add(char32_t first, char32_t last) {
  if (first <= kSurrogates.last && last >= kSurrogates.first) {
    if (first < kSurrogates.first) add(first, kSurrogates.first - 1);
    if (last > kSurrogates.last) add(kSurrogates.last + 1, last);
    return;
  }
  // Those that touch [first, last] become one with it.
  const auto begin =
      std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.last + 1 < first; });
  if (begin != ranges_.end() && begin->first <= first && last <= begin->last) return;
  auto end = begin;
  for (; end != ranges_.end() && end->first <= last + 1; ++end) {
    first = std::min(first, end->first);
    last = std::max(last, end->last);
  }
  ranges_.insert(ranges_.erase(begin, end), {first, last});
}

void CodePointSet::add(const CodePointSet& other) {
  for (const Range& range : other.ranges_) add(range.first, range.last);
}

CodePointSet CodePointSet::complement() const {
  CodePointSet result;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) result.add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) result.add(next, kLastCodePoint);
  return result;
}

CodePointSet CodePointSet::without(const CodePointSet& other) const {
  CodePointSet outside = complement();
  outside.add(other);
  return outside.complement();
}

bool CodePointSet::contains(char32_t c) const {
  const auto at = std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.last < c; });
  return at != ranges_.end() && at->first <= c;
}

std::vector<ByteRanges> utf8_ranges(CodePointSet::Range range) {
  std::vector<ByteRanges> sequences;
  split(range.first, range.last, sequences);
  return sequences;
}

}  // namespace glimpse::constrain
