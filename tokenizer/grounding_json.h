// Shapes in JSON that a model wrote: perhaps damaged, perhaps cut off, in the middle of other text. Private to
// tokenizer/grounding*.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/grounding.h"

namespace glimpse {

class JsonShapeReader {
 public:
  explicit JsonShapeReader(std::string_view text) : text_(text) {}

  /// Whether an object, or a list of objects, begins there.
  bool begins_at(size_t at) const;
  /// Reads it as far as it can be read; returns where, past `at`. Coordinates are as they stand, label and picture
  /// those of the same object. Precondition: begins_at(at).
  size_t read(size_t at, std::vector<Shape>& out);

  int64_t n_unreadable() const { return n_unreadable_; }
  /// The text ended inside of what was read.
  bool cut() const { return cut_; }

 private:
  enum class End { kWhole, kDamaged, kCut };
  struct Object;  // what is known of one that is being read
  struct Numbers;

  End object(int depth, std::vector<Shape>& out);
  End list(int depth, std::vector<Shape>& out);
  End member(int depth, Object& object, std::vector<Shape>& out);
  End value(int depth, std::vector<Shape>& out);
  End string(std::string* out);
  End numbers(int depth, Numbers& out);
  End word(std::string_view* out);
  End coordinates(ShapeKind kind, int depth, Object& object);
  bool add_shapes(ShapeKind kind, const Numbers& numbers, Object& object);
  void escape(std::string* out);

  char next();  // past white space; 0 at the end
  bool take(char c);

  const std::string_view text_;
  size_t at_ = 0;
  int64_t n_unreadable_ = 0;
  bool has_shapes_ = false;  // some object had coordinates: braces before are no matter of ours
  bool cut_ = false;
};

}  // namespace glimpse
