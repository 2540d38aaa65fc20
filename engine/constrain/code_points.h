// Sets of Unicode code points, as character classes of regular expressions and grammars have them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace glimpse::constrain {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

/// Ranges in rising order that do not touch. Surrogates, which UTF-8 cannot say, are never in it.
class CodePointSet {
 public:
  struct Range {
    char32_t first = 0, last = 0;
    bool operator==(const Range&) const = default;
  };

  CodePointSet() = default;
  CodePointSet(std::initializer_list<Range> ranges) {
    for (const Range& range : ranges) add(range.first, range.last);
  }
  static CodePointSet all();

  /// Precondition: first <= last <= kLastCodePoint.
  void add(char32_t first, char32_t last);
  void add(const CodePointSet& other);
  CodePointSet complement() const;
  CodePointSet without(const CodePointSet& other) const;
  bool contains(char32_t c) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }
  bool operator==(const CodePointSet&) const = default;

 private:
  std::vector<Range> ranges_;
};

/// The UTF-8 of a range of code points as sequences of byte ranges: every choice of bytes from a sequence is a code
/// point of the range. Source: the splitting of Russ Cox's "Regular Expression Matching in the Wild" (2010).
struct ByteRanges {
  struct Byte {
    uint8_t first, last;
  };
  Byte bytes[4];
  int n = 0;
};
std::vector<ByteRanges> utf8_ranges(CodePointSet::Range range);

}  // namespace glimpse::constrain
